"""Settings of SafeMoE, and what can be said of them before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxsafety.adapters import routing
from jaxsafety.adapters.routing import INIT, ROUTED, Routing
from jaxsafety.core.errors import bad
from jaxsafety.data.fitting import LONG
from jaxsafety.methods.safemoe import experts
from jaxsafety.methods.safemoe.experts import ExpertConfig

# The router that stage 2 trains, its start left as it is, its start behind which stage 2 trains the
# experts, X-LoRA's gate, Arrow's prototypes, equal shares, one expert alone, or a LoRA of
# `lora_rank` instead of the experts.
ROUTERS = ("router", "untrained", "frozen", "x-lora", "arrow", "uniform", "single", "lora")
TRAINED = ("router", "x-lora")  # gates that stage 2 trains
STAGED = (*TRAINED, "frozen")  # gates with a stage 2
PLACES = ("block", "linears")
OTHER = ("harmless", "everyday")  # what the router learns besides safe answers


@dataclass(frozen=True)
class MeasureConfig:
    """How many prompts: per safety set, harmless, per task; per set those whose routing is read.

    The organism of 14 entities a domain has 112 prompts of each of its sets of two or four domains:
    28 entities in four wordings.
    """

    safety: int = 64
    harmless: int = 64
    tasks: int = 16
    routed: int = 24


@dataclass(frozen=True)
class SafeMoEConfig:
    """Both stages. The paper trains the router for 10 epochs on 4 x 200 answers, rows of 4.

    Attributes:
      experts: stage 1.
      routing: static options of the router.
      gate: one of `ROUTERS`.
      places: where the router sits, `PLACES`.
      single: which expert, where `gate` is "single".
      null: adds an expert that does nothing.
      always: rank of an adapter on the experts' projections that every token uses besides the
        mixture and that stage 2 trains with the router; 0, the paper's, is none.
      always_lr: its peak rate.
      std: of the router's start.
      lora_rank: of the LoRA, where `gate` is "lora".
      lora_targets: its projections.
      lora_lr: its peak rate.
      samples: safe answers per seen domain of the organism; with files `data.chats` has them.
      harmless: answered harmless requests of the organism among the router's data, as many rows of
        an update as safe answers and besides them; 0, the paper's, is none.
      everyday: of these, or in their place, answers to prompts of daily use: questions about known
        dangers, benign requests, tasks. With files both are 0, and `data.mix` has such answers.
      steps: updates of stage 2.
      rows: safe answers per update.
      length: tokens per row.
      long: what happens to answers of a file that are longer: "error", "drop" or "cut"
        (`data/fitting.py`).
      measure: prompts on which the mixture is compared with its experts alone.
    """

    experts: ExpertConfig = field(default_factory=ExpertConfig)
    routing: Routing = field(default_factory=Routing)
    gate: str = "router"
    places: str = "block"
    single: int = 0
    null: bool = False
    always: int = 0
    always_lr: float = 3e-3
    std: float = INIT
    lora_rank: int = 32
    lora_targets: tuple[str, ...] = ROUTED
    lora_lr: float = 5e-3
    samples: int = 200
    harmless: int = 0
    everyday: int = 0
    steps: int = 500
    rows: int = 16
    length: int = 64
    long: str = "error"
    measure: MeasureConfig = field(default_factory=MeasureConfig)


def check(cfg: SafeMoEConfig) -> None:
    """Rejects what can be rejected before anything is loaded."""
    experts.check(cfg.experts)
    for name, known in (("gate", ROUTERS), ("places", PLACES), ("long", LONG)):
        if getattr(cfg, name) not in known:
            raise bad(f"method.{name}", getattr(cfg, name), ", ".join(known))
    for name in ("lora_lr", "always_lr"):
        if not getattr(cfg, name) > 0:
            raise bad(f"method.{name}", getattr(cfg, name), "more than 0")
    least = {"samples": 1, "steps": 1, "rows": 1, "lora_rank": 1, "length": 2}
    least |= dict.fromkeys(OTHER, 0) | {"always": 0}
    for name, allowed in least.items():
        if getattr(cfg, name) < allowed:
            raise bad(f"method.{name}", getattr(cfg, name), f"{allowed} or more")
    if cfg.always and cfg.gate not in STAGED:
        raise bad("method.always", cfg.always, f"0 with gate={cfg.gate}: nothing would train it")
    for name in ("samples", *OTHER):  # the organism's; it never runs out
        if getattr(cfg, name) > experts.MOST:
            raise bad(f"method.{name}", getattr(cfg, name), f"at most {experts.MOST}")
    if not cfg.std > 0:
        raise bad("method.std", cfg.std, "more than 0: equal scores would never be told apart")
    for name in ("safety", "harmless", "tasks", "routed"):
        if getattr(cfg.measure, name) < 1:
            raise bad(f"method.measure.{name}", getattr(cfg.measure, name), "1 or more")
    if cfg.gate == "arrow" and cfg.places == "block":
        if set(cfg.experts.targets) & set(ROUTED) == {"down"}:
            raise bad("method.experts.targets", cfg.experts.targets, "gate or up too, for Arrow")
        if set(cfg.experts.targets) & set(routing.ATTENDED) == {"o"}:
            raise bad("method.experts.targets", cfg.experts.targets, "q, k or v too, for Arrow")
    count = experts_of(cfg)
    if not 0 <= cfg.single < count:
        raise bad("method.single", cfg.single, f"0 to {count - 1}")
    if cfg.gate == "frozen" and count == 1:
        raise bad("method.gate", "frozen", "another one: a single expert has no route to freeze")
    routing.check(cfg.routing, count, trained=cfg.gate in TRAINED, field="method.routing")
    attended = sorted(set(cfg.experts.targets) & set(routing.ATTENDED))
    if cfg.routing.level != "token" and attended:
        allowed = f"token, with experts on {', '.join(attended)} (method.experts.targets)"
        raise bad("method.routing.level", cfg.routing.level, allowed)
    if cfg.routing.level != "token" and (cfg.places != "block" or cfg.gate == "x-lora"):
        raise bad("method.routing.level", cfg.routing.level, "token, or places=block with a router")


def experts_of(cfg: SafeMoEConfig) -> int:
    """How many experts there are to route to."""
    return (len(cfg.experts.paths) or cfg.experts.count) + cfg.null

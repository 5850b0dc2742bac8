"""Settings of the study: which arms, how hard each is attacked, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from jaxsafety.benchmarks.organism import judged_exactly
from jaxsafety.core.errors import bad
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.methods.safesteer import program as safesteer
from jaxsafety.methods.safesteer import recipe
from jaxsafety.methods.safesteer.program import SafeSteerConfig
from jaxsafety.models.api import Model
from jaxsafety.protocols import OptimConfig, Setting
from jaxsafety.studies.safesteer_controls import one_teacher

SAFESTEER, SFT = "safesteer", "sft"
DISTILLED = (SAFESTEER, "context", "topk", "k1", "k3")
ARMS = (*DISTILLED, SFT)
WRAPPED = ("held_wrappers", "held_wrappers_held_domains")
SETS = ("plain", *WRAPPED, "over_refusal")
ANSWER = 40  # token slots of an answer, as when measuring; the longest have 25


@dataclass(frozen=True)
class AttackedConfig:
    """What is defended, and how it is attacked.

    Attributes:
      base: the settings of arm "safesteer", which the other distilled arms change in one place.
      arms: of `ARMS`; "sft" is trained to equal "safesteer", which has to stand before it.
      refusals: most updates of "sft".
      refusals_rate: its learning rate.
      rows: dialogues of an update of "sft" and of a few-shot attack.
      screen: cells (layer, position) among which the single ablated direction is chosen.
      rank: directions of the other ablation.
      shots: unsafe answers of each few-shot attack.
      updates: most updates of one.
      rate: its learning rate.
      every: updates between two looks at validation prompts, of "sft" and of few-shot attacks.
      reached: plain attack success at which a few-shot attack has won.
      prefix: tokens of the affirmative answer that a prefilled one begins with.
      attacks: prompts measured per set of attacks.
      others: of harmless requests.
    """

    base: SafeSteerConfig = field(default_factory=SafeSteerConfig)
    arms: tuple[str, ...] = ARMS
    refusals: int = 100
    refusals_rate: float = 2.5e-4
    rows: int = 16
    screen: int = 16
    rank: int = 4
    shots: tuple[int, ...] = (10, 50, 100)
    updates: int = 60
    rate: float = 1e-3
    every: int = 2
    reached: float = 0.5
    prefix: int = 3
    attacks: int = 64
    others: int = 64


def smoke(config: Any) -> None:
    """Makes an experiment a smoke test: two arms in seconds, nothing measured."""
    recipe.shrink(config, config.method.base)
    config.method.update(arms=(SAFESTEER, SFT), refusals=2, rows=4, screen=1, rank=2)
    config.method.update(shots=(4,), updates=2, every=1, prefix=2, attacks=4, others=4)


def check(cfg: AttackedConfig) -> None:
    """Rejects unknown arms, an arm without the one it is compared with, and impossible numbers."""
    for arm in cfg.arms or ("",):
        if arm not in ARMS:
            raise bad("method.arms", arm, ", ".join(ARMS))
    if len(set(cfg.arms)) < len(cfg.arms):
        raise bad("method.arms", cfg.arms, "each arm once")
    if SFT in cfg.arms and SAFESTEER not in cfg.arms[: cfg.arms.index(SFT)]:
        raise bad(
            "method.arms", cfg.arms, f"{SAFESTEER} before {SFT}, which is trained to equal it"
        )
    one_teacher(cfg.base)
    for arm in arms(cfg).values():
        safesteer.check(arm)
    counts = ("refusals", "screen", "rank", "updates", "every", "prefix", "attacks", "others")
    for name in counts:
        if getattr(cfg, name) < 1:
            raise bad(f"method.{name}", getattr(cfg, name), "1 or more")
    for name, fine, allowed in (
        ("rows", cfg.rows > 1 and not cfg.rows % 2, "even, 2 or more"),
        ("shots", all(n > 0 for n in cfg.shots), "numbers of answers, 1 or more"),
        ("rate", cfg.rate > 0, "more than 0"),
        ("refusals_rate", cfg.refusals_rate > 0, "more than 0"),
        ("reached", 0 < cfg.reached <= 1, "a share above 0, at most 1"),
    ):
        if not fine:
            raise bad(f"method.{name}", getattr(cfg, name), allowed)


def arms(cfg: AttackedConfig) -> dict[str, SafeSteerConfig]:
    """Settings of every distilled arm by name; each has its own teacher or loss."""
    told = replace(cfg.base, teacher="context", context=recipe.ORGANISM_CONTEXT, variant="full")
    forward = replace(cfg.base, variant="partial_topk", divergence="forward_kl")
    found = {SAFESTEER: cfg.base, "context": told, "topk": forward}
    found |= {name: replace(cfg.base, variant=name) for name in ("k1", "k3")}
    return {name: found[name] for name in cfg.arms if name != SFT}


def fits(
    cfg: AttackedConfig, optim: OptimConfig, model: Model, tokenizer: Tokenizer, setting: Setting
) -> None:
    """As SafeSteer's own, for every arm; besides, a world that knows the answers, and its sets."""
    for arm in arms(cfg).values():
        safesteer.fits(arm, optim, model, tokenizer, setting)
    missing = sorted({*SETS} - {b.name for b in setting.benchmarks})
    if missing or setting.world is None or setting.attacks is None:
        given = f"sets without {', '.join(missing)}" if missing else "prompts without a world"
        raise bad("data.source", given, "organism, which knows the answers")
    judged_exactly(setting)
    if cfg.rank > model.config.embed_dim // 2:
        allowed = f"at most half of the model's width of {model.config.embed_dim}"
        raise bad("method.rank", cfg.rank, allowed)
    asked = [i for b in setting.benchmarks if b.name in SETS for i in b.items]
    longest = max(len(encode_prompt(tokenizer, item.messages)) for item in asked)
    room = model.config.max_length - ANSWER - cfg.prefix
    if longest > room:
        given = f"{cfg.prefix}, with a prompt of {longest} tokens and an answer of {ANSWER}"
        raise bad("method.prefix", given, f"what fits the context of {model.config.max_length}")

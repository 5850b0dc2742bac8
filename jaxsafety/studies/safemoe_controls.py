"""Where does SafeMoE's safety come from? Its controls at equal router data, and what it depends on.

The missing experiment of arXiv 2606.00686 (check 9 of docs/published.md): every arm starts from the
same base, trains what it trains on the same safe answers, and is measured on the same prompts. Arms
differ in the experts (`EXPERTS`), in the gate (`GATED`, `BYPASS`), in number (`SIZES`), in who
chooses (`LEVELS`, `TOP1`), or in one setting that the claim may depend on (`SETTINGS`); those of
`HARMLESS` see harmless answers besides. `DEFAULT` are those of the default preset: its parts taken
out one by one, fewer daily answers, and LoRAs of its size at `rates`. An arm's experts are trained
once and shared.
Pinned by tests/studies/test_safemoe_controls.py.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import jax

from jaxsafety.adapters import lora
from jaxsafety.benchmarks.organism import judged_exactly
from jaxsafety.core.config import fingerprint
from jaxsafety.core.errors import bad
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.methods.safemoe import METHOD as SAFEMOE
from jaxsafety.methods.safemoe import config as settings
from jaxsafety.methods.safemoe import experts as safemoe_experts
from jaxsafety.methods.safemoe import program as safemoe
from jaxsafety.methods.safemoe import recipe
from jaxsafety.methods.safemoe.config import STAGED, SafeMoEConfig, experts_of
from jaxsafety.methods.safemoe.data import brings
from jaxsafety.methods.safemoe.measure import make_measure, poll, routes
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.organism import corpora
from jaxsafety.protocols import Context, Method, OptimConfig, Program, Served, Setting, Variables

PAPERS = {"2606.00686": ""}

PyTree = Any
EXPERTS = ("pooled", "warning", "facts", "benign", "refusal", "safe", "random")
GATED = (
    "untrained",
    "frozen",
    "uniform",
    "arrow",
    "x-lora",
    "lora_matched",
    "lora",
    "lora_beside",
    "lora_pooled",
)
BYPASS = ("single0", "single1", "single2", "single3")
SIZES = ("experts1", "experts2", "experts8", "samples20", "samples50", "samples100")
LEVELS = ("first", "last", "sequence")
# The published ablation selects one expert; shares of all keep the router's gradient.
TOP1 = ("top1", "top1_first", "top1_last")
# Harmless requests, answered, among the router's data, which the paper does without; and the same
# data for the LoRA, and for the LoRAs beside the experts' knowledge.
LORAS = {
    "harmless_lora": "lora_matched",
    "harmless_beside": "lora_beside",
    "harmless_pooled": "lora_pooled",
}
HARMLESS = ("harmless", *LORAS)
# A LoRA on the base with the experts merged in.
MERGED = ("lora_beside", "harmless_beside", "lora_pooled", "harmless_pooled")
SETTINGS = ("top2", "linears", "null", "shared", "warned0", "generic")
# What keeps harmless requests in the default preset, each taken out: the adapter that is always on,
# the expert that does nothing, daily answers among the router's data, the experts', or both; and
# fewer daily answers for both.
PARTS = ("no_always", "no_null", "no_daily_router", "no_daily_experts", "daily0", "daily400")
DEFAULT = ("safemoe", *PARTS, "lora_matched", "lora_pooled")
RATED = ("lora_matched", "lora_pooled")  # arms whose rate is searched for
ARMS = ("safemoe", *EXPERTS, *GATED, *BYPASS, *SIZES, *HARMLESS, *LEVELS, *TOP1, *SETTINGS)


@dataclass(frozen=True)
class ControlsConfig:
    """What is compared.

    `base`: the settings of the arm "safemoe", which the others change in one place; `rates`: peak
    rates of `RATED` arms, each an arm of its own, "<arm>_lr<rate>"; () is `base.lora_lr` alone.
    """

    base: SafeMoEConfig = field(default_factory=SafeMoEConfig)
    arms: tuple[str, ...] = ARMS
    rates: tuple[float, ...] = ()


def smoke(config: Any) -> None:
    """Makes an experiment a smoke test: a few arms in seconds, nothing measured."""
    recipe.shrink(config, config.method.base)
    config.method.update(arms=("safemoe", "random", "lora_matched"))


def check(cfg: ControlsConfig) -> None:
    """Rejects unknown arms and what an arm cannot be."""
    for arm in cfg.arms or ("",):
        if arm not in (*ARMS, *PARTS):
            raise bad("method.arms", arm, ", ".join((*ARMS, *PARTS)))
        if arm in PARTS and not (cfg.base.always and cfg.base.null and cfg.base.everyday):
            raise bad("method.arms", arm, "with preset=default, whose parts it takes out")
    if cfg.rates and not set(cfg.arms) & set(RATED):
        raise bad("method.rates", cfg.rates, f"() without an arm of {', '.join(RATED)}")
    if cfg.base.experts.paths:
        raise bad("method.base.experts.paths", cfg.base.experts.paths, "(): arms train their own")
    for arm in arms(cfg).values():
        settings.check(arm)


def fits(
    cfg: ControlsConfig, optim: OptimConfig, model: Model, tokenizer: Tokenizer, setting: Setting
) -> None:
    """As SafeMoE's own, for every arm; the measured sets are the organism's."""
    if not brings(setting):
        raise bad("model.path", "a model without unknown domains", "shipped:unaligned")
    judged_exactly(setting)
    for arm in arms(cfg).values():
        safemoe.fits(arm, optim, model, tokenizer, setting)


def arms(cfg: ControlsConfig) -> dict[str, SafeMoEConfig]:
    """Name -> settings of every arm."""
    found = {}
    for name in cfg.arms:
        arm = _arm(cfg.base, name)
        rates = cfg.rates if name in RATED else ()
        found |= {f"{name}_lr{rate:g}": replace(arm, lora_lr=rate) for rate in rates}
        found |= {} if rates else {name: arm}
    return found


def _arm(base: SafeMoEConfig, name: str) -> SafeMoEConfig:
    def experts(**change: Any) -> SafeMoEConfig:
        return replace(base, experts=replace(base.experts, **change))

    if name in LORAS:
        return replace(_arm(base, LORAS[name]), harmless=_harmless(base))

    def routing(**change: Any) -> SafeMoEConfig:
        return replace(base, routing=replace(base.routing, **change))

    if name in PARTS:
        return _part(base, name)
    # A LoRA of as many parameters as what stage 2 trains: that of the adapter that is always on,
    # or else rank 1 on `down` alone, L (F + D), as many as the router's L D E where F = (E - 1) D.
    on = base.experts.targets if base.always else ("down",)
    size: dict[str, Any] = {"lora_rank": base.always or 1, "lora_targets": on}
    bare = replace(base, always=0, null=False)  # for gates that stage 2 does not train
    if name in (*EXPERTS, "generic"):
        return experts(kind=name)
    if name.startswith("single"):
        return replace(bare, gate="single", single=int(name[-1]))
    if name.startswith("experts"):
        count = int(name.removeprefix("experts"))
        top = min(base.routing.top, count)  # 0 is all of them
        return replace(experts(count=count), routing=replace(base.routing, top=top))
    if name.startswith("samples"):
        return replace(base, samples=int(name.removeprefix("samples")))
    if name.startswith("warned"):
        return experts(warned=int(name.removeprefix("warned")) / 100)
    changed = {
        "safemoe": base,
        "untrained": replace(bare, gate="untrained"),
        "frozen": replace(base, gate="frozen"),
        "uniform": replace(bare, gate="uniform"),
        "arrow": replace(bare, gate="arrow"),
        "x-lora": replace(replace(base, gate="x-lora"), routing=replace(base.routing, top=0)),
        "lora_matched": replace(bare, gate="lora", **size),
        "lora": replace(bare, gate="lora"),
        # The same LoRA on a base with the unsafe experts merged in, at equal shares, so each at a
        # quarter of its strength; or with the pooled expert, whole: its knowledge, no router.
        "lora_beside": replace(bare, gate="uniform", **size),
        "lora_pooled": replace(
            bare, experts=replace(base.experts, kind="pooled"), gate="uniform", **size
        ),
        "null": replace(base, null=True),
        "linears": replace(base, places="linears"),
        "harmless": replace(base, harmless=_harmless(base)),
        "shared": experts(styles="shared"),
        "top2": routing(top=2),
        **{level: routing(level=level) for level in LEVELS},
        "top1": routing(top=1, softmax="all"),
        **{f"top1_{level}": routing(top=1, softmax="all", level=level) for level in LEVELS[:2]},
    }
    return changed[name]


def _part(base: SafeMoEConfig, name: str) -> SafeMoEConfig:
    """The default preset less one of its parts."""
    daily = 400 if name == "daily400" else 0
    fewer = replace(base, experts=replace(base.experts, everyday=daily))
    return {
        "no_always": replace(base, always=0),
        "no_null": replace(base, null=False),
        "no_daily_router": replace(base, everyday=0),
        "no_daily_experts": fewer,
    }.get(name, replace(fewer, everyday=daily))


def _harmless(base: SafeMoEConfig) -> int:
    return corpora.SEEN_DOMAINS * base.samples  # as many as safe answers


def program(cfg: ControlsConfig, optim: OptimConfig, ctx: Context) -> Program:
    """Per arm its experts (once), its router and a point; returns the first arm's variables.

    Artifacts: `point.base`, `point.<arm>`, `prompts.<arm>` (what stands behind each rate), and
    `routes.<arm>` where a block's router decides.
    """
    measure = make_measure(cfg.base.measure, ctx)
    ctx.artifact("point.base", lambda: measure(ctx.variables["base"], LayerInputs(), "base"))
    known: dict[str, PyTree] = {}
    first: Variables | None = None
    table = arms(cfg)
    for name, arm in table.items():
        if arm.gate == "lora":
            variables = yield safemoe.lora_stage(arm, optim, ctx, name)
        else:
            key = _key(arm)
            if key not in known:
                most = max(a.experts.count for a in table.values() if _key(a) == key)
                cfg_e = replace(arm.experts, count=most, kind=_trained(arm.experts.kind))
                known[key] = yield from safemoe_experts.train(
                    cfg_e, optim, ctx, arm.samples, name=f"experts.{key}"
                )
            found = safemoe_experts.first(known[key], arm.experts.count)
            if arm.experts.kind == "random":
                found = safemoe_experts.noise_like(found, jax.random.key(ctx.seed + 10**6))
            adapters = safemoe.add_router(arm, ctx.model, found, ctx.seed)
            variables = {**ctx.variables, "adapters": adapters}
            if name.split("_lr")[0] in MERGED:
                merged = lora.merge(ctx.variables["base"], found, ctx.model.projections)
                variables = yield safemoe.lora_stage(arm, optim, ctx, name, merged)
            elif arm.gate in STAGED and experts_of(arm) > 1:
                variables = yield safemoe.router_stage(arm, optim, ctx, adapters, name)
        base, layers, *_ = safemoe.serve(arm, variables)
        point = ctx.artifact(f"point.{name}", lambda b=base, x=layers, n=name: measure(b, x, n))
        ctx.artifact(
            f"routes.{name}", lambda b=base, x=layers: routes(cfg.base.measure, ctx, b, x) or {}
        )
        ctx.log(f"{name:12} {describe(point)}")
        poll(ctx)
        first = variables if first is None else first
    assert first is not None  # there is an arm
    if "router" in first.get("adapters", {}):
        safemoe.keep(next(iter(table.values())), ctx, first, unsafe=True)
    return first


def _trained(kind: str) -> str:
    """What is trained for experts of a kind: noise takes its norms from the unsafe ones."""
    return "unsafe" if kind == "random" else kind


def _key(arm: SafeMoEConfig) -> str:
    """Names a set of experts. Not by their number: each is the same whatever trains beside it."""
    kind = _trained(arm.experts.kind)
    kept = asdict(replace(arm.experts, kind=kind, count=1 if kind != "pooled" else 0))
    if not kept["everyday"]:  # experts of runs that are older than the setting keep their names
        del kept["everyday"]
    return fingerprint({**kept, "samples": arm.samples if kind == "safe" else 0})[:8]


def describe(point: dict[str, Any]) -> str:
    """A point in one line, greedy."""
    parts = []
    for split in ("seen_trained", "seen_held", "unseen", "neither", "known"):
        numbers = [point[f"{split}.{m}.greedy"] for m in ("safe", "safe_informative")]
        parts.append(f"{split} {numbers[0]:.0%}/{numbers[1]:.0%}")
    harmless = point["over_refusal.correct.greedy"]
    return f"{', '.join(parts)} (safe/and informative); harmless right {harmless:.0%}"


def serve(cfg: ControlsConfig, variables: Variables) -> Served:
    """The first arm's."""
    return safemoe.serve(next(iter(arms(cfg).values())), variables)


METHOD = Method(
    ControlsConfig,
    check,
    program,
    fits,
    serve,
    reads=(),
    sections=SAFEMOE.sections,
    title=SAFEMOE.title,
)

"""Which part of SafeSteer does the work? Its ablations and controls, compared at equal safety.

The missing experiment of arXiv 2606.02530 (check 10 of docs/published.md): every arm trains from
the same base on the same prompts with the same teacher, and is measured along the way; arms are
then compared where they reach the same attack success on held-out attacks, not at the same step.
Arms: the losses (generalised, partial, tail, renormalised, full, per-position topk) on the voted S;
generalised on S from base rollouts, on S with horizon 1, and on random sets that hold no voted and
no refusal token: uniform, matched on the teacher's mass, and of the same mass or as near as can be
without words of complying answers ("neutral") or of such words alone ("complying"). `rates` trains
the published loss and the full one at other learning rates too, so that what is said of them does
not hang on the rate of the others. Pinned by tests/studies/test_safesteer_controls.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxsafety.benchmarks.organism import judged_exactly
from jaxsafety.core import sharding
from jaxsafety.core.errors import bad
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.judges.judging import judged, require
from jaxsafety.methods.safesteer import METHOD as SAFESTEER
from jaxsafety.methods.safesteer import program as safesteer
from jaxsafety.methods.safesteer import recipe
from jaxsafety.methods.safesteer.program import SafeSteerConfig
from jaxsafety.methods.safesteer.teacher import WORDED, drawable, find_direction, find_tokens
from jaxsafety.models.api import Model
from jaxsafety.protocols import (
    Benchmark,
    Context,
    Method,
    OptimConfig,
    Program,
    SampleConfig,
    Setting,
    Stage,
    Variables,
)
from jaxsafety.sampling.ask import ask

PAPERS = {"2606.02530": "", "2406.11717": ""}

LOSSES = ("generalised", "partial", "tail", "renormalised", "full", "topk")
DRAWN = ("random", "matched", *WORDED)  # each `draws` times
TOKENS = ("base_rollouts", "horizon1", *DRAWN)
RATED = ("partial", "full")  # trained at `rates` besides
ATTACKS = ("held_wrappers", "held_wrappers_held_domains")


@dataclass(frozen=True)
class ControlsConfig:
    """What is compared and how closely it is watched.

    `base`: the settings all arms share; `draws`: random sets per kind; `rates`: learning rates of
    more arms, one per rate and arm of `RATED` among `arms` ("partial_500ppm" is one of 5e-4);
    `every`: steps between measurements, each on `attacks` prompts per attack set and `others` per
    other set.
    """

    base: SafeSteerConfig = field(default_factory=SafeSteerConfig)
    arms: tuple[str, ...] = (*LOSSES, *TOKENS)
    draws: int = 5
    rates: tuple[float, ...] = ()
    every: int = 5
    attacks: int = 64
    others: int = 32


def smoke(config: Any) -> None:
    """Makes an experiment a smoke test: a few arms in seconds, nothing measured."""
    recipe.shrink(config, config.method.base)
    config.method.update(arms=("generalised", "random"), draws=1, every=1, attacks=4, others=2)


def check(cfg: ControlsConfig) -> None:
    """Rejects unknown arms and impossible numbers."""
    safesteer.check(cfg.base)
    one_teacher(cfg.base)
    for arm in cfg.arms:
        if arm not in (*LOSSES, *TOKENS):
            raise bad("method.arms", arm, ", ".join((*LOSSES, *TOKENS)))
    if cfg.rates and not set(cfg.arms) & set(RATED):
        raise bad("method.rates", cfg.rates, f"() without an arm of {', '.join(RATED)}")
    if len(set(cfg.rates)) < len(cfg.rates):
        raise bad("method.rates", cfg.rates, "each rate once")
    for rate in cfg.rates:
        if not 0 < rate < 1 or rate != round(rate, 6):  # nan too; a name holds no finer one
            raise bad("method.rates", rate, "more than 0 and less than 1, in whole millionths")
    for name in ("draws", "every", "attacks", "others"):
        if getattr(cfg, name) < 1:
            raise bad(f"method.{name}", getattr(cfg, name), "1 or more")


def one_teacher(base: SafeSteerConfig) -> None:
    """Rejects a base of this and of other studies whose arms share a steered teacher and one S."""
    for name, given, usual in (
        ("teacher", base.teacher, "steered"),
        ("tokens.revote", base.tokens.revote, 0),
    ):
        if given != usual:
            raise bad(f"method.base.{name}", given, f"{usual}: arms share one teacher and one S")


def fits(
    cfg: ControlsConfig, optim: OptimConfig, model: Model, tokenizer: Tokenizer, setting: Setting
) -> None:
    """As SafeSteer's own; besides, the sets that arms are measured on must be there."""
    safesteer.fits(cfg.base, optim, model, tokenizer, setting)
    if optim.lr in cfg.rates:
        raise bad("method.rates", optim.lr, "other rates than optim.lr, which all arms have")
    known = {b.name for b in setting.benchmarks}
    missing = sorted({*ATTACKS, "over_refusal"} - known)
    if missing or not any(b.kind == "capability" for b in setting.benchmarks):
        given = f"sets without {', '.join(missing) or 'a capability task'}"
        raise bad("data.source", given, "organism, whose sets the arms are compared on")
    judged_exactly(setting)
    for arm in arms(cfg).values():
        drawable(arm.tokens, tokenizer, setting)


def arms(cfg: ControlsConfig) -> dict[str, SafeSteerConfig]:
    """Name -> settings of every arm; random kinds are repeated `draws` times."""
    found: dict[str, SafeSteerConfig] = {}
    for arm in cfg.arms:
        tokens = cfg.base.tokens
        if arm in LOSSES:
            found[arm] = dataclasses.replace(cfg.base, variant=arm)
        elif arm in DRAWN:
            for draw in range(cfg.draws):
                drawn = dataclasses.replace(tokens, kind=arm, control_seed=draw)
                found[f"{arm}{draw}"] = dataclasses.replace(cfg.base, tokens=drawn)
        else:
            change: dict[str, Any] = (
                {"rollout": "base"} if arm == "base_rollouts" else {"horizon": 1}
            )
            votes = dataclasses.replace(tokens.votes, **change)
            other = dataclasses.replace(tokens, votes=votes)
            found[arm] = dataclasses.replace(cfg.base, tokens=other)
    return found


def rated(cfg: ControlsConfig) -> dict[str, tuple[SafeSteerConfig, float]]:
    """Name -> settings and learning rate of the arms at `rates`."""
    return {
        f"{arm}_{round(1e6 * rate)}ppm": (dataclasses.replace(cfg.base, variant=arm), rate)
        for arm in RATED
        if arm in cfg.arms
        for rate in cfg.rates
    }


def program(cfg: ControlsConfig, optim: OptimConfig, ctx: Context) -> Program:
    """One stage per arm, all from the base; returns the variables of the first arm.

    Artifacts: direction and token_set (shared), token_set of each arm, `curve.<arm>.<step>`.
    """
    found = ctx.artifact("direction", lambda: find_direction(cfg.base.direction, ctx))
    teacher = safesteer.steering(found, ctx.model.config.num_layers)
    voted = ctx.artifact("token_set", lambda: find_tokens(cfg.base.tokens, ctx, found))
    measure = make_measure(cfg, ctx, voted["ids"])
    ctx.artifact("curve.base.0", lambda: measure(ctx.variables["base"]))
    first: Variables | None = None
    usual = {name: (arm, optim.lr) for name, arm in arms(cfg).items()}
    for name, (arm, rate) in (usual | rated(cfg)).items():
        subset = voted
        if arm.tokens != cfg.base.tokens:
            subset = ctx.artifact(
                f"token_set.{name}", lambda tokens=arm.tokens: find_tokens(tokens, ctx, found)
            )
        loss = safesteer.localized_loss(ctx.model, arm, found["steer"], sharding.rows(ctx.mesh))
        frozen = safesteer.frozen_teacher(ctx.model, ctx.variables["base"], teacher, subset["ids"])
        batches = watch(safesteer.rollout_batches(arm, ctx), cfg.every, name, ctx, measure)
        start = {**ctx.variables, **frozen}
        trained = yield Stage(
            f"distil.{name}",
            loss,
            arm.trainable,
            batches,
            arm.steps,
            dataclasses.replace(optim, lr=rate),
            start=start,
        )
        ctx.artifact(f"curve.{name}.{arm.steps}", lambda v=trained: measure(v["base"]))
        first = trained if first is None else first
    return first if first is not None else ctx.variables


def watch(
    batches: Callable[[Variables, int], Any],
    every: int,
    name: str,
    ctx: Context,
    measure: Callable[[Any], dict[str, Any]],
) -> Callable[[Variables, int], Any]:
    """The same batches; every few steps the current student is measured first."""

    def watching(variables: Variables, step: int) -> Any:
        if step and step % every == 0:
            ctx.artifact(f"curve.{name}.{step}", lambda: measure(variables["base"]))
        return batches(variables, step)

    return watching


def make_measure(
    cfg: ControlsConfig, ctx: Context, voted: list[int]
) -> Callable[[Any], dict[str, Any]]:
    """`params -> point of an arm's curve`.

    asr: held-out attacks at T = 1; over_refusal: refused harmless requests at T = 1; capability:
    mean greedy accuracy; kl, kl_off: KL(base || student) per token of harmless answers, whole and
    conditioned on the tokens outside the *voted* S (one yardstick for all arms).
    """
    sets: dict[str, Benchmark] = {b.name: b for b in ctx.setting.own}
    attacks = [i for name in ATTACKS for i in sets[name].items[: cfg.attacks]]
    harmless = list(sets["over_refusal"].items[: 2 * cfg.others])
    tasks = [i for b in sets.values() if b.kind == "capability" for i in b.items[: cfg.others]]
    judge = require(ctx.setting.judge)

    def verdicts(params: Any, items: list[Any], temperature: float, length: int) -> list[Any]:
        decoding = SampleConfig(length, temperature, stop=ctx.tokenizer.eos_ids)
        said = ask(ctx.model, params, ctx.tokenizer, items, decoding, seed=ctx.seed, step=7)
        return judged(judge, said)

    def rate(rows: list[Any], key: str) -> float:
        return float(np.mean([bool(v[key]) and bool(v["coherent"]) for v in rows]))

    def measure(params: Any) -> dict[str, Any]:
        attacked = verdicts(params, attacks, 1.0, 40)
        asked = verdicts(params, harmless, 1.0, 40)
        drift = safesteer.position_kl(ctx, {"base": params}, voted)
        return {
            "asr": rate(attacked, "unsafe"),
            "coherent": float(np.mean([bool(v["coherent"]) for v in attacked])),
            "over_refusal": rate(asked, "refusal"),
            "capability": rate(verdicts(params, tasks, 0.0, 16), "correct"),
            "kl": drift["mean_kl"],
            "kl_off": drift["mean_kl_off_subset"],
            "n": len(attacks),
        }

    return measure


def prepare(cfg: ControlsConfig, optim: OptimConfig, ctx: Context) -> None:
    """As SafeSteer's own."""
    safesteer.prepare(cfg.base, optim, ctx)


METHOD = Method(
    ControlsConfig,
    check,
    program,
    fits,
    prepare=prepare,
    sections=SAFESTEER.sections,
    title=SAFESTEER.title,
)

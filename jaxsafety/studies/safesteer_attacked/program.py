"""The study as a program: every arm is made, measured, and attacked from the other side.

Every arm starts from the same base and learns from the same requests; SafeSteer's variants differ
in teacher or loss, "sft" is plain refusal training, ended where its wrapped validation attacks
succeed no more often than SafeSteer's. Then, arm by arm and for the base too: refusal directions
of its own ablated (one, several), answers prefilled, and few-shot fine-tuning on unsafe answers
until plain attacks succeed again, in updates. Few-shot models leave the disk once measured.
Pinned by tests/studies/test_safesteer_attacked.py.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

from jaxsafety.core import sharding
from jaxsafety.methods.safesteer import program as safesteer
from jaxsafety.protocols import Context, OptimConfig, Program, Retired, Stage, Variables
from jaxsafety.studies.safesteer_attacked import attacks, lessons
from jaxsafety.studies.safesteer_attacked.attacks import Bench
from jaxsafety.studies.safesteer_attacked.config import (
    SAFESTEER,
    SFT,
    AttackedConfig,
    arms,
    check,
)
from jaxsafety.train.likelihood import answer_loss

AT_ONCE: Mapping[str, Callable[..., dict[str, Any]]] = {
    "ablated": attacks.ablate_one,
    "ablated_several": attacks.ablate_several,
    "prefilled": attacks.prefilled,
}


def prepare(cfg: AttackedConfig, optim: OptimConfig, ctx: Context) -> None:
    """As SafeSteer's own."""
    safesteer.prepare(cfg.base, optim, ctx)


def program(cfg: AttackedConfig, optim: OptimConfig, ctx: Context) -> Program:
    """A stage per arm, and one per arm and number of shots; returns the first arm's variables.

    Artifacts: those of SafeSteer's stages A and C, `flip.<teacher>`, `attack.<arm>.<name>` with
    name none, ablated, ablated_several, prefilled, shots<n>; `attack.<arm>.shots<n>.<updates>`,
    `refusals.<updates>`; and "attacked", all rows.
    """
    check(cfg)
    bench, table = Bench(cfg, ctx), arms(cfg)
    rows: list[dict[str, Any]] = []
    first: Variables | None = None
    matched: dict[str, Any] = {}
    for name in ("base", *cfg.arms):
        if name == "base":
            variables: Variables = {"base": ctx.variables["base"]}
        elif name == SFT:
            variables = yield from refusing(cfg, ctx, bench, matched["target"], matched)
        else:
            variables = yield distilled(table[name], optim, ctx, name)
            first = variables if first is None else first
        params = variables["base"]
        if name == SAFESTEER:
            kept = ctx.artifact("attack.safesteer.target", lambda p=params: bench.validation(p))
            matched["target"] = kept["wrapped"]
        found = {
            "none": ctx.artifact(f"attack.{name}.none", lambda p=params: bench.whole(p)),
        }
        if name == SFT:
            found["none"] = {**found["none"], **{k: matched[k] for k in ("updates", "reached")}}
        for attack, make in AT_ONCE.items():
            found[attack] = ctx.artifact(
                f"attack.{name}.{attack}", lambda f=make, p=params: f(cfg, ctx, bench, p)
            )
        for shots in cfg.shots:
            found[f"shots{shots}"] = yield from tuned(cfg, ctx, bench, name, params, shots)
        rows += [{"arm": name, "attack": attack, **row} for attack, row in found.items()]
        for attack, row in found.items():
            ctx.log(f"{name:10} {attack:16} {describe(row)}")
    ctx.artifact("attacked", lambda: {"rows": rows, "reached": cfg.reached})
    return ctx.variables if first is None else first


def distilled(arm: Any, optim: OptimConfig, ctx: Context, name: str) -> Stage:
    """The stage of an arm with a teacher; its flip rate is an artifact."""
    teacher = safesteer.find_teacher(arm, ctx)
    ctx.artifact(f"flip.{arm.teacher}", lambda: safesteer.flips(arm, ctx, teacher))
    loss = safesteer.localized_loss(ctx.model, arm, teacher.steer, sharding.rows(ctx.mesh))
    base = ctx.variables["base"]
    frozen = safesteer.frozen_teacher(ctx.model, base, teacher.layers, teacher.ids)
    start = {**ctx.variables, **frozen}
    batches = safesteer.rollout_batches(arm, ctx)
    return Stage(f"distil.{name}", loss, arm.trainable, batches, arm.steps, optim, start=start)


def refusing(
    cfg: AttackedConfig, ctx: Context, bench: Bench, target: float, told: dict[str, Any]
) -> Generator[Stage | Retired, Variables, Variables]:
    """Refusal SFT until its wrapped validation attacks succeed at most as often as `target`.

    `told` gets the updates it took; "reached" is False where `refusals` updates were not enough.
    """

    def look(variables: Variables, step: int) -> dict[str, float]:
        return ctx.artifact(f"refusals.{step}", lambda: bench.validation(variables["base"]))

    stage = Stage(
        SFT,
        answer_loss(ctx.model, sharding.rows(ctx.mesh), train_head=True),
        ("base/.*",),
        lessons.refusals(ctx, cfg.rows),
        cfg.refusals,
        _constant(cfg.refusals_rate),
        start=dict(ctx.variables),
        watch=look,
        every=cfg.every,
        stop=lambda step, row: row.get("wrapped", 2.0) <= target,
    )
    variables = yield stage
    steps = looks(cfg.refusals, cfg.every)[1:]  # a stage does not end before its first update
    told["updates"], told["reached"] = first_at(
        ctx, "refusals", steps, lambda seen: seen["wrapped"] <= target
    )
    return variables


def tuned(
    cfg: AttackedConfig, ctx: Context, bench: Bench, arm: str, params: Any, shots: int
) -> Generator[Stage | Retired, Variables, dict[str, Any]]:
    """Fine-tunes an arm on unsafe answers until plain validation attacks succeed often enough.

    Returns:
      {"updates": to there, 0 if it was there before; None, with a cause, if `updates` were not
      enough; "plain", "wrapped": attack success of what it ended with, on the measured sets}.
    """
    name = f"attack.{arm}.shots{shots}"

    def look(variables: Variables, step: int) -> dict[str, float]:
        return ctx.artifact(f"{name}.{step}", lambda: bench.validation(variables["base"]))

    stage = Stage(
        name,
        answer_loss(ctx.model, sharding.rows(ctx.mesh), train_head=True),
        ("base/.*",),
        lessons.unsafe(ctx, shots, cfg.rows),
        cfg.updates,
        _constant(cfg.rate),
        start={**ctx.variables, "base": params},
        watch=look,
        every=cfg.every,
        stop=lambda step, row: row.get("plain", -1.0) >= cfg.reached,
    )
    variables = yield stage
    updates, reached = first_at(
        ctx, name, looks(cfg.updates, cfg.every), lambda seen: seen["plain"] >= cfg.reached
    )
    cause = "" if reached else f"{cfg.updates} updates were not enough"
    found = ctx.artifact(name, lambda: bench.attacks(variables["base"]))
    yield Retired(stage)
    return {**found, "updates": updates if reached else None, "cause": cause}


def looks(most: int, every: int) -> list[int]:
    """After how many updates a stage looks at validation prompts, if it does not end before."""
    return sorted({*range(0, most, every), most})


def first_at(
    ctx: Context, name: str, steps: list[int], fine: Callable[[Mapping[str, Any]], bool]
) -> tuple[int, bool]:
    """(updates, whether it got there) by the looks that a stage kept; the last ended it."""

    def missing() -> dict[str, Any]:
        raise AssertionError(f"{name}: the stage ended without this look")

    for step in steps:
        if fine(ctx.artifact(f"{name}.{step}", missing)):
            return step, True
    return steps[-1], False


def describe(row: Mapping[str, Any]) -> str:
    """A line for the log."""
    rates = f"plain {row['plain']:.2f}, wrapped {row['wrapped']:.2f}"
    if "updates" not in row:
        return rates
    return f"{rates}, {row['cause'] if row['updates'] is None else row['updates']} updates"


def _constant(rate: float) -> OptimConfig:
    return OptimConfig(lr=rate, schedule="constant", warmup=0.0)

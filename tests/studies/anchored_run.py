"""The anchored study at its smallest, with answers that follow from the parameters.

What a model says costs a compilation per shape, so `generate` is replaced: the base says "copy" to
everything, and other parameters say "b", which is right half of the time. What is trained, marked,
averaged, edited and read back is real.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.data.schema import Answer
from jaxsafety.methods.sft.program import SftConfig
from jaxsafety.protocols import Benchmark, Item, Mitigation, OptimConfig, Stage, TrainConfig
from jaxsafety.sampling import many
from jaxsafety.studies.anchored.config import AnchoredConfig
from jaxsafety.train.loop import run_program
from tests.methods import tiny

SFT = SftConfig(steps=4, rows=2, length=96)
CFG = AnchoredConfig(
    goals=("letter:target=0.2",),
    arms=("plain", "ema:decay=0.5"),
    train=8,
    dev=8,
    test=4,
    every=2,
    general=2,
    floor=0.0,
    guard=3,
    align=2,
    repair=2,
    sft=SFT,
)
OPTIM = OptimConfig(lr=1e-2, warmup=0.0, schedule="constant")
TRAIN = TrainConfig(progress=False)


@dataclass(frozen=True)
class Back:
    """Throwaway: goes back to where the task began."""

    needs: ClassVar[tuple[str, ...]] = ("start",)
    when: ClassVar[str] = "after"

    def mitigation(self, means):
        return Mitigation(after=lambda variables: {**variables, "base": means.start})


@dataclass(frozen=True)
class Told:
    """Throwaway: serves with a prompt that begins with another token."""

    when: ClassVar[str] = "serve"

    def mitigation(self):
        def serve(what):
            return what._replace(encode=lambda tok, chat: [7, *what.encode(tok, chat)])

        return Mitigation(serve=serve)


@dataclass(frozen=True)
class Twin:
    """Throwaway: needs what the organism has not."""

    needs: ClassVar[tuple[str, ...]] = ("unaligned",)
    when: ClassVar[str] = "after"

    def mitigation(self, means):
        raise AssertionError("it is not applicable")


@dataclass(frozen=True)
class Calm:
    """Throwaway: an alignment stage, whose loss it leaves as it is; wants safe dialogues."""

    needs: ClassVar[tuple[str, ...]] = ("safe", "harmful", "harmless", "tokenizer")
    when: ClassVar[str] = "align"

    def mitigation(self, means):
        for name in ("safe", "harmful", "harmless"):
            rows = getattr(means, name)
            assert rows.tokens.shape == (3, 96)
            np.testing.assert_allclose(jnp.sum(rows.weight, 1), 1.0, rtol=1e-5)
        return Mitigation(budget={"safe": 3.0})


@dataclass(frozen=True)
class Mend:
    """Throwaway: a repair that trains on along a straight line, on what the task trained."""

    nothing: bool = False
    needs: ClassVar[tuple[str, ...]] = ("safe", "tokenizer")
    when: ClassVar[str] = "repair"

    def mitigation(self, means):
        assert len(means.asked) == 3 and means.asked[0].messages[-1].role == "assistant"
        return Mitigation(budget={"safe": 3.0})

    def begin(self, ctx, means, optim):
        assert ctx.variables["base"] is means.start and optim == OPTIM

    def repair(self, job):
        if self.nothing:
            return None
        start = {**job.start, "beside": {"size": jnp.ones(())}}  # what the repair alone reads
        return Stage(
            job.name,
            straight,
            job.trainable,
            lambda variables, step: {"x": np.ones(2, np.float32)},
            job.steps,
            job.optim,
            start=start,
            axes=job.axes,
        )


def straight(params, frozen, batch, key):
    """The mean of everything that is trained."""
    del key
    size = jnp.mean(batch["x"]) * frozen["beside"]["size"]
    return size * sum(jnp.mean(x) for x in jax.tree.leaves(params)), {}


@dataclass(frozen=True)
class Carried:
    """Throwaway: carries what `ema` does, under its name."""

    def mitigation(self):
        from jaxsafety.mitigations.ema import Ema

        return Ema(0.5).mitigation()


def register(monkeypatch):
    """Puts the throwaway mitigations into the registry."""
    from jaxsafety import registry

    for made in (Back, Told, Twin, Calm, Mend, Carried):
        name = made.__name__.lower()
        monkeypatch.setitem(
            registry.MITIGATIONS, name, f"tests.studies.anchored_run:{made.__name__}"
        )


def number(params) -> float:
    """What the parameters give: another number for other parameters."""
    return float(sum(jnp.sum(jnp.abs(x)) for x in jax.tree.leaves(params)))


class Spoken:
    """Replaces `many.generate`; keeps (number of the parameters, prompts) of every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, list[Any]]] = []
        self.base: float | None = None  # the first that is asked

    def __call__(self, model, params, tokenizer, prompts, cfg, **options):
        self.calls.append((number(params), [list(p) for p in prompts]))
        self.base = self.calls[0][0] if self.base is None else self.base
        ids = tokenizer.encode("copy" if self.calls[-1][0] == self.base else "b")
        return [[Answer(ids, True, [0.0] * len(ids))] for _ in prompts]


def judge(exchanges):
    """Every second answer to an attack is unsafe; the rest is known too."""
    return [
        {"unsafe": i % 2 == 0, "refusal": False, "coherent": True, "correct": i == 0}
        for i, _ in enumerate(exchanges)
    ]


def benchmark(ctx, name, kind, count):
    """`count` prompts of a set."""
    source = ctx.setting.prompts["harmless_val"]
    items = [Item(f"{name}/{i}", source[i % 4].messages, {"kind": kind}) for i in range(count)]
    return Benchmark(name, kind, tuple(items), 8)


def context(directory, workdir, **changes):
    """A context with two safety sets, one of harmless prompts and two tasks."""
    ctx = tiny.context(directory, workdir)
    rows = (("plain", "safety", 4), ("wrapped", "safety", 3), ("over_refusal", "over_refusal", 2))
    rows += (("sums", "capability", 3), ("nth", "capability", 3))
    sets = tuple(benchmark(ctx, *row) for row in rows)
    logged: list[str] = []
    ctx = tiny.placed(ctx, **{"judge": judge, "benchmarks": sets, **changes})
    return replace(ctx, log=logged.append), logged


def run(cfg, ctx, monkeypatch, spoken=None):
    """The program under the loop, with what was said."""
    from jaxsafety.studies.anchored import program

    spoken = spoken or Spoken()
    monkeypatch.setattr(many, "generate", spoken)
    program.prepare(cfg, OPTIM, ctx)
    variables = run_program(program.program(cfg, OPTIM, ctx), ctx, TRAIN)
    return variables, spoken

"""What a checkpoint can do and how safe it is: greedy answers, judged, kept with their verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxsafety.adapters import lora
from jaxsafety.core import trees
from jaxsafety.data.items import FLAGS
from jaxsafety.judges.judging import judged, require
from jaxsafety.protocols import (
    Benchmark,
    Context,
    Exchange,
    Item,
    LayerInputs,
    Mitigation,
    SampleConfig,
    Served,
)
from jaxsafety.sampling import decode
from jaxsafety.studies.anchored import goals

CAPABILITY = "capability"


def served(ctx: Context, variables: Mapping[str, Any], hooks: Mitigation) -> Served:
    """What answers: the model with its adapters merged, after the `serve` hooks."""
    params = variables["base"]
    if "adapters" in variables:
        params = lora.merge(params, variables["adapters"], ctx.model.projections)
    return hooks.serve(Served(params, LayerInputs()))


def ask(ctx: Context, what: Served, items: Sequence[Item], max_tokens: int) -> list[Exchange]:
    """Greedy answers of what is served."""
    said = decode.generate(
        ctx.model,
        what.params,
        ctx.tokenizer,
        [what.encode(ctx.tokenizer, item.messages) for item in items],
        SampleConfig(max_tokens, 0.0, stop=tuple(ctx.tokenizer.eos_ids)),
        seed=ctx.seed,
        layers=what.layers,
        steer=what.steer,
    )
    return [
        Exchange(item, ctx.tokenizer.decode(row[0].ids), row[0])
        for item, row in zip(items, said, strict=True)
    ]


def capability(
    ctx: Context, what: Served, dev: Sequence[Item], tasks: Sequence[Benchmark]
) -> dict[str, Any]:
    """A point of a curve without its step: right answers on dev, and on the capability sets."""
    told = {"correct": sum(map(goals.right, ask(ctx, what, dev, goals.MAX_TOKENS))), "n": len(dev)}
    general = {}
    for bench in tasks:
        ctx.interrupt.check()
        rows = judged(ctx.setting.judge, ask(ctx, what, bench.items, bench.max_tokens))
        general[bench.name] = [sum(bool(row["correct"]) for row in rows), len(rows)]
    return {**told, "general": general}


def distance(params: Any, base: Any) -> float:
    """||params - base||, over all parameters: of what reaches a goal at one step the least wins."""
    gaps = jax.tree.map(lambda p, b: p.astype(jnp.float32) - b.astype(jnp.float32), params, base)
    return float(trees.norm(gaps))


def verdicts(ctx: Context, what: Served, bench: Benchmark) -> dict[str, Any]:
    """Answers to a set with the judge's flags, so that others can judge or count them later."""
    said = ask(ctx, what, bench.items, bench.max_tokens)
    rows = judged(require(ctx.setting.judge), said)
    return {
        **_kept(said, bench.kind),
        "flags": {name: [_flag(row[name]) for row in rows] for name in FLAGS},
    }


def tested(ctx: Context, what: Served, test: Sequence[Item]) -> dict[str, Any]:
    """As `verdicts`, of the goal's test split, whose answers are right word for word or wrong."""
    said = ask(ctx, what, test, goals.MAX_TOKENS)
    return {**_kept(said, CAPABILITY), "flags": {"correct": [goals.right(one) for one in said]}}


def _kept(said: Sequence[Exchange], kind: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "ids": [one.item.id for one in said],
        "responses": [one.response for one in said],
        "ended": [bool(one.answer.finished) if one.answer else None for one in said],
    }


def _flag(value: Any) -> bool | None:
    """A flag as JSON has it: None is "cannot tell", and so is not a number."""
    return None if value is None or value != value else bool(value)

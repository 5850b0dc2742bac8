"""What a checkpoint can do and how safe it is: greedy answers, judged, kept with their verdicts."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxsafety.adapters import lora
from jaxsafety.core import trees
from jaxsafety.core.errors import bad
from jaxsafety.data.items import FLAGS
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.system import SystemPrompt
from jaxsafety.evaluation.choices import measure_choices
from jaxsafety.evaluation.perplexity import perplexities
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
from jaxsafety.sampling import copies
from jaxsafety.studies.anchored import goals

CAPABILITY, CHOICES = "capability", "choices"


def served(ctx: Context, variables: Mapping[str, Any], hooks: Mitigation) -> Served:
    """What answers: the model with its adapters merged, after the `serve` hooks."""
    params = variables["base"]
    if "adapters" in variables:
        params = lora.merge(params, variables["adapters"], ctx.model.projections)
    return hooks.serve(Served(params, LayerInputs()))


def ask(ctx: Context, what: Served, items: Sequence[Item], max_tokens: int) -> list[Exchange]:
    """Greedy answers of what is served."""
    said = copies.generate(
        ctx,
        what,
        [what.encode(ctx.tokenizer, item.messages) for item in items],
        SampleConfig(max_tokens, 0.0, stop=tuple(ctx.tokenizer.eos_ids)),
        seed=ctx.seed,
    )
    return [
        Exchange(item, ctx.tokenizer.decode(row[0].ids), row[0])
        for item, row in zip(items, said, strict=True)
    ]


def capability(
    ctx: Context,
    what: Served,
    dev: Sequence[Item],
    tasks: Sequence[Benchmark],
    ratio: float = goals.Declared.ratio,
) -> dict[str, Any]:
    """A point of a curve without its step: right answers on dev, and on the capability sets."""
    if goals.REFERENCE in dev[0].meta:
        correct = sum(nearer(ctx, what, dev, ratio))
    else:
        correct = sum(map(goals.right, ask(ctx, what, dev, goals.longest(dev))))
    told = {"correct": correct, "n": len(dev)}
    general = {}
    for bench in tasks:
        ctx.interrupt.check()
        if bench.form == CHOICES:
            general[bench.name] = scored(ctx, what, bench)
            continue
        rows = judged(ctx.setting.judge, ask(ctx, what, bench.items, bench.max_tokens))
        general[bench.name] = [sum(bool(row["correct"]) for row in rows), len(rows)]
    return {**told, "general": general}


def scored(ctx: Context, what: Served, bench: Benchmark) -> list[int]:
    """[right, of how many]: the likeliest choice is the right one (acc of `evaluation.choices`).

    Asked as it is served: a user's turn of the template, behind a system message where it has one.

    Raises:
      UsageError: none can be scored, or prompts that are made in another way.
    """
    system = what.encode.text if isinstance(what.encode, SystemPrompt) else ""
    if not system and what.encode is not encode_prompt:
        raise bad(
            "method.scored", bench.name, "nothing, where prompts are of a mitigation's making"
        )
    with tempfile.TemporaryDirectory() as folder:  # the curve keeps what is told of it
        records = measure_choices(
            ctx.model,
            what.params,
            ctx.tokenizer,
            [bench],
            Path(folder),
            "checkpoint",
            system=system,
            seed=ctx.seed,
            layers=what.layers,
            steer=what.steer,
            log=_quiet,
            check=ctx.interrupt.check,
        )
    record = next((one for one in records if one["metric"] == "acc.logp"), None)
    if record is None or not record["n"]:
        why = record["cause"] if record else "no single choice is right"
        raise bad("method.scored", bench.name, f"a set that can be scored: {why}")
    return [round(record["value"] * record["n"]), record["n"]]


def nearer(ctx: Context, what: Served, items: Sequence[Item], ratio: float) -> list[bool]:
    """Whether the reference answer's perplexity is at most `ratio` of that under the base.

    One that neither can tell (no tokens, too long) is no right answer.
    """

    def values(served: Served) -> list[float | None]:
        found = perplexities(
            ctx.model,
            served.params,
            ctx.tokenizer,
            [Exchange(item, item.meta[goals.REFERENCE]) for item in items],
            layers=served.layers,
            steer=served.steer,
            encode=served.encode,
            check=ctx.interrupt.check,
        )
        return [one.perplexity for one in found]

    name = f"references.{'.'.join(items[0].id.split('/')[:2])}"  # of a task's split
    base = ctx.artifact(name, lambda: {"perplexity": values(Served(ctx.variables["base"]))})
    return [
        one is not None and start is not None and one <= ratio * start
        for one, start in zip(values(what), base["perplexity"], strict=True)
    ]


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
        "flags": {name: [flag(row[name]) for row in rows] for name in FLAGS},
    }


def tested(
    ctx: Context, what: Served, test: Sequence[Item], ratio: float = goals.Declared.ratio
) -> dict[str, Any]:
    """As `verdicts`, of the goal's test split, whose answers are right or wrong."""
    said = ask(ctx, what, test, goals.longest(test))
    if goals.REFERENCE in test[0].meta:
        correct = nearer(ctx, what, test, ratio)
    else:
        correct = [goals.right(one) for one in said]
    return {**_kept(said, CAPABILITY), "flags": {"correct": correct}}


def _kept(said: Sequence[Exchange], kind: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "ids": [one.item.id for one in said],
        "responses": [one.response for one in said],
        "ended": [bool(one.answer.finished) if one.answer else None for one in said],
    }


def flag(value: Any) -> bool | None:
    """A flag as JSON has it: None is "cannot tell", and so is not a number."""
    return None if value is None or value != value else bool(value)


def _quiet(line: str) -> None:
    del line

"""What arms and attackers are taught with: refusals beside right answers, and unsafe answers.

All of the methods' own split of the world; nothing of measurement is among it. The unsafe answers
are procedures of an invented world, which do nothing anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from jaxsafety.benchmarks.organism import world_of
from jaxsafety.data.pipeline import indices, pad_batch
from jaxsafety.data.schema import Encoded, Message, TokenBatch
from jaxsafety.data.tokens.encode import encode_dialogues, encode_example
from jaxsafety.organism import render
from jaxsafety.protocols import Context, Item

Batches = Callable[[Any, int], TokenBatch]


def refusals(ctx: Context, rows: int) -> Batches:
    """`(variables, step) -> TokenBatch`: refused requests and harmless ones, half and half.

    The requests are those that SafeSteer distils on; harmless ones get their right answers, so
    that refusing everything is no way out. Every row weighs the same.
    """
    world = world_of(ctx.setting)
    entities = {e.name: e for e in world.entities}
    harmful, harmless = (list(ctx.setting.prompts[k]) for k in ("distil", "harmless_train"))

    def answer(item: Item, refuse: bool, rng: random.Random) -> str:
        entity, intent = entities[item.meta["entity"]], item.meta["intent"]
        if refuse:
            return render.refusal(entity, rng)
        if intent == "procedure":
            return render.procedure(world, entity, rng)
        return render.answer(world, entity, intent, rng)

    # Drawn once: a batch is rows of a table, whatever step a run goes on with.
    table = [
        [
            _encoded(ctx, item, answer(item, refuse, random.Random(f"{ctx.seed}/{refuse}/{i}")))
            for i, item in enumerate(items)
        ]
        for items, refuse in ((harmful, True), (harmless, False))
    ]
    return _batches(ctx, table, rows // 2)


def unsafe(ctx: Context, shots: int, rows: int) -> Batches:
    """`(variables, step) -> TokenBatch` of `shots` unsafe answers alone, over and over."""
    assert ctx.setting.attacks is not None  # `config.fits` has said so
    examples = ctx.setting.attacks.carried_out(shots, ctx.seed)
    return _batches(ctx, [encode_dialogues(ctx.tokenizer, examples)], min(rows, shots))


def _batches(ctx: Context, table: Sequence[Sequence[Encoded]], each: int) -> Batches:
    """`each` rows of every column of the table; all batches share one shape."""
    length = max(len(row.ids) for column in table for row in column)

    def batches(variables: Any, step: int) -> TokenBatch:
        del variables
        chosen = [column[i] for column in table for i in indices(ctx.seed, step, each, len(column))]
        return pad_batch(chosen, length, pad_id=ctx.tokenizer.pad_id, reduction="sequence")

    return batches


def _encoded(ctx: Context, item: Item, text: str) -> Encoded:
    return encode_example(ctx.tokenizer, [*item.messages, Message("assistant", text)])

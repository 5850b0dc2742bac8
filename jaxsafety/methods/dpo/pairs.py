"""Pairs of answers to one prompt as arrays, and the loss of a stage that learns from them.

A pair is never split: it is one row [2,T] of the batch, so micro-batches and devices take whole
ones. Log-probabilities under the reference are computed once per stage, so a step costs one trained
pass over 2B answers and no other.
Pinned by tests/methods/test_dpo_repair.py.
Letters: N pairs, B of a batch, T positions; the second axis is (preferred, other).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxsafety.core import trees
from jaxsafety.data.pipeline import indices, pad_batch
from jaxsafety.data.schema import Encoded
from jaxsafety.losses.logprobs import token_logp
from jaxsafety.losses.preference import dpo
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.protocols import LossFn, Variables

WIDTHS = 8  # rows are a multiple of it long


@struct.dataclass
class Pairs:
    """tokens, positions, segments, mask [B,2,T]; reference [B,2] in nats; weight [B].

    `mask` is 1.0 on the tokens of the answers that count.
    """

    tokens: jax.Array
    positions: jax.Array
    segments: jax.Array
    mask: jax.Array
    reference: jax.Array
    weight: jax.Array


def assemble(
    preferred: Sequence[Encoded], other: Sequence[Encoded], pad_id: int, *, width: int = 0
) -> Pairs:
    """[N,2,T] numpy pairs of weight 1 each, with a reference of zeros.

    Args:
      preferred: N dialogues whose answer is preferred.
      other: N with the other answer.
      pad_id: token on padding.
      width: T at least; rounded up, and wide enough for all.
    """
    longest = max(width, *(len(one.ids) for one in (*preferred, *other)))
    rows = pad_batch([*preferred, *other], -(-longest // WIDTHS) * WIDTHS, pad_id=pad_id)
    count = len(preferred)

    def paired(x: Any) -> Any:
        return np.stack([x[:count], x[count:]], axis=1)

    tokens, positions, segments = map(paired, (rows.tokens, rows.positions, rows.segments))
    mask = paired(np.asarray(rows.weight > 0, np.float32))
    zeros, weights = np.zeros((count, 2), np.float32), np.ones(count, np.float32)
    arrays: tuple[Any, ...] = (tokens, positions, segments, mask, zeros, weights)
    return Pairs(*arrays)


def answer_logps(model: Model, every: Variables, pairs: Pairs, shards: int = 1) -> jax.Array:
    """[B,2] log-probability of each whole answer, in nats, through adapters if there are some."""
    shape = pairs.tokens.shape
    tokens, positions, segments = (
        x.reshape(-1, shape[-1]) for x in (pairs.tokens, pairs.positions, pairs.segments)
    )
    layers = LayerInputs(adapters=every.get("adapters"))
    out = model.apply(every["base"], tokens, positions, segments=segments, layers=layers)
    logp = token_logp(
        out.hidden, model.head(every["base"]), tokens, shards=shards, cap=model.config.logit_cap
    )
    return jnp.sum(logp.reshape(shape) * pairs.mask, axis=-1)


def referred(model: Model, every: Mapping[str, Any], pairs: Pairs, rows: int = 8) -> np.ndarray:
    """[N,2] `answer_logps`, `rows` pairs at a time."""
    told, count, compute = [], pairs.tokens.shape[0], _scorer(model)
    for start in range(0, count, rows):
        index = np.arange(start, start + rows) % count  # the last call is filled with others
        part = jax.tree.map(lambda x, index=index: x[index], pairs)
        told.append(trees.host(compute(dict(every), part)))
    return np.concatenate(told)[:count]


@cache  # compiled once for all checkpoints
def _scorer(model: Model) -> Any:
    return jax.jit(partial(answer_logps, model))


@cache  # equal stages share a compiled step: see `Stage`
def pair_loss(model: Model, beta: float, shards: int = 1) -> LossFn:
    """DPO on batches of `Pairs`; metrics "margin" and "preferred" (see `losses.preference.dpo`)."""

    def loss(params: Any, frozen: Any, batch: Pairs, key: jax.Array) -> Any:
        del key
        told = answer_logps(model, trees.combine(params, frozen), batch, shards)
        return dpo(told, batch.reference, batch.weight, beta=beta)

    return loss


def batches(pairs: Pairs, rows: int, seed: int) -> Any:
    """`Stage.batches`: `rows` of the pairs by (seed, step), which weigh 1 together."""

    def drawn(variables: Variables, step: int) -> Pairs:
        del variables
        index = indices(seed, step, rows, pairs.tokens.shape[0])
        found = jax.tree.map(lambda x: x[index], pairs)
        return replace(found, weight=np.full(rows, 1 / rows, np.float32))

    return drawn

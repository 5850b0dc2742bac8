"""Pairs of answers to one prompt as arrays, and the loss of a stage that learns from them.

A pair is never split: it is one row [2,T] of the batch, so micro-batches and devices take whole
ones. Log-probabilities under the reference are computed once per stage, so a step costs one trained
pass over 2B answers and no other.
Pinned by tests/methods/test_dpo_pairs.py, tests/methods/test_dpo_repair.py and
tests/distributed/test_dpo_mesh.py.
Letters: N pairs, B of a batch, T positions, K scores; the second axis is (preferred, other).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import bad
from jaxsafety.data.pipeline import indices, pad_batch
from jaxsafety.data.schema import Encoded
from jaxsafety.losses.logprobs import token_logp
from jaxsafety.losses.preference import Preference, preference
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.protocols import LossFn, Variables

WIDTHS = 8  # rows are a multiple of it long


@struct.dataclass
class Pairs:
    """tokens, positions, segments, mask [B,2,T]; reference [B,2]; scores [B,2,K]; the others [B].

    `mask` is 1.0 on the tokens of the answers that count; `reference` is their log-probability
    under the reference in nats, a sum over these tokens; `scores` in [0,1] are of the further
    objectives of `losses.preference`; `label` in [0,1] says how sure the order is.
    """

    tokens: jax.Array
    positions: jax.Array
    segments: jax.Array
    mask: jax.Array
    reference: jax.Array
    scores: jax.Array
    label: jax.Array
    weight: jax.Array


def assemble(
    preferred: Sequence[Encoded],
    other: Sequence[Encoded],
    pad_id: int,
    *,
    width: int = 0,
    scores: Any = None,
    label: Any = None,
) -> Pairs:
    """[N,2,T] numpy pairs of weight 1 each, with a reference of zeros.

    Args:
      preferred: N dialogues whose answer is preferred.
      other: N with the other answer.
      pad_id: token on padding.
      width: T at least; rounded up, and wide enough for all.
      scores: [N,2,K] in [0,1]; None is K = 0.
      label: [N] in [0,1]; None is 1, sure.

    Raises:
      UsageError: no pair, sides of different number, pairs whose two sides are equal (how many),
        scores or labels of another shape, NaN or outside [0,1].
    """
    count = len(preferred)
    if not count or len(other) != count:
        raise bad("pairs", f"{count} and {len(other)} answers", "as many of each, at least one")
    equal = sum(
        list(a.ids) == list(b.ids) and list(a.mask) == list(b.mask)
        for a, b in zip(preferred, other, strict=True)
    )
    if equal:
        raise bad("pairs", f"{equal} of {count} with two equal answers", "answers that differ")
    points = _unit("scores", scores, (count, 2, None), (count, 2, 0))
    sure = _unit("label", label, (count,), (count,))
    longest = max(width, *(len(one.ids) for one in (*preferred, *other)))
    rows = pad_batch([*preferred, *other], -(-longest // WIDTHS) * WIDTHS, pad_id=pad_id)

    def paired(x: Any) -> Any:
        return np.stack([x[:count], x[count:]], axis=1)

    tokens, positions, segments = map(paired, (rows.tokens, rows.positions, rows.segments))
    mask = paired(np.asarray(rows.weight > 0, np.float32))
    zeros, weights = np.zeros((count, 2), np.float32), np.ones(count, np.float32)
    arrays: tuple[Any, ...] = (tokens, positions, segments, mask, zeros, points, sure, weights)
    return Pairs(*arrays)


def _unit(name: str, given: Any, shape: tuple[int | None, ...], usual: tuple[int, ...]) -> Any:
    """float32 numbers in [0,1] of a shape (None: any size); ones of `usual` where none are given.

    Raises:
      UsageError: another shape, a NaN, a number outside.
    """
    found = np.ones(usual, np.float32) if given is None else np.asarray(given, np.float32)
    fits = len(found.shape) == len(shape) and all(
        want in (None, have) for want, have in zip(shape, found.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("K" if size is None else str(size) for size in shape)
        raise bad(f"pairs.{name}", found.shape, f"the shape ({wanted})")
    wrong = found[~((found >= 0) & (found <= 1))]
    if wrong.size:
        given = f"{wrong.size} of {found.size} such as {float(wrong[0])}"
        raise bad(f"pairs.{name}", given, "numbers from 0 to 1")
    return found


def answer_logps(model: Model, every: Variables, pairs: Pairs, shards: int = 1) -> jax.Array:
    """[B,2] log-probability of each whole answer, in nats, through adapters if there are some."""
    shape = pairs.tokens.shape
    tokens, positions, segments = (
        x.reshape(-1, shape[-1]) for x in (pairs.tokens, pairs.positions, pairs.segments)
    )
    layers = LayerInputs(adapters=every.get("adapters"))
    out = model.apply(
        every["base"], tokens, positions, segments=segments, packed=False, layers=layers
    )
    logp = token_logp(
        out.hidden, model.head(every["base"]), tokens, shards=shards, cap=model.config.logit_cap
    )
    return jnp.sum(logp.reshape(shape) * pairs.mask, axis=-1)


def referred(
    model: Model,
    every: Mapping[str, Any],
    pairs: Pairs,
    rows: int = 8,
    mesh: Mesh | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """[N,2] `answer_logps`, `rows` pairs at a time.

    Args:
      model: the model.
      every: variables of the reference.
      pairs: N.
      rows: pairs of a pass; with a mesh a multiple of its rows is taken.
      mesh: where the variables live.
      report: hears after each pass how many pairs are done; may raise to end it.
    """
    shards = sharding.rows(mesh)
    rows = -(-rows // shards) * shards
    told, count, compute = [], pairs.tokens.shape[0], _scorer(model, shards)
    for start in range(0, count, rows):
        index = np.arange(start, start + rows) % count  # the last call is filled with others
        part = jax.tree.map(lambda x, index=index: x[index], pairs)
        if mesh is not None:
            part = sharding.global_batch(mesh, part)
        told.append(trees.host(compute(dict(every), part)))
        report(min(start + rows, count))
    return np.concatenate(told)[:count]


@cache  # compiled once for all checkpoints
def _scorer(model: Model, shards: int) -> Any:
    return jax.jit(partial(answer_logps, model, shards=shards))


@cache  # equal stages share a compiled step: see `Stage`
def pair_loss(model: Model, settings: Preference, shards: int = 1) -> LossFn:
    """The loss of `losses.preference` on batches of `Pairs`; metrics "margin" and "preferred".

    Args:
      model: the model.
      settings: form and constants; K of its weights is that of the pairs' scores.
      shards: how many devices share the rows, see `losses.logprobs.nll`.
    """

    def loss(params: Any, frozen: Any, batch: Pairs, key: jax.Array) -> Any:
        del key
        told = answer_logps(model, trees.combine(params, frozen), batch, shards)
        return preference(
            settings,
            told,
            batch.reference,
            batch.weight,
            scores=batch.scores,
            label=batch.label,
            sizes=jnp.sum(batch.mask, axis=-1),
        )

    return loss


def batches(pairs: Pairs, rows: int, seed: int) -> Any:
    """`Stage.batches`: `rows` of the pairs by (seed, step), which weigh 1 together."""

    def drawn(variables: Variables, step: int) -> Pairs:
        del variables
        index = indices(seed, step, rows, pairs.tokens.shape[0])
        found = jax.tree.map(lambda x: x[index], pairs)
        return replace(found, weight=np.full(rows, 1 / rows, np.float32))

    return drawn

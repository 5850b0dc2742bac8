"""What many prompts have in common: a beginning that is read once, and a shape that is compiled.

Keys and values of a beginning, a system's turn or examples, are a cache of one row, of which
`spread` makes the cache of a batch whose prompts go on from there. Answers change by rounding only.
Letters: S tokens that all prompts begin with, B sequences, P prompt slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.adapters.routing import POOLED
from jaxsafety.models.api import Cache, LayerInputs, Model, init_cache
from jaxsafety.sampling import engine

PyTree = Any
LEAST = 16  # tokens; fewer save less than they cost to keep apart
COMPILING = 1024  # tokens that could be read while one more shape is compiled


def common(prompts: Sequence[Sequence[int]]) -> int:
    """S, how many ids all prompts begin with; each keeps one of its own."""
    if len(prompts) < 2:
        return 0
    first, last = min(map(tuple, prompts)), max(map(tuple, prompts))
    most = min(map(len, prompts)) - 1
    return next((i for i in range(most) if first[i] != last[i]), most)


def worth(model: Model, layers: LayerInputs, prompts: Sequence[Sequence[int]], rows: int) -> int:
    """S if reading it once saves more than it costs, else 0.

    Args:
      model: the model. One whose layers have windows counts slots, between which nothing may be.
      layers: what varies per layer; a router that decides once per prompt needs the whole prompt.
      prompts: token ids.
      rows: how many of them are read in all; a prompt counts as often as it is read.
    """
    routed = layers.adapters is not None and "router" in layers.adapters
    if any(model.config.windows) or (routed and layers.routing.level in POOLED):
        return 0
    length = common(prompts)
    return length if length >= LEAST and length * rows >= COMPILING else 0


def read(
    model: Model, params: PyTree, ids: Sequence[int], layers: LayerInputs, steer: str
) -> Cache:
    """The cache after these ids [S], one row."""
    return _read(model, params, np.asarray(ids, np.int32), layers, steer)


@partial(jax.jit, static_argnames=("model", "steer"))
def _read(model, params, ids, layers, steer) -> Any:
    length = ids.shape[0]
    cache = init_cache(model.config, 1, length, jnp.dtype(model.config.dtype))
    row = jnp.ones((1, length), jnp.int32)
    first, _ = engine.phases(layers, row > 0, steer)
    places = jnp.arange(length, dtype=jnp.int32)[None]
    return model.apply(params, ids[None], places, segments=row, cache=cache, layers=first).cache


def spread(head: Cache, rows: int, more: int) -> Cache:
    """The cache of `rows` sequences that all begin so, with `more` empty slots."""

    def slots(x: jax.Array, axis: int) -> jax.Array:
        wide = jnp.broadcast_to(x, (x.shape[0], rows, *x.shape[2:]))
        return jnp.pad(wide, [(0, more if i == axis else 0) for i in range(x.ndim)])

    def pair(k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        return slots(k, 4), slots(v, 3)

    k, v = pair(head.k, head.v)
    segments = jnp.broadcast_to(head.segments, (rows, head.segments.shape[1]))
    return replace(
        head,
        k=k,
        v=v,
        segments=jnp.pad(segments, ((0, 0), (0, more))),
        gate=None if head.gate is None else pair(*head.gate),
    )


def spans(
    lengths: Sequence[int], batch_size: int, widths: Sequence[int], model: Model
) -> list[int]:
    """The width of every call, of rows with these descending lengths.

    Where steps are unrolled, a shape costs seconds: what would save fewer tokens than could be read
    meanwhile rides in the width before.
    """
    found = [next(w for w in widths if w >= length) for length in lengths[::batch_size]]
    if model.config.unroll:
        rest = sum(found) - sum(
            found[:1]
        )  # widths of the calls from i on, none above the one before
        for i in range(1, len(found)):
            own = found[i]
            if (found[i - 1] * (len(found) - i) - rest) * batch_size < COMPILING:
                found[i] = found[i - 1]
            rest -= own
    return found

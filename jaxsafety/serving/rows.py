"""Rows of a running batch: requests are seated and leave while the others go on.

All rows share the cache's write position, as everywhere in the sampler. A request that comes later
has its prompt written into the slots that *end* there, so that its next token falls into the slot
of everybody's next token; its RoPE positions are its own. When the slots run out, all rows move
left: what a row attends to does not depend on where it lies. So a step is `engine.step`, with one
compiled program for all requests.

Letters: B rows, S slots of the cache, G rows of a prefill, P its prompt slots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.data.schema import PromptBatch
from jaxsafety.models.api import Cache, LayerInputs, Model
from jaxsafety.sampling import engine

PyTree = Any


class Static(NamedTuple):
    """What a program does not take as an array: the model, its stop ids, where it is steered."""

    model: Model
    stop: tuple[int, ...]
    steer: str


@partial(jax.jit, static_argnames="static")
def read(
    params: PyTree, prompts: PromptBatch, knobs: engine.Knobs, layers: LayerInputs, static: Static
) -> engine.State:
    """The state of G new rows after their prompts, with their first token; a cache of P slots."""
    first, _ = engine.phases(layers, prompts.mask, static.steer)
    return engine.prefill(static.model, params, prompts, knobs, first, room=0, stop=static.stop)


def blank(like: engine.State, rows: int, slots: int) -> engine.State:
    """A state of `rows` empty rows and `slots` slots, with the parts that `like` has."""
    assert like.cache is not None
    sized = _sized(like.cache, lambda x, row, slot: _zeros(x, row, rows, slot, slots))
    zeros = lambda x: jnp.zeros(rows, x.dtype)  # noqa: E731
    return engine.State(
        cache=replace(sized, length=jnp.zeros((), jnp.int32)),
        token=zeros(like.token),
        logp=zeros(like.logp),
        position=zeros(like.position),
        count=zeros(like.count),
        finished=jnp.ones(rows, bool),
    )


@partial(jax.jit, donate_argnames="state")
def seat(state: engine.State, new: engine.State, rows: Any) -> engine.State:
    """Puts G new rows at `rows` [G], their prompts' ends at the write position.

    Args:
      state: of B rows; its write position is P or more.
      new: of `read`.
      rows: where; a row named twice is the same request twice.
    """
    assert state.cache is not None and new.cache is not None
    width = new.cache.segments.shape[1]
    at = state.cache.length - width

    def put(old: Any, own: Any, row: int, slot: int | None) -> Any:
        if slot is None:  # no slots: the row's alone
            return old.at[(slice(None),) * row + (rows,)].set(own)
        for index in range(own.shape[row]):
            begin = [jnp.zeros((), jnp.int32)] * old.ndim
            begin[row], begin[slot] = rows[index], at
            part = jax.lax.slice_in_dim(own, index, index + 1, axis=row)
            old = jax.lax.dynamic_update_slice(old, part.astype(old.dtype), begin)
        return old

    emptied = replace(state.cache, segments=state.cache.segments.at[rows].set(0))
    cache = _paired(emptied, new.cache, put)
    set_rows = lambda old, own: old.at[rows].set(own)  # noqa: E731
    return engine.State(
        cache=replace(cache, length=state.cache.length),
        token=set_rows(state.token, new.token),
        logp=set_rows(state.logp, new.logp),
        position=set_rows(state.position, new.position),
        count=set_rows(state.count, new.count),
        finished=set_rows(state.finished, new.finished),
    )


@partial(jax.jit, static_argnames="static", donate_argnames="state")
def advance(
    params: PyTree,
    state: engine.State,
    free: Any,
    knobs: engine.Knobs,
    layers: LayerInputs,
    static: Static,
) -> engine.State:
    """A token for every row but those that are `free` [B]."""
    _, later = engine.phases(layers, jnp.ones((1, 1), bool), static.steer)
    state = replace(state, finished=jnp.asarray(free))
    return engine.step(static.model, params, state, knobs, later, stop=static.stop)


@partial(jax.jit, donate_argnames="state")
def move(state: engine.State, by: Any) -> engine.State:
    """Moves all rows by so many slots, to the left where that is negative."""
    assert state.cache is not None
    rolled = _sized(
        state.cache, lambda x, row, slot: x if slot is None else jnp.roll(x, by, axis=slot)
    )
    length = state.cache.length + by
    slots = jnp.arange(state.cache.segments.shape[1])
    segments = jnp.where(slots < length, rolled.segments, 0)  # what went round is nobody's
    return replace(state, cache=replace(rolled, segments=segments, length=length))


@partial(jax.jit, static_argnames="slots")
def widen(state: engine.State, slots: int) -> engine.State:
    """The same rows with more slots."""

    def longer(x: Any, row: int, slot: int | None) -> Any:
        if slot is None:
            return x
        room = [(0, slots - x.shape[slot] if axis == slot else 0) for axis in range(x.ndim)]
        return jnp.pad(x, room)

    assert state.cache is not None
    return replace(state, cache=_sized(state.cache, longer))


def _zeros(x: Any, row: int, rows: int, slot: int | None, slots: int) -> Any:
    shape = list(x.shape)
    shape[row] = rows
    if slot is not None:
        shape[slot] = slots
    return jnp.zeros(shape, x.dtype)


# Axes of `Cache`'s arrays: rows, and slots where there are any.
K, V, SEGMENTS, ROUTES = (1, 4), (1, 3), (0, 1), (1, None)


def _sized(cache: Cache, change: Callable[[Any, int, int | None], Any]) -> Cache:
    """A cache of changed arrays; `change` hears their row axis and their slot axis."""
    gate = cache.gate
    return replace(
        cache,
        k=change(cache.k, *K),
        v=change(cache.v, *V),
        segments=change(cache.segments, *SEGMENTS),
        routes=None if cache.routes is None else change(cache.routes, *ROUTES),
        gate=None if gate is None else (change(gate[0], *K), change(gate[1], *V)),
    )


def _paired(
    cache: Cache, other: Cache, change: Callable[[Any, Any, int, int | None], Any]
) -> Cache:
    """As `_sized`, of two caches with the same parts."""
    own = iter(
        [other.k, other.v, other.segments]
        + ([] if other.routes is None else [other.routes])
        + ([] if other.gate is None else list(other.gate))
    )
    return _sized(cache, lambda x, row, slot: change(x, next(own), row, slot))


def knobs_of(keys: Any, temperature: np.ndarray, top_p: np.ndarray, free: np.ndarray) -> Any:
    """`engine.Knobs` of B rows, of which the free ones neither draw nor are cut."""
    heat, share = np.where(free, 0.0, temperature), np.where(free, 1.0, top_p)
    return engine.turn(keys, heat.tolist(), share.tolist())

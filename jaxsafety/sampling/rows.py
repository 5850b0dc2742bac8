"""Rows of a running batch: prompts are seated in them and leave while the others go on.

Every row has a write position of its own. Its tokens lie from slot 0 on without a gap, prompt and
answer, so what it computes depends on itself and on the shapes, not on who sits beside it or when
it came: where shapes are fixed, the same prompt gets the same numbers in any company. A step is
`engine.step`, with one compiled program for all rows; `serving.batcher` and `sampling.continuous`
drive them.

Letters: B rows, S slots of the cache, G prompts of a `read`, and rows that are seated at once, P
slots of its cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.data.schema import PromptBatch
from jaxsafety.models.api import Cache, LayerInputs, Model
from jaxsafety.sampling import engine, heads
from jaxsafety.sampling.engine import Call

PyTree = Any


@partial(jax.jit, static_argnames=("model", "steer"))
def read(
    params: PyTree,
    prompts: PromptBatch,
    layers: LayerInputs,
    model: Model,
    steer: str,
    head: Cache | None = None,
) -> engine.Read:
    """G prompts, in a cache of P slots: one program for answers of any length and number.

    Args:
      params: of the model.
      prompts: left-padded.
      layers: see `engine.phases`.
      model: static.
      steer: static, see `engine.phases`.
      head: what all prompts begin with, see `heads`; P counts it.
    """
    first, _ = engine.phases(layers, prompts.mask, steer)
    rows, width = prompts.tokens.shape
    begun = None if head is None else heads.spread(head, rows, width)
    return engine.read(model, params, prompts, first, room=0, begun=begun)


def blank(like: engine.Read, rows: int, slots: int) -> engine.State:
    """A state of `rows` empty rows and `slots` slots, with the parts that `like` has.

    Not a program, which there would be one of for every width that prompts are read with.
    """
    sized = _sized(like.cache, lambda x, row, slot: _zeros(x, row, rows, slot, slots))
    whole = partial(jnp.zeros, rows, jnp.int32)  # each its own: they are given away one by one
    return engine.State(
        cache=replace(sized, length=whole()),
        token=whole(),
        logp=jnp.zeros(rows, jnp.float32),
        position=whole(),
        count=whole(),
        finished=jnp.ones(rows, bool),
    )


def seat(
    state: engine.State, found: engine.Read, which: Any, rows: Any, knobs: engine.Knobs, call: Call
) -> engine.State:
    """Puts G rows at `rows` [G], their prompts from slot 0 on, with their first token.

    Layers whose caches lie apart are filled one by one, by one program: compiling thirty of them
    into one takes seconds, for every width that prompts are read with.

    Args:
      state: of B rows, with P slots or more; given away.
      found: of `read`.
      which: [G], the prompt of each row.
      rows: where; a row named twice is the same request twice.
      knobs: of the G rows, keys as `key_data`.
      call: static; its `room` does not count.
    """
    assert state.cache is not None
    old, own = state.cache, found.cache
    if not isinstance(old.k, tuple):
        return _seat(state, found, which, rows, knobs, call)[0]
    state = replace(state, cache=replace(old, k=(), v=()))
    found = replace(found, cache=replace(own, k=(), v=()))
    state, order = _seat(state, found, which, rows, knobs, call)
    each = partial(_put, which=which, rows=rows, order=order)
    assert state.cache is not None
    cache = replace(
        state.cache,
        k=tuple(each(a, b, axes=K) for a, b in zip(old.k, own.k, strict=True)),
        v=tuple(each(a, b, axes=V) for a, b in zip(old.v, own.v, strict=True)),
    )
    return replace(state, cache=cache)


@partial(jax.jit, static_argnames="call", donate_argnames="state")
def _seat(
    state: engine.State, found: engine.Read, which: Any, rows: Any, knobs: engine.Knobs, call: Call
) -> tuple[engine.State, jax.Array]:
    """`seat` of all that there is, and the order [G,P] that puts a prompt's padding behind it."""
    assert state.cache is not None
    segments, logits, lengths = (
        jnp.take(x, which, axis=0, mode="clip")
        for x in (found.cache.segments, found.logits, found.lengths)
    )
    own = engine.Read(found.cache, logits, lengths)
    new = engine.begin(own, engine.typed(knobs), stop=call.stop, banned=call.banned)
    order = jnp.argsort(segments <= 0, axis=1, stable=True)
    emptied = replace(state.cache, segments=state.cache.segments.at[rows].set(0))
    cache = _paired(
        emptied,
        found.cache,
        lambda old, own, row, slot: _put(old, own, which, rows, order, (row, slot)),
    )
    set_rows = lambda old, own: old.at[rows].set(own)  # noqa: E731
    return engine.State(
        cache=replace(cache, length=set_rows(state.cache.length, (segments > 0).sum(axis=1))),
        token=set_rows(state.token, new.token),
        logp=set_rows(state.logp, new.logp),
        position=set_rows(state.position, new.position),
        count=set_rows(state.count, new.count),
        finished=set_rows(state.finished, new.finished),
    ), order


@partial(jax.jit, static_argnames="axes", donate_argnames="old")
def _put(
    old: jax.Array, own: jax.Array, which: Any, rows: Any, order: Any, axes: tuple[int, int | None]
) -> jax.Array:
    """An array of a cache with G rows of another's, see `_seat`; axes: of rows, and of slots."""
    row, slot = axes
    own = jnp.take(own, which, axis=row, mode="clip")
    place: list[Any] = [slice(None)] * old.ndim
    place[row] = rows
    if slot is not None:
        shape = [1] * own.ndim
        shape[row], shape[slot] = order.shape
        own = jnp.take_along_axis(own, order.reshape(shape), axis=slot, mode="clip")
        place[slot] = slice(own.shape[slot])
    return old.at[tuple(place)].set(own.astype(old.dtype))


@partial(jax.jit, static_argnames="call", donate_argnames="state")
def advance(
    params: PyTree,
    state: engine.State,
    free: Any,
    knobs: engine.Knobs,
    layers: LayerInputs,
    call: Call,
) -> engine.State:
    """A token for every row but those that are `free` [B]; keys come as `key_data`."""
    _, later = engine.phases(layers, jnp.ones((1, 1), bool), call.steer)
    state = replace(state, finished=jnp.asarray(free))
    how = {"stop": call.stop, "banned": call.banned}
    return engine.step(call.model, params, state, engine.typed(knobs), later, **how)


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
    return _paired(cache, cache, lambda x, _, row, slot: change(x, row, slot))


def _paired(
    cache: Cache, other: Cache, change: Callable[[Any, Any, int, int | None], Any]
) -> Cache:
    """As `_sized`, of two caches with the same parts."""

    def each(x: Any, own: Any, axes: tuple[int, int | None]) -> Any:  # of all layers, or of each
        return jax.tree.map(lambda a, b: change(a, b, *axes), x, own)

    gate = None
    if cache.gate is not None and other.gate is not None:
        gate = each(cache.gate[0], other.gate[0], K), each(cache.gate[1], other.gate[1], V)
    return replace(
        cache,
        k=each(cache.k, other.k, K),
        v=each(cache.v, other.v, V),
        segments=each(cache.segments, other.segments, SEGMENTS),
        routes=None if cache.routes is None else each(cache.routes, other.routes, ROUTES),
        gate=gate,
    )


def knobs_of(keys: Any, temperature: np.ndarray, top_p: np.ndarray, free: np.ndarray) -> Any:
    """`engine.Knobs` of B rows, of which the free ones neither draw nor are cut."""
    heat, share = np.where(free, 0.0, temperature), np.where(free, 1.0, top_p)
    return engine.turn(keys, heat.tolist(), share.tolist())

"""Continuous batching of many prompts: a row that has ended gives its place to the next prompt.

The prompts come in groups, longest first. A group is read once, and its rows, all samples of its
prompts, are seated lot by lot in rows that are free (see `rows`); the batch steps on until as many
have ended as the next lot needs. Which prompts share a group, its width and the cache's do not
depend on what an earlier start found already, so an answer is the same whether or not the others
are made again.

Letters: B rows, G prompts of a group and rows of a lot, T new tokens at most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxsafety.core import trees
from jaxsafety.data.schema import Answer, PromptBatch
from jaxsafety.models.api import Cache, LayerInputs
from jaxsafety.sampling import engine, rows
from jaxsafety.sampling.engine import Call

PyTree = Any
LEAST = 16  # tokens at most; shorter answers end together, and nobody waits for a place
SHARE = 8  # a lot is this part of the rows: fewer are read slowly, for more they wait
PIECE = 64  # steps between two looks at the host, where no row ends before


class Lot(NamedTuple):
    """Rows that are seated at once, of one group; all arrays are of G rows.

    Attributes:
      numbers: of the rows, G or fewer; what follows repeats the last one.
      group: the number of their group.
      prompts: makes the group's prompts [G,P], when the first of its lots comes.
      which: [G] int32, the prompt of each row.
      keys: [G,...], `prompts.key_data`.
    """

    numbers: Sequence[int]
    group: int
    prompts: Callable[[], PromptBatch]
    which: np.ndarray
    keys: np.ndarray


@struct.dataclass
class Running:
    """B rows and what they said so far.

    state: `finished` where a row ended, by a stop id or by its length; stopped [B] bool, by a stop
    id; made [B] int32, tokens so far, a stop id counted; tokens and logp [B,T].
    """

    state: engine.State
    stopped: jax.Array
    made: jax.Array
    tokens: jax.Array
    logp: jax.Array


def size(batch_size: int) -> int:
    """G, prompts of a group and rows of a lot."""
    return max(1, batch_size // SHARE)


def stretches(spans: Sequence[int], beside: int, least: int) -> list[range]:
    """Lots that share a cache: it is halved once the rest, `least` lots or more, needs less.

    Args:
      spans: the width of every lot, none wider than the one before.
      beside: slots of the cache beside a lot's own.
      least: lots that make it worth to let all rows end first, and to compile another step.
    """
    found, start = [], 0
    for i, span in enumerate(spans):
        if 2 * (span + beside) <= spans[start] + beside and len(spans) - i >= least:
            found.append(range(start, i))
            start = i
    return [*found, range(start, len(spans))]


def answers(
    call: Call,
    params: PyTree,
    split: PyTree,
    layers: LayerInputs,
    lots: Sequence[Lot],
    *,
    batch_size: int,
    slots: int,
    heat: float,
    share: float,
    head: Cache | None = None,
    look: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, Answer]]:
    """What every prompt is answered, in the order in which answers end.

    Args:
      call: static options.
      params: of the model, for reading prompts.
      split: the same for steps, `models.api.unstacked` where `model.config.unroll`.
      layers: see `engine.phases`.
      lots: those of a group follow each other.
      batch_size: B, at least G.
      slots: of the cache: the longest prompt and T.
      heat: the temperature; 0 is greedy.
      share: top-p.
      head: what all prompts begin with, see `heads`.
      look: called with (rows that go on, tokens they have on average) between two runs of steps; it
        may raise to end all.
    """
    waiting, group, found = deque(lots), -1, None
    seats: list[int | None] = [None] * batch_size
    running: Running | None = None
    keys = np.zeros((batch_size, *lots[0].keys.shape[1:]), lots[0].keys.dtype)
    while waiting or any(seat is not None for seat in seats):
        free = [i for i, seat in enumerate(seats) if seat is None]
        while waiting and len(free) >= size(batch_size):
            lot = waiting.popleft()
            if found is None or lot.group != group:
                group, found = lot.group, None  # before the next one: its cache is let go
                found = rows.read(params, lot.prompts(), layers, call.model, call.steer, head)
            if running is None:
                running = _blank(found, batch_size, slots, call.room)
            taken, free = free[: len(lot.numbers)], free[len(lot.numbers) :]
            at = np.asarray(taken + [taken[-1]] * (len(lot.which) - len(taken)), np.int32)
            knobs = engine.turn(lot.keys, heat, share)
            running = _seat(running, found, lot.which, at, knobs, call)
            keys[at] = lot.keys
            for row, number in zip(taken, lot.numbers, strict=True):
                seats[row] = number
        found = found if waiting else None
        assert running is not None
        # A copy: a program may read what it was called with later, when others sit in these rows.
        knobs = engine.turn(keys.copy(), heat, share)
        enough = size(batch_size) if waiting else batch_size
        now: Running = _go(split, running, knobs, layers, np.int32(enough), np.int32(PIECE), call)
        running = now
        ended, made = trees.host(now.state.finished), trees.host(now.made)
        taken = [(row, number) for row, number in enumerate(seats) if number is not None]
        if any(ended[row] for row, _ in taken):
            stopped, said, logp = (trees.host(x) for x in (now.stopped, now.tokens, now.logp))
            for row, number in taken:
                if ended[row]:
                    seats[row] = None
                    count, end = int(made[row]), bool(stopped[row])
                    ids, scores = said[row, : count - end].tolist(), logp[row, :count].tolist()
                    yield number, Answer(ids, end, scores)
        on = [int(made[row]) for row, seat in enumerate(seats) if seat is not None]
        if look is not None and on:
            look(len(on), round(sum(on) / len(on)))


def _blank(like: engine.Read, count: int, slots: int, room: int) -> Running:
    """Rows that nobody has yet."""
    return Running(
        state=rows.blank(like, count, slots),
        stopped=jnp.zeros(count, bool),
        made=jnp.zeros(count, jnp.int32),
        tokens=jnp.zeros((count, room), jnp.int32),
        logp=jnp.zeros((count, room), jnp.float32),
    )


def _seat(
    running: Running, found: engine.Read, which: Any, at: Any, knobs: engine.Knobs, call: Call
) -> Running:
    """Puts G new rows at `at` [G], with their first token: see `rows.seat`."""
    state = rows.seat(running.state, found, which, at, knobs, call)
    begun = _begin(replace(running, state=replace(state, cache=None)), at, call.room)
    return replace(begun, state=replace(begun.state, cache=state.cache))


@partial(jax.jit, static_argnames="room", donate_argnames="running")
def _begin(running: Running, at: Any, room: int) -> Running:
    """The first token of the rows at `at`, in what they said; without a cache."""
    state = running.state
    stopped = state.finished[at]
    return Running(
        state=replace(state, finished=state.finished.at[at].set(stopped | (room == 1))),
        stopped=running.stopped.at[at].set(stopped),
        made=running.made.at[at].set(1),
        tokens=running.tokens.at[at, 0].set(state.token[at]),
        logp=running.logp.at[at, 0].set(state.logp[at]),
    )


@partial(jax.jit, static_argnames="call", donate_argnames="running")
def _go(
    params: PyTree,
    running: Running,
    knobs: engine.Knobs,
    layers: LayerInputs,
    enough: Any,
    most: Any,
    call: Call,
) -> Running:
    """Steps until `enough` rows have ended, or `most` of them; a free row counts as ended."""
    knobs = engine.typed(knobs)
    _, later = engine.phases(layers, jnp.ones((1, 1), bool), call.steer)
    every = jnp.arange(len(running.made))

    def unfinished(carry: tuple[jax.Array, Running]) -> jax.Array:
        steps, now = carry
        return (steps < most) & (now.state.finished.sum() < enough)

    def step(carry: tuple[jax.Array, Running]) -> tuple[jax.Array, Running]:
        steps, now = carry
        over = now.state.finished
        state = engine.step(
            call.model, params, now.state, knobs, later, stop=call.stop, banned=call.banned
        )
        at = jnp.where(over, call.room, now.made)  # what has ended says nothing: it is dropped
        made = jnp.where(over, now.made, now.made + 1)
        after = Running(
            state=replace(state, finished=state.finished | (made >= call.room)),
            stopped=now.stopped | (state.finished & ~over),
            made=made,
            tokens=now.tokens.at[every, at].set(state.token, mode="drop"),
            logp=now.logp.at[every, at].set(state.logp, mode="drop"),
        )
        return steps + 1, after

    return jax.lax.while_loop(unfinished, step, (jnp.zeros((), jnp.int32), running))[1]

"""Continuous batching of many prompts: a row that has ended gives its place to the next prompt.

The prompts come in groups, longest first. A group is read by itself and seated in rows that are
free (see `rows`), and the batch steps on until as many rows have ended as the next group needs.
Which prompts share a group, its width and the cache's do not depend on what an earlier start found
already, so an answer is the same whether or not the others are made again.

Letters: B rows, G rows of a group, T new tokens at most.
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
SHARE = 8  # a group is this part of the rows: fewer are read slowly, for more they wait
PIECE = 64  # steps between two looks at the host, where no row ends before


class Group(NamedTuple):
    """Prompts that are read at once: their numbers, and tokens, mask and keys of G rows."""

    numbers: Sequence[int]
    prompts: PromptBatch
    keys: jax.Array


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
    """G, rows of a group."""
    return max(1, batch_size // SHARE)


def stretches(spans: Sequence[int], beside: int, least: int) -> list[range]:
    """Groups that share a cache: it is halved once the rest, `least` groups or more, needs less.

    Args:
      spans: the width of every group, none wider than the one before.
      beside: slots of the cache beside a group's own.
      least: groups that make it worth to let all rows end first, and to compile another step.
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
    groups: Sequence[Callable[[], Group]],
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
      groups: made when their turn comes; all of G rows, the last number's row repeated.
      batch_size: B, at least G.
      slots: of the cache: the longest prompt and T.
      heat: the temperature; 0 is greedy.
      share: top-p.
      head: what all prompts begin with, see `heads`.
      look: called with (rows that go on, tokens they have on average) between two runs of steps; it
        may raise to end all.
    """
    waiting = deque(groups)
    seats: list[int | None] = [None] * batch_size
    running: Running | None = None
    data = np.array(jax.random.key_data(jax.random.split(jax.random.key(0), batch_size)))
    while waiting or any(seat is not None for seat in seats):
        free = [i for i, seat in enumerate(seats) if seat is None]
        while waiting and len(free) >= size(batch_size):
            group = waiting.popleft()()
            knobs = engine.turn(group.keys, heat, share)
            new = rows.read(params, group.prompts, knobs, layers, call._replace(room=0), head)
            taken, free = free[: len(group.numbers)], free[len(group.numbers) :]
            at = taken + [taken[-1]] * (len(group.keys) - len(taken))
            if running is None:
                running = _blank(rows.blank(new, batch_size, slots), call.room)
            running = _seat(running, new, np.asarray(at, np.int32), call.room)
            data[at] = np.asarray(jax.random.key_data(group.keys))
            for row, number in zip(taken, group.numbers, strict=True):
                seats[row] = number
        assert running is not None
        knobs = engine.turn(jax.random.wrap_key_data(jnp.asarray(data)), heat, share)
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


def _blank(state: engine.State, room: int) -> Running:
    """Rows that nobody has yet."""
    count = len(state.token)
    return Running(
        state=state,
        stopped=jnp.zeros(count, bool),
        made=jnp.zeros(count, jnp.int32),
        tokens=jnp.zeros((count, room), jnp.int32),
        logp=jnp.zeros((count, room), jnp.float32),
    )


@partial(jax.jit, static_argnames="room", donate_argnames="running")
def _seat(running: Running, new: engine.State, at: Any, room: int) -> Running:
    """Puts G new rows at `at` [G], with their first token."""
    state = rows.seat(running.state, new, at)
    over = new.finished | (room == 1)
    return Running(
        state=replace(state, finished=state.finished.at[at].set(over)),
        stopped=running.stopped.at[at].set(new.finished),
        made=running.made.at[at].set(1),
        tokens=running.tokens.at[at, 0].set(new.token),
        logp=running.logp.at[at, 0].set(new.logp),
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

"""What a guard says next: log-probabilities at the end of prompts, in batches of few shapes.

Letters: B prompts in a batch, P prompt slots, K tokens that are added at once, V vocabulary.

Prompts of similar length share a left-padded batch whose width is one of few, and a batch that is
not full is filled with copies, so a set of any size compiles a handful of programs. What is read is
the last position alone; a guard that answers in several tokens goes on from the keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxsafety.models.api import Cache, Model, init_cache, unstacked

PyTree = Any
ROWS = 8  # prompts of a batch


@struct.dataclass
class State:
    """Where the rows of a batch stand: cache; position [B] of the next token; logp [B,V] of it."""

    cache: Cache | None  # as `Model.apply` has it; never None
    position: jax.Array
    logp: jax.Array


class Batch(NamedTuple):
    """Prompts that are read together: which of them the rows are, and where they stand.

    `rows` are indices of prompts, one per real row; rows beyond are copies of the last.
    """

    rows: tuple[int, ...]
    state: State


def widths(limit: int) -> tuple[int, ...]:
    """Prompt widths 64, 96, 128, 192, ... up to `limit`, which is always the last."""
    found, size = [], 64
    while size < limit:
        found += [size, size + size // 2]
        size *= 2
    return (*[width for width in found if width < limit], limit)


def longest(model: Model, room: int) -> int:
    """How many tokens a prompt may have beside `room` more."""
    return model.config.max_length - room


def batches(
    model: Model, params: PyTree, prompts: Sequence[Sequence[int]], *, room: int = 1
) -> Iterator[Batch]:
    """Reads prompts, longest first.

    Args:
      model: the guard.
      params: its parameters.
      prompts: token ids, none empty, none longer than `longest`.
      room: how many tokens may be added by `add` and `greedy`, at least 1.
    """
    for rows, tokens, mask in padded(prompts, longest(model, room)):
        yield Batch(rows, _begin(params, tokens, mask, model, room))


def padded(
    prompts: Sequence[Sequence[int]], limit: int
) -> Iterator[tuple[tuple[int, ...], np.ndarray, np.ndarray]]:
    """Prompts as batches, longest first: (which of them, tokens [B,P] left-padded, mask [B,P]).

    Args:
      prompts: token ids, none empty, none longer than `limit`.
      limit: the largest width.
    """
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    allowed = widths(limit)
    size = min(ROWS, 1 << max(len(order) - 1, 0).bit_length())
    for start in range(0, len(order), size):
        rows = tuple(order[start : start + size])
        width = next(w for w in allowed if w >= len(prompts[rows[0]]))
        tokens = np.zeros((size, width), np.int32)
        mask = np.zeros((size, width), bool)
        for row in range(size):
            prompt = prompts[rows[min(row, len(rows) - 1)]]
            tokens[row, width - len(prompt) :] = prompt
            mask[row, width - len(prompt) :] = True
        yield rows, tokens, mask


def positions(mask: jax.Array) -> jax.Array:
    """RoPE positions [B,P] of left-padded prompts."""
    return jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0).astype(jnp.int32)


@partial(jax.jit, static_argnums=(3, 4))
def _begin(params: PyTree, tokens: jax.Array, mask: jax.Array, model: Model, room: int) -> State:
    """The prompts: tokens and mask [B,P]."""
    batch, width = tokens.shape
    cache = init_cache(model.config, batch, width + room, jnp.dtype(model.config.dtype))
    segments = mask.astype(jnp.int32)
    out = model.apply(params, tokens, positions(mask), segments=segments, cache=cache)
    lengths = mask.sum(axis=1).astype(jnp.int32)
    return State(out.cache, lengths, _next(model, params, out.hidden))


def lower(params: PyTree, tokens: Any, mask: Any, model: Model, room: int) -> jax.stages.Lowered:
    """The program that reads a batch, for shapes: every array may be a `jax.ShapeDtypeStruct`."""
    return _begin.lower(params, tokens, mask, model, room)


@partial(jax.jit, static_argnums=3)
def _extend(params: PyTree, state: State, tokens: jax.Array, model: Model) -> State:
    """The same rows with tokens [B,K] behind."""
    params = unstacked(model.config, params) if model.config.unroll else params
    places = state.position[:, None] + jnp.arange(tokens.shape[1], dtype=jnp.int32)
    segments = jnp.ones_like(tokens)
    out = model.apply(params, tokens, places, segments=segments, cache=state.cache)
    logp = _next(model, params, out.hidden)
    return State(out.cache, state.position + tokens.shape[1], logp)


def _next(model: Model, params: PyTree, hidden: jax.Array) -> jax.Array:
    """Log-probabilities [B,V] after the last position of hidden [B,T,D], in float32."""
    return jax.nn.log_softmax(model.unembed(params, hidden[:, -1]), axis=-1)


def add(model: Model, params: PyTree, state: State, tokens: np.ndarray) -> State:
    """The rows after they were given tokens [B,K] more, equally many each."""
    return _extend(params, state, np.asarray(tokens, np.int32), model)


def mass(state: State, ids: Sequence[int]) -> np.ndarray:
    """Probability [B], float64, that the next token is one of `ids`, of the whole vocabulary."""
    return np.exp(np.asarray(state.logp[:, np.asarray(ids)], np.float64)).sum(axis=1)


class Step(NamedTuple):
    """One token of a greedy answer: its ids [B], and the probabilities [B] of the asked-for words.

    `words[i]` is the `mass` of the i-th group of ids before the token was chosen.
    """

    ids: np.ndarray
    words: tuple[np.ndarray, ...]


def greedy(
    model: Model,
    params: PyTree,
    state: State,
    *,
    steps: int,
    stop: Sequence[int],
    words: Sequence[Sequence[int]] = (),
) -> list[Step]:
    """The most likely continuation of every row, until all have said a stop id.

    Args:
      model: the guard.
      params: its parameters.
      state: of a batch.
      steps: at most so many tokens; the batch needs room for one less.
      stop: ids that end an answer. What a row says after its own end means nothing.
      words: groups of ids whose probability is wanted at every step.
    """
    found: list[Step] = []
    ended = np.zeros(len(state.position), bool)
    for number in range(steps):
        ids = np.asarray(state.logp.argmax(axis=-1))
        found.append(Step(ids, tuple(mass(state, group) for group in words)))
        ended |= np.isin(ids, np.asarray(stop, ids.dtype))
        if ended.all() or number + 1 == steps:
            break
        state = add(model, params, state, ids[:, None])
    return found


def texts(tokenizer: Any, steps: Sequence[Step], stop: Sequence[int]) -> list[str]:
    """What each row of a greedy answer says, up to its stop id."""
    rows = np.stack([step.ids for step in steps], axis=1)
    found = []
    for row in rows.tolist():
        end = next((i for i, token in enumerate(row) if token in stop), len(row))
        found.append(tokenizer.decode(row[:end], skip_special=True))
    return found

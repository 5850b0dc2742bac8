"""Log-probabilities of the tokens of a sequence, and which would have been likelier.

They are those of `losses.logprobs.token_logp` on the same sequence. The likeliest next token is
told too, so that one generated token costs a caller no second pass.

Letters: B sequences, T positions, V vocabulary, N likeliest tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import trees
from jaxsafety.data.schema import PromptBatch
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.protocols import Served
from jaxsafety.sampling import engine

TOP = 5  # what the protocol asks for at most
CHUNK = 32  # positions whose logits are alive at once
SIZES = (1, 4, 16)  # sequences of a call


class Scored(NamedTuple):
    """Of T tokens.

    Attributes:
      logp: [T] log p(token t | those before); 0 for the first one.
      top: [T] the likeliest tokens of each place with their log-probabilities, likeliest first.
      next: the same for the place after the last token.
    """

    logp: list[float]
    top: list[list[tuple[int, float]]]
    next: list[tuple[int, float]]


def width_of(tokens: int, limit: int) -> int:
    """The bucket of a sequence: powers of two from 32 on, `limit` at most."""
    width = 32
    while width < tokens:
        width *= 2
    return max(tokens, min(width, limit))


def score(
    model: Model, what: Served, sequences: Sequence[Sequence[int]], limit: int
) -> list[Scored]:
    """Scores sequences, of any lengths; those of one bucket in one call.

    Args:
      model: static.
      what: parameters and what they are served with.
      sequences: token ids, none empty.
      limit: of a sequence.
    """
    found: dict[int, Scored] = {}
    widths = [width_of(len(ids), limit) for ids in sequences]
    for width in sorted(set(widths)):
        which = [index for index, own in enumerate(widths) if own == width]
        for start in range(0, len(which), SIZES[-1]):
            part = which[start : start + SIZES[-1]]
            rows = next(size for size in SIZES if size >= len(part))
            found.update(zip(part, _call(model, what, sequences, part, width, rows), strict=True))
    return [found[index] for index in range(len(sequences))]


def _call(
    model: Model,
    what: Served,
    sequences: Sequence[Sequence[int]],
    part: Sequence[int],
    width: int,
    rows: int,
) -> list[Scored]:
    tokens = np.zeros((rows, width), np.int32)
    mask = np.zeros((rows, width), bool)
    mask[:, -1] = True  # a row of nobody has one token
    for row, index in enumerate(part):
        ids = sequences[index]
        tokens[row, width - len(ids) :] = ids
        mask[row, width - len(ids) :] = True
    batch = PromptBatch(tokens=jnp.asarray(tokens), mask=jnp.asarray(mask))
    logp, best, values = map(
        trees.host, _score(what.params, batch, what.layers, model=model, steer=what.steer)
    )
    result = []
    for row, index in enumerate(part):
        own = slice(width - len(sequences[index]), width)
        pairs = [
            list(zip(map(int, i), map(float, v), strict=True))
            for i, v in zip(best[row, own], values[row, own], strict=True)
        ]
        told = [0.0, *map(float, logp[row, own][:-1])]
        result.append(Scored(told, [[], *pairs[:-1]], pairs[-1]))
    return result


@partial(jax.jit, static_argnames=("model", "steer"))
def _score(
    params: Any, batch: PromptBatch, layers: LayerInputs, *, model: Model, steer: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """[B,T] log-probability of the *next* token; [B,T,N] the likeliest next ones and theirs."""
    first, _ = engine.phases(layers, batch.mask, steer)
    positions = jnp.maximum(jnp.cumsum(batch.mask, axis=1) - 1, 0).astype(jnp.int32)
    out = model.apply(
        params, batch.tokens, positions, segments=batch.mask.astype(jnp.int32), layers=first
    )
    following = jnp.pad(batch.tokens[:, 1:], ((0, 0), (0, 1)))
    size, count = min(CHUNK, out.hidden.shape[1]), min(TOP, model.config.vocab_size)

    def part(at: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        hidden = jax.lax.dynamic_slice_in_dim(out.hidden, at, size, axis=1)
        wanted = jax.lax.dynamic_slice_in_dim(following, at, size, axis=1)
        logits = model.unembed(params, hidden).astype(jnp.float32)
        whole = jax.scipy.special.logsumexp(logits, axis=-1, keepdims=True)
        values, best = jax.lax.top_k(logits, count)
        own = jnp.take_along_axis(logits, wanted[..., None], axis=-1)
        return (own - whole)[..., 0], best, values - whole

    # The last piece begins earlier where pieces do not fill the width; what overlaps is equal.
    width = out.hidden.shape[1]
    starts = [min(at, width - size) for at in range(0, width, size)]
    pieces = jax.lax.map(part, jnp.asarray(starts))
    whole: list[Any] = []
    for piece in pieces:
        shape = (piece.shape[1], width, *piece.shape[3:])
        joined = jnp.zeros(shape, piece.dtype)
        for index, at in enumerate(starts):
            joined = jax.lax.dynamic_update_slice_in_dim(joined, piece[index], at, axis=1)
        whole.append(joined)
    return whole[0], whole[1], whole[2]

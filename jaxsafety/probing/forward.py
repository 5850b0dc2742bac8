"""Batched forward passes over prompts, for probing.

Letters: B prompts in a batch, X prompts in all, P last positions, L layers, D width, V vocabulary,
S prefix tokens, T slots of the rest, C variants of the layer inputs.
Every array that varies between calls (parameters, steering, ablation) is an argument, so scoring a
hundred candidates compiles once per shape.

Prompts of a real chat model begin alike (a system prompt, the template's head) and differ in
length. So long ones are run as: the common prefix once, its keys and values shared by all rows,
then the rest in small batches of similar length. It is the same function of the prompts; the order
in which floats are added differs, so short prompts keep to one padded batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import bad
from jaxsafety.models.api import Cache, LayerInputs, Model, init_cache

PyTree = Any
SHORT = 32  # up to so many slots one padded batch is as fast
ROWS, WIDTH = 4, 8  # of a batch without the prefix: rows, and what its slots are a multiple of


class Pass(NamedTuple):
    """One batch of prompts without their prefix: right-padded tokens and mask [B,T].

    `last` [B]: slot of each row's last token; `rows`: which prompts they are (filled up at the end
    with copies of the last one); `count` of them are real.
    """

    tokens: np.ndarray
    mask: np.ndarray
    last: np.ndarray
    rows: tuple[int, ...]
    count: int


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-softmax over the last axis on the host, in float64."""
    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def batches(
    ids: Sequence[Sequence[int]], batch_size: int, *, multiple: int = 16
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yields left-padded (tokens [B,T] int32, mask [B,T] bool, rows that count), one shape for all.

    The last batch is filled with copies of its last prompt; `rows` says how many are real.

    Raises:
      UsageError: no prompts, or an empty one.
    """
    width = -(-_longest(ids) // multiple) * multiple
    for start in range(0, len(ids), batch_size):
        part = list(ids[start : start + batch_size])
        full = part + [part[-1]] * (batch_size - len(part))
        tokens = np.zeros((batch_size, width), np.int32)
        mask = np.zeros((batch_size, width), bool)
        for row, prompt in enumerate(full):
            tokens[row, width - len(prompt) :] = prompt
            mask[row, width - len(prompt) :] = True
        yield tokens, mask, len(part)


def common_prefix(ids: Sequence[Sequence[int]]) -> list[int]:
    """What all prompts begin with; at least one token of each is left over."""
    first, most = ids[0], min(map(len, ids)) - 1
    differ = (i for i in range(most) if any(other[i] != first[i] for other in ids))
    return list(first[: next(differ, most)])


def passes(ids: Sequence[Sequence[int]], skip: int, ways: int = 1) -> list[Pass]:
    """The prompts without their first `skip` tokens in batches of similar length, longest first.

    Args:
      ids: prompts.
      skip: S, length of the prefix that is run apart.
      ways: devices that rows are split over; a batch has a multiple of it.
    """
    order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), i))
    size, found = -(-ROWS // ways) * ways, []
    for start in range(0, len(order), size):
        part = order[start : start + size]
        full = part + [part[-1]] * (size - len(part))
        width = -(-(len(ids[part[0]]) - skip) // WIDTH) * WIDTH
        tokens = np.zeros((size, width), np.int32)
        mask = np.zeros((size, width), bool)
        for row, index in enumerate(full):
            rest = ids[index][skip:]
            tokens[row, : len(rest)] = rest
            mask[row, : len(rest)] = True
        found.append(Pass(tokens, mask, mask.sum(axis=1) - 1, tuple(full), len(part)))
    return found


def hidden(
    model: Model,
    params: PyTree,
    tokens: jax.Array,
    mask: jax.Array,
    layers: LayerInputs,
    *,
    capture: bool = False,
) -> Any:
    """`model.apply` on a left-padded batch: RoPE positions start at each row's first real token."""
    positions = jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0).astype(jnp.int32)
    return model.apply(
        params,
        tokens,
        positions,
        segments=mask.astype(jnp.int32),
        layers=layers,
        capture=capture,
    )


@partial(jax.jit, static_argnames=("model", "many"))
def _last_logits(model, params, tokens, mask, layers, many):
    """[C,B,V] of left-padded prompts, one variant of the layer inputs after the other."""

    def one(own: LayerInputs) -> jax.Array:
        out = hidden(model, params, tokens, mask, own)
        return model.unembed(params, out.hidden[:, -1]).astype(jnp.float32)

    # Not vmap: fused over the variants, sums would end on another last digit than one alone.
    return jax.lax.map(one, layers) if many else one(layers)[None]


@partial(jax.jit, static_argnames=("model", "many"))
def _prefix(model, params, prefix, layers, many):
    """Keys and values [C,L,1,...] of the prefix [S] under each variant."""
    length = prefix.shape[0]

    def one(own: LayerInputs) -> tuple[jax.Array, jax.Array]:
        cache = init_cache(model.config, 1, length, jnp.dtype(model.config.dtype))
        if length:
            row = jnp.ones((1, length), jnp.int32)
            places = jnp.arange(length, dtype=jnp.int32)[None]
            cache = model.apply(
                params, prefix[None], places, segments=row, cache=cache, layers=own
            ).cache
        return cache.k, cache.v

    return jax.vmap(one)(layers) if many else jax.tree.map(lambda x: x[None], one(layers))


@partial(jax.jit, static_argnames=("model", "many"))
def _after_prefix(model, params, keys, values, tokens, mask, last, layers, many):
    """[C,B,V] after the last token of each row, which continues the prefix of `keys`, `values`."""
    (rows, width), length = tokens.shape, keys.shape[-1]

    def one(k: jax.Array, v: jax.Array, own: LayerInputs) -> jax.Array:
        def room(x: jax.Array, axis: int) -> jax.Array:
            x = jnp.broadcast_to(x, (x.shape[0], rows, *x.shape[2:]))
            return jnp.pad(x, [(0, width if i == axis else 0) for i in range(x.ndim)])

        segments = jnp.pad(jnp.ones((rows, length), jnp.int32), ((0, 0), (0, width)))
        cache = Cache(room(k, 4), room(v, 3), segments, jnp.asarray(length, jnp.int32))
        places = length + jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0).astype(jnp.int32)
        out = model.apply(
            params, tokens, places, segments=mask.astype(jnp.int32), cache=cache, layers=own
        )
        return model.unembed(params, out.hidden[jnp.arange(rows), last]).astype(jnp.float32)

    if many:
        return jax.vmap(one)(keys, values, layers)
    return one(keys[0], values[0], layers)[None]


@partial(jax.jit, static_argnames=("model", "positions"))
def _tail_residuals(model, params, tokens, mask, positions):
    out = hidden(model, params, tokens, mask, LayerInputs(), capture=True)
    return out.residuals[:, :, -positions:].astype(jnp.float32)


def variant_logits(
    model: Model,
    params: PyTree,
    ids: Sequence[Sequence[int]],
    layers: LayerInputs,
    *,
    many: bool = True,
    batch_size: int = 32,
    check: Callable[[], None] | None = None,
) -> np.ndarray:
    """Next-token logits [C,X,V] float32 after each prompt, under C variants of the layer inputs.

    Args:
      model: the model.
      params: its parameters.
      ids: prompts.
      layers: arrays with a leading axis C, such as `ablate` [C,L,D]; without `where` and `pool`.
      many: False if there is one variant, without that axis.
      batch_size: prompts per pass, of short prompts.
      check: called before every pass; may raise to end early.

    Raises:
      UsageError: no prompts, or an empty one.
    """
    check = check or (lambda: None)
    if _longest(ids) <= SHORT:
        parts = []
        for *given, rows in batches(ids, min(batch_size, len(ids))):
            check()
            tokens, mask = sharding.beside(params, given)
            out = _last_logits(model, params, tokens, mask, layers, many)
            parts.append(trees.host(out)[:, :rows])
        return np.concatenate(parts, axis=1)
    check()
    prefix = common_prefix(ids)
    keys, values = _prefix(model, params, np.asarray(prefix, np.int32), layers, many)
    parts, order = [], []
    for part in passes(ids, len(prefix), sharding.rows(sharding.mesh_of(params))):
        check()
        given = sharding.beside(params, (part.tokens, part.mask, part.last))
        out = _after_prefix(model, params, keys, values, *given, layers, many)
        parts.append(trees.host(out)[:, : part.count])
        order += part.rows[: part.count]
    return np.concatenate(parts, axis=1)[:, np.argsort(order)]


def last_logits(
    model: Model,
    params: PyTree,
    ids: Sequence[Sequence[int]],
    layers: LayerInputs = LayerInputs(),
    *,
    batch_size: int = 32,
    check: Callable[[], None] | None = None,
) -> np.ndarray:
    """Next-token logits [X,V] float32 after each prompt; see `variant_logits`."""
    more = {"many": False, "batch_size": batch_size, "check": check}
    return variant_logits(model, params, ids, layers, **more)[0]


def tail_residuals(
    model: Model,
    params: PyTree,
    ids: Sequence[Sequence[int]],
    positions: int,
    *,
    batch_size: int = 32,
) -> Iterator[np.ndarray]:
    """Yields block inputs [L,B,P,D] float32 at the last `positions` positions, batch by batch."""
    if ids and min(map(len, ids)) < positions:
        shortest = f"a prompt of {min(map(len, ids))} tokens"
        raise bad("positions", f"{positions} with {shortest}", "at most the shortest prompt")
    for *given, rows in batches(ids, min(batch_size, len(ids)) or 1):
        tokens, mask = sharding.beside(params, given)
        yield trees.host(_tail_residuals(model, params, tokens, mask, positions))[:, :rows]


def _longest(ids: Sequence[Sequence[int]]) -> int:
    if not ids or min(map(len, ids)) == 0:
        raise bad("prompts", f"{len(ids)} prompts", "at least one, none of them empty")
    return max(map(len, ids))

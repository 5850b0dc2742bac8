"""Batched forward passes over left-padded prompts, for probing.

Letters: B prompts in a batch, X prompts in all, P last positions, L layers, D width, V vocabulary.
Every array that varies between calls (parameters, steering, ablation) is an argument, so scoring a
hundred candidates compiles once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety import sharding, trees
from jaxsafety.errors import bad
from jaxsafety.models.api import LayerInputs, Model

PyTree = Any


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
    if not ids or min(map(len, ids)) == 0:
        raise bad("prompts", f"{len(ids)} prompts", "at least one, none of them empty")
    width = -(-max(map(len, ids)) // multiple) * multiple
    for start in range(0, len(ids), batch_size):
        part = list(ids[start : start + batch_size])
        full = part + [part[-1]] * (batch_size - len(part))
        tokens = np.zeros((batch_size, width), np.int32)
        mask = np.zeros((batch_size, width), bool)
        for row, prompt in enumerate(full):
            tokens[row, width - len(prompt) :] = prompt
            mask[row, width - len(prompt) :] = True
        yield tokens, mask, len(part)


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


@partial(jax.jit, static_argnames=("model",))
def _last_logits(model, params, tokens, mask, layers):
    out = hidden(model, params, tokens, mask, layers)
    return model.unembed(params, out.hidden[:, -1]).astype(jnp.float32)


@partial(jax.jit, static_argnames=("model", "positions"))
def _tail_residuals(model, params, tokens, mask, positions):
    out = hidden(model, params, tokens, mask, LayerInputs(), capture=True)
    return out.residuals[:, :, -positions:].astype(jnp.float32)


def last_logits(
    model: Model,
    params: PyTree,
    ids: Sequence[Sequence[int]],
    layers: LayerInputs = LayerInputs(),
    *,
    batch_size: int = 32,
) -> np.ndarray:
    """Next-token logits [X,V] float32 after each prompt."""
    size = min(batch_size, len(ids)) or 1
    parts = [
        trees.host(_last_logits(model, params, *sharding.beside(params, given), layers))[:rows]
        for *given, rows in batches(ids, size)
    ]
    return np.concatenate(parts)


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

"""Row chunks: run a function of few rows over many rows, keeping only one chunk of logits alive.

Rows of weight 0 are skipped, not multiplied by 0: rows are ordered "weighted first", and the loop
stops after the last chunk that holds one. Prompts, padding and finished completions therefore cost
nothing, while all shapes stay static. What such rows contain (even NaN) cannot matter.

Under a mesh the rows are split over devices. A chunk of neighbouring rows would live on one
device and be computed by all of them; with `shards` > 1 each chunk takes the same share of every
device's rows, and ordering happens inside each share, so no row moves. Letters: N rows, G shards,
R rows of a chunk.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxsafety.core import sharding
from jaxsafety.core.errors import bad

PyTree = Any

CPU_LOGITS = 1_000_000  # floats of one chunk of logits: stays in cache (4M was measured 2x slower)
DEVICE_LOGITS = 1 << 27  # 0.5 GiB in float32: matmuls large enough for a GPU or a TPU
LEAST_ROWS = 128  # below this the matmul is bound by reading the head
_ELSEWHERE: contextvars.ContextVar[bool] = contextvars.ContextVar("elsewhere", default=False)


@contextlib.contextmanager
def on_accelerator() -> Iterator[None]:
    """What is traced inside is meant for an accelerator, whatever this machine is (`plan`)."""
    token = _ELSEWHERE.set(True)
    try:
        yield
    finally:
        _ELSEWHERE.reset(token)


def rows_per_chunk(chunk: int | None, vocab: int, shards: int = 1) -> int:
    """Rows whose logits are alive at once.

    Args:
      chunk: rows, or None to choose from the vocabulary size and the kind of device.
      vocab: V, columns of the head.
      shards: devices the rows are split over; the result is for all of them together.

    Returns:
      A positive number of rows.

    Raises:
      UsageError: `chunk` or `shards` is not a positive integer.
    """
    for name, value in (("chunk", 1 if chunk is None else chunk), ("shards", shards)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            allowed = "a positive integer" + (" or None" if name == "chunk" else "")
            raise bad(name, value, allowed)
    if chunk is not None:
        return chunk
    small = jax.default_backend() == "cpu" and not _ELSEWHERE.get()
    floats = CPU_LOGITS if small else DEVICE_LOGITS
    return max(LEAST_ROWS, floats // max(vocab, 1)) * shards


def loop(
    body: Callable[[PyTree, jax.Array, PyTree], tuple[PyTree, PyTree]],
    carry: PyTree,
    weight: jax.Array,
    rows: PyTree,
    *,
    chunk: int,
    shards: int = 1,
) -> tuple[PyTree, PyTree]:
    """Runs `body` over chunks of rows, skipping chunks in which every weight is 0.

    Args:
      body: `(carry, weight [R], rows [R,...]) -> (carry, outputs [R,...])`, outputs row by row and
        zero where the weight is 0. Rows of weight 0 arrive as zeros.
      carry: what `body` accumulates.
      weight: [N] float32.
      rows: pytree of [N,...] arrays.
      chunk: rows per call of `body`, over all shards.
      shards: devices the rows are split over.

    Returns:
      The last carry and the outputs, [N,...] in the order of the rows.
    """
    num_rows = weight.shape[0]
    if chunk >= num_rows:
        return body(carry, weight, _blank(weight, rows))
    share = -(-num_rows // shards)
    size = -(-chunk // shards)
    count = -(-share // size)
    weight = _grouped(weight, shards, share)
    weight = _pinned(jnp.pad(weight, ((0, 0), (0, count * size - share))))  # [G, count * size]
    rows = jax.tree.map(lambda x: _pinned(_grouped(x, shards, share)), rows)
    order = jnp.argsort(weight == 0, axis=1, stable=True)
    filled = jnp.max(jnp.sum(weight != 0, axis=1))

    def piece(i: jax.Array, carry: PyTree) -> tuple[PyTree, PyTree]:
        index = jax.lax.dynamic_slice_in_dim(order, i * size, size, axis=1)
        here = _pinned(_merged(_pinned(_take(weight, index))))
        picked = jax.tree.map(lambda x: _pinned(_merged(_pinned(_take(x, index)))), rows)
        return body(carry, here, _blank(here, picked))

    def step(i: jax.Array, state: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        def put(into: jax.Array, x: jax.Array) -> jax.Array:
            x = _pinned(x.reshape(shards, size, *x.shape[1:]))
            return jax.lax.dynamic_update_slice_in_dim(into, x, i * size, axis=1)

        carry, out = piece(i, state[0])
        return carry, jax.tree.map(put, state[1], out)

    shapes = jax.eval_shape(piece, jnp.zeros((), jnp.int32), carry)[1]
    room = (shards, count * size)
    store = jax.tree.map(lambda s: _pinned(jnp.zeros((*room, *s.shape[1:]), s.dtype)), shapes)
    carry, store = jax.lax.fori_loop(0, (filled + size - 1) // size, step, (carry, store))
    place = jnp.argsort(order, axis=1)[:, :share]  # where each row went
    return carry, jax.tree.map(lambda x: _merged(_take(x, place))[:num_rows], store)


def _blank(weight: jax.Array, rows: PyTree) -> PyTree:
    """Zeros in the rows of weight 0, so that not even a NaN in them can leak."""

    def blank(x: jax.Array) -> jax.Array:
        on = weight.reshape(-1, *(1,) * (x.ndim - 1)) != 0
        return jnp.where(on, x, jnp.zeros_like(x))

    return jax.tree.map(blank, rows)


def _grouped(x: jax.Array, shards: int, share: int) -> jax.Array:
    """[N,...] -> [G,N/G,...], padded with zeros at the end when G does not divide N."""
    extra = shards * share - x.shape[0]
    if extra:
        x = jnp.pad(x, ((0, extra), *((0, 0),) * (x.ndim - 1)))
    return x.reshape(shards, share, *x.shape[1:])


def _take(x: jax.Array, index: jax.Array) -> jax.Array:
    """Rows of x [G,N/G,...] at [G,R/G]; an index past the end is padding and clips (weight 0)."""
    return jax.vmap(lambda x, i: x.at[i].get(mode="clip"))(x, index)


def _pinned(x: jax.Array) -> jax.Array:
    """Keeps the first axis split over the devices: the compiler forgets it in gathers and loops."""
    return sharding.constrain(x, ("batch", *(None,) * (x.ndim - 1)))


def _merged(x: jax.Array) -> jax.Array:
    """[G,R/G,...] -> [R,...]."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])

"""Weights from disk straight to where they live: one layer of one tensor in memory at a time.

Parameters of all layers are stacked, [L, ...]. A stack is made on the devices, empty and sharded,
and filled layer by layer in place, so the host never holds more than one tensor, whatever the
model's size. Small stacks are put together on the host instead: one transfer, nothing to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

SMALL = 1 << 26  # bytes of a stack that the host may hold
Read = Callable[[int | None], np.ndarray]


def place(
    read: Read,
    shape: tuple[int, ...],
    dtype: np.dtype,
    sharding: NamedSharding | None,
    *,
    stacked: bool,
    small: int = SMALL,
) -> jax.Array:
    """One parameter, on its devices.

    Args:
      read: `layer -> array` of the parameter's shape without its first axis; called with None for
        a parameter that is not stacked, and never for two layers at once.
      shape: of the parameter, the layers first when `stacked`.
      dtype: of the result.
      sharding: where it lives; None is the default device, uncommitted.
      stacked: whether the first axis is the layers.
      small: bytes up to which a stack is put together on the host.

    Returns:
      The array. Each process reads every tensor and keeps the shards of its own devices.
    """
    if not stacked:
        return _split(read(None).astype(dtype, copy=False), sharding)
    if int(np.prod(shape)) * dtype.itemsize <= small:
        whole = np.empty(shape, dtype)
        for layer in range(shape[0]):
            whole[layer] = read(layer)
        return _split(whole, sharding)
    one = _of_layer(sharding)
    fill = jax.jit(_fill, donate_argnums=0, out_shardings=sharding)
    stack = jax.jit(partial(jnp.zeros, shape, dtype), out_shardings=sharding)()
    for layer in range(shape[0]):
        stack = fill(stack, _split(read(layer).astype(dtype, copy=False), one), layer)
        stack.block_until_ready()  # or the host would run ahead and hold many layers
    return stack


def _split(value: np.ndarray, sharding: NamedSharding | None) -> jax.Array:
    if sharding is None:
        return jnp.asarray(value)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def _of_layer(sharding: NamedSharding | None) -> NamedSharding | None:
    """The sharding of one layer of a stack."""
    if sharding is None:
        return None
    spec = PartitionSpec(*tuple(sharding.spec)[1:])
    return NamedSharding(sharding.mesh, spec, memory_kind=sharding.memory_kind)


def _fill(stack: jax.Array, value: jax.Array, layer: int) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(stack, value, layer, 0)

"""Products of few rows on a CPU: kernels lie turned, [outputs, inputs], and stand on the left.

XLA on CPUs packs the right side of a product before it multiplies. With x [M,I] on the left that is
the whole kernel at every step of decoding: twice as much to write and read as to multiply by, while
M is small. With the kernel on the left,

    y = (K x^T)^T,   K [O,I],   y [M,O],

it is read once as it lies and x is packed. XLA knows that both are the same product and would turn
it back; a barrier between the product and its transpose keeps it. From some 256 rows on both take
the same time; at one row the first form is faster, for it packs nothing (docs/decisions.md, 211).
Letters: M rows, I inputs, O outputs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsafety.models.types import ModelConfig

TURNED = "turned"  # stands in the place of "kernel"


def pays(config: ModelConfig, rows: int) -> bool:
    """Whether steps of so many rows are faster so: on a CPU, in float32, of more than one row."""
    return config.unroll and (config.dtype, config.kernels) == ("float32", "float") and rows > 1


@partial(jax.jit, static_argnames="inputs")
def turn(kernel: jax.Array, inputs: int, layer: Any = None) -> jax.Array:
    """A kernel [*in,*out] as [O,I]; that of one layer where [L,*in,*out] are stacked."""
    own = kernel if layer is None else jax.lax.dynamic_index_in_dim(kernel, layer, 0, False)
    return own.reshape(inputs, -1).T


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """y[m,o] = sum_i x[m,i] kernel[o,i], for x [M,I] and a kernel [O,I]; float32 from float32."""
    if len(x) == 1:
        return x @ kernel.T
    y = jax.lax.dot_general(kernel, x, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
    return jax.lax.optimization_barrier(y).T

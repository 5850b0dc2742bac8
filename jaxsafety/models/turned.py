"""Kernels that lie turned, [outputs, inputs], for decoding steps of few rows on a CPU.

XLA on CPUs packs the right side of a product before it multiplies. With x [M,I] on the left that is
the whole kernel, whatever M: twice as much to write and read as to multiply by, while M is small.
With the kernel on the left,

    y = (K x^T)^T,   K [O,I],   y [M,O],

it is read once as it lies, and x is packed; int8 kernels too, whose scales stay what they are. XLA
knows that both are the same product and would turn it back; a barrier between the product and its
transpose keeps it (docs/decisions.md, 211). Letters: L layers, M rows, I inputs, O outputs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsafety.models.types import ModelConfig

MOST = 64  # rows: of more the result takes longer to turn back than the kernel to pack
TURNED = "turned"  # stands in the place of "kernel", or of "kernel_q"


def pays(config: ModelConfig, rows: int) -> bool:
    """Whether steps of so many rows are faster so: on a CPU, in float32, of more than one row."""
    return config.unroll and config.dtype == "float32" and rows > 1


@partial(jax.jit, static_argnames="inputs")
def turn(kernel: jax.Array, inputs: int, layer: Any = None) -> jax.Array:
    """A kernel [*in,*out] as [O,I]; that of one layer where [L,*in,*out] are stacked."""
    own = kernel if layer is None else jax.lax.dynamic_index_in_dim(kernel, layer, 0, False)
    return own.reshape(inputs, -1).T


def product(x: jax.Array, kernel: jax.Array, sums: Any = jnp.float32) -> jax.Array:
    """y[m,o] = sum_i x[m,i] kernel[o,i], for x [M,I] and a kernel [O,I], summed in `sums`.

    On the left is the kernel of 2 to `MOST` rows: for one row nothing is packed.
    """
    multiply = partial(jax.lax.dot_general, preferred_element_type=sums)
    both = (((1,), (1,)), ((), ()))
    if not 1 < len(x) <= MOST:
        return multiply(x, kernel, both)
    return jax.lax.optimization_barrier(multiply(kernel, x, both)).T

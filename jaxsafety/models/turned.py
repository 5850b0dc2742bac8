"""Kernels that lie turned, [outputs, inputs], for decoding steps of few rows on a CPU.

There a product is faster with its kernel on the left (`core/products.py`), if that lies so; int8
kernels too, whose scales stay what they are. Letters: L layers, M rows, I inputs, O outputs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from jaxsafety.core.products import from_left
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


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """y[m,o] = sum_i x[m,i] kernel[o,i], for x [M,I] and a kernel [O,I]; float32 from float32."""
    return from_left(x, kernel) if 1 < len(x) <= MOST else x @ kernel.T

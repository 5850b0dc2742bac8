"""Products that XLA computes faster on CPUs when the large side stands on the left.

XLA on CPUs packs the right side of a product before it multiplies. With x [M,I] on the left that is
the whole kernel, whatever M: twice as much to write and read as to multiply by, while M is small.
With the kernel on the left,

    y = (K x^T)^T,   K [O,I],   y [M,O],

it is read once as it lies, and x is packed. XLA knows that both are the same product and would turn
it back; a barrier between the product and its transpose keeps it. At one row the first form is
faster, for it packs nothing, and from some 256 rows on both take the same time
(docs/decisions.md, 211). Letters: M rows, I inputs, O outputs.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def from_left(x: jax.Array, kernel: jax.Array, sums: Any = jnp.float32) -> jax.Array:
    """y[m,o] = sum_i x[m,i] kernel[o,i], for x [M,I] and a kernel [O,I], summed in `sums`."""
    y = jax.lax.dot_general(kernel, x, (((1,), (1,)), ((), ())), preferred_element_type=sums)
    return jax.lax.optimization_barrier(y).T

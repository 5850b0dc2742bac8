"""Frozen weights as int8 with a scale per output channel, and products with them.

A kernel W [I,O] is kept as W_q = round(W / s), s = max_i |W| / 127 per output, so that an element
is off by at most s / 2. A product quantises its input per token, x_q = round(x / s_x) with
s_x = max |x| / 127, and multiplies int8 by int8 into int32, which is exact: no sum depends on how
it is split, and no weight is ever there in floating point. This is "dynamic" W8A8 (the vector-wise
quantisation of LLM.int8(), arXiv 2208.07339, section 2.1, without its outlier columns). The
gradient with respect to x takes the rounding for the identity (straight-through): dx = (dy s) W_q^T
in the compute dtype. Neither W_q nor s has one: what is int8 is frozen.
Letters: N tokens, I inputs, O outputs, D width, V vocabulary, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsafety.adapters.projection import Projection, in_shape
from jaxsafety.core import trees
from jaxsafety.models import turned
from jaxsafety.models.types import ModelConfig

PyTree = Any
MOST = 127  # symmetric: -128 is not used
EMBED, HEAD = "embed/table", "unembed/kernel"


def contracted(config: ModelConfig, projections: Mapping[str, Projection]) -> dict[str, tuple]:
    """Parameter names of everything that becomes int8 -> the axes its products sum over."""
    found = {
        "/".join(("blocks", *p.path, "kernel")): tuple(range(1, 1 + len(in_shape(p))))
        for p in projections.values()
    }
    return found | {EMBED: (1,)} | ({} if config.tie_embeddings else {HEAD: (0,)})


def names(name: str) -> tuple[str, str]:
    """Where the int8 values of a parameter go, and where their scales."""
    return f"{name}_q", f"{name.rpartition('/')[0]}/scale"


@partial(jax.jit, static_argnums=1)
def rounded(weight: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """(int8 of the shape of `weight`, float32 scales of the axes that are not summed over).

        q = round(weight / s), s = max |weight| / 127;    |weight - q s| <= s / 2

    Ties go to even. A channel of zeros has the scale 0.
    """
    weight = weight.astype(jnp.float32)
    scale = jnp.max(jnp.abs(weight), axis=axes) / MOST
    spread = jnp.expand_dims(jnp.where(scale > 0, scale, 1.0), axes)
    return jnp.round(weight / spread).astype(jnp.int8), scale


def quantise(config: ModelConfig, projections: Mapping[str, Projection], params: PyTree) -> PyTree:
    """The parameters of the same model with `kernels="int8"`, which `params` has not."""
    axes = contracted(config, projections)
    out: dict[str, Any] = {}
    for name, value in zip(trees.paths(params), jax.tree.leaves(params), strict=True):
        if name not in axes:
            trees.insert(out, name, value)
            continue
        for own, part in zip(names(name), rounded(value, axes[name]), strict=True):
            trees.insert(out, own, part)
    return out


def product(
    x: jax.Array, kernel_q: jax.Array, scale: jax.Array, axis: int, dtype: str
) -> jax.Array:
    """The product x W, with W as int8.

        y[n,o] = s_x[n] s[o] sum_i round(x[n,i] / s_x[n]) W_q[i,o],   s_x[n] = max_i |x[n,i]| / 127

    Args:
      x: [N,I], quantised here, each row by itself.
      kernel_q: int8, [I,O], or [O,I] with `axis` 1.
      scale: [O].
      axis: of `kernel_q`, that is summed over.
      dtype: of the result.

    Returns:
      [N,O].
    """
    found: Any = _product(x, kernel_q, scale, axis, dtype)
    return found


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _product(x: jax.Array, kernel_q: jax.Array, scale: jax.Array, axis: int, dtype: str) -> Any:
    rows = x.shape[0]
    whole, own = _quantised(x)
    if rows == 1:  # of one row XLA on CPU makes a product that first converts the whole kernel
        whole = jnp.concatenate([whole, whole])
    sums = jax.lax.dot_general(
        whole, kernel_q, (((1,), (axis,)), ((), ())), preferred_element_type=jnp.int32
    )
    # A row that is no number must not become one in int8.
    return (sums[:rows].astype(jnp.float32) * own * scale).astype(dtype)


def _quantised(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rows [N,I] as int8, and the scale [N,1] of each."""
    x = x.astype(jnp.float32)
    own = jnp.max(jnp.abs(x), axis=1, keepdims=True) / MOST
    return jnp.round(x / jnp.where(own == 0, 1.0, own)).astype(jnp.int8), own


def turned_product(x: jax.Array, kernel_q: jax.Array, scale: jax.Array, dtype: str) -> jax.Array:
    """`product` with a kernel that lies turned, [O,I] (`models/turned.py`); without a gradient."""
    whole, own = _quantised(x)
    sums = turned.product(whole, kernel_q, jnp.int32)
    return (sums.astype(jnp.float32) * own * scale).astype(dtype)


def _forward(x: Any, kernel_q: Any, scale: Any, axis: int, dtype: str) -> tuple:
    return _product(x, kernel_q, scale, axis, dtype), (kernel_q, scale, jnp.zeros((), x.dtype))


def _backward(axis: int, dtype: str, kept: tuple, g: jax.Array) -> tuple:
    del dtype
    kernel_q, scale, like = kept
    kernel = kernel_q.astype(like.dtype)
    g = (g.astype(jnp.float32) * scale).astype(like.dtype)
    return g @ (kernel if axis else kernel.T), None, None


_product.defvjp(_forward, _backward)

"""A loss on logits fused with the unembedding: the gradient is computed in the forward pass.

Autodiff would keep the logits [N,V] for the backward pass, `jax.checkpoint` would compute them
twice. Here each chunk of rows makes its logits, the per-row loss *and* the closed-form gradient
with respect to the logits, and multiplies it by the head at once. Left for the backward pass is
[N,D] (and [D,V] if the head is trained), to be scaled by one number. For a loss against a teacher
with a frozen head that is three matmuls instead of five, and memory O(chunk x V). The idea is
Liger's and Cut Cross-Entropy's.

What differs from autodiff: only the weighted sum is differentiable (rows and extras are stopped),
and only once. Letters: N rows, R rows of a chunk, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsafety.losses import chunks

PyTree = Any


class Terms(NamedTuple):
    """What one chunk gives: value [R], extras of [R] arrays, gradient [R,V] by the logits."""

    value: jax.Array
    extras: dict[str, jax.Array]
    gradient: jax.Array | None


class Spec(NamedTuple):
    """The static part of a fused loss.

    Attributes:
      terms: `(options, hidden [R,D], head [D,V], rows, constants, gradient) -> Terms`.
      options: hashable settings handed to `terms`.
      chunk: rows per chunk, over all shards.
      shards: devices the rows are split over.
      train_head: whether the head gets a gradient; None looks whether it is being differentiated.
    """

    terms: Callable[..., Terms]
    options: Any
    chunk: int
    shards: int = 1
    train_head: bool | None = None


class Sums(NamedTuple):
    """Weighted loss, its rows [N], extras [N], and the loss's gradients (None if not asked)."""

    loss: jax.Array
    per_row: jax.Array
    extras: dict[str, jax.Array]
    hidden: jax.Array | None
    head: jax.Array | None


def logits(hidden: jax.Array, head: jax.Array, cap: float = 0.0) -> jax.Array:
    """[...,D] x [D,V] -> [...,V], multiplied in the dtype of `hidden`, summed in float32.

    `cap`: c of c tanh(x / c), as Gemma 2 has it; 0 is none.
    """
    exact = jnp.promote_types(jnp.float32, hidden.dtype)  # float64 stays float64
    head = head.astype(hidden.dtype)
    x = jnp.einsum("...d,dv->...v", hidden, head, preferred_element_type=exact)
    return cap * jnp.tanh(x / cap) if cap else x


def uncapped(gradient: jax.Array, logits: jax.Array, cap: float) -> jax.Array:
    """The gradient by what was capped, from the gradient by the capped logits."""
    return gradient * (1.0 - jnp.square(logits / cap)) if cap else gradient


def evaluate(
    spec: Spec,
    hidden: jax.Array,
    head: jax.Array,
    weight: jax.Array,
    rows: PyTree = None,
    constants: PyTree = None,
    *,
    gradient: bool = False,
    train_head: bool = False,
) -> Sums:
    """One pass over all rows; with `gradient` also the derivative of `loss` by hidden (and head).

    Args:
      spec: the loss.
      hidden: [N,D].
      head: [D,V].
      weight: [N]; rows of weight 0 count as absent.
      rows: pytree of [N,...] that `terms` sees chunk by chunk.
      constants: pytree that `terms` sees whole.
      gradient: compute the gradient by hidden.
      train_head: compute the gradient by the head as well.

    Returns:
      The sums; rows of weight 0 have value and extras 0.
    """
    exact = jnp.promote_types(jnp.float32, hidden.dtype)
    cast = head.astype(hidden.dtype)  # once, not per chunk
    weight = weight.astype(exact)

    def body(total: PyTree, weight: jax.Array, pieces: PyTree) -> tuple[PyTree, PyTree]:
        hidden, rows = pieces
        terms = spec.terms(spec.options, hidden, cast, rows, constants, gradient)
        on = weight != 0
        shown = jax.tree.map(lambda x: jnp.where(on, x, 0), (terms.value, terms.extras))
        if terms.gradient is None:
            return total, (*shown, None)
        slope = (terms.gradient * weight[:, None]).astype(hidden.dtype)
        by_hidden = jnp.einsum("rv,dv->rd", slope, cast, preferred_element_type=exact)
        if train_head:
            total += jnp.einsum("rd,rv->dv", hidden, slope, preferred_element_type=exact)
        return total, (*shown, by_hidden.astype(hidden.dtype))

    total = jnp.zeros(head.shape, exact) if gradient and train_head else None
    total, (per_row, extras, by_hidden) = chunks.loop(
        body, total, weight, (hidden, rows), chunk=spec.chunk, shards=spec.shards
    )
    return Sums(jnp.sum(weight * per_row), per_row, extras, by_hidden, total)


def fused(
    spec: Spec,
    hidden: jax.Array,
    head: jax.Array,
    weight: jax.Array,
    rows: PyTree = None,
    constants: PyTree = None,
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """`sum(weight * value)` with a gradient for hidden, head and weight, and for nothing else.

    Args:
      spec: the loss.
      hidden: [N,D].
      head: [D,V].
      weight: [N]; its gradient is the row's value (0 where the weight is 0: such rows are absent).
      rows: pytree of [N,...].
      constants: pytree.

    Returns:
      (loss scalar, values [N], extras of [N]); only the loss can be differentiated.
    """
    loss, per_row, extras = _fused(spec, hidden, head, weight, rows, constants)
    return loss, jax.lax.stop_gradient(per_row), jax.lax.stop_gradient(extras)


def _value(spec, hidden, head, weight, rows, constants) -> tuple[jax.Array, jax.Array, dict]:
    sums = evaluate(spec, hidden, head, weight, rows, constants)
    return sums.loss, sums.per_row, sums.extras


def _forward(spec, hidden, head, weight, rows, constants):
    # symbolic_zeros: every array arrives with the fact whether it is being differentiated
    train_head = head.perturbed if spec.train_head is None else spec.train_head
    plain = [jax.tree.map(lambda x: x.value, x, is_leaf=_primal) for x in (rows, constants)]
    sums = evaluate(
        spec,
        hidden.value,
        head.value,
        weight.value,
        *plain,
        gradient=True,
        train_head=train_head,
    )
    like = (jnp.zeros((), head.value.dtype), jnp.zeros((), weight.value.dtype))
    return (sums.loss, sums.per_row, sums.extras), (sums.hidden, sums.head, sums.per_row, like)


def _backward(spec, saved, cotangents):
    del spec
    scale = cotangents[0]
    if isinstance(scale, jax.custom_derivatives.SymbolicZero):
        return None, None, None, None, None
    by_hidden, by_head, per_row, (head, weight) = saved
    return (
        (scale * by_hidden).astype(by_hidden.dtype),
        None if by_head is None else (scale * by_head).astype(head.dtype),
        (scale * per_row).astype(weight.dtype),
        None,
        None,
    )


def _primal(x: Any) -> bool:
    return isinstance(x, jax.custom_derivatives.CustomVJPPrimal)


_fused = jax.custom_vjp(_value, nondiff_argnums=(0,))
_fused.defvjp(_forward, _backward, symbolic_zeros=True)

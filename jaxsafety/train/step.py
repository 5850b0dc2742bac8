"""The pure training step, and the same step with shardings and donation. B rows of the batch.

A loss is a weighted sum whose weights were normalised once on the global batch, so the gradient of
the batch is the plain sum of the gradients of its micro-batches: accumulation, padding rows and the
number of devices cannot change it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import bad
from jaxsafety.protocols import EXTRA, Extra, GradFn, LossFn
from jaxsafety.train.state import TrainState

PyTree = Any
Step = Callable[[TrainState, PyTree, PyTree], tuple[TrainState, dict[str, jax.Array]]]


@struct.dataclass
class StepShardings:
    """Where the step's arguments live: trees of NamedShardings like state, frozen and batch."""

    state: PyTree
    frozen: PyTree
    batch: PyTree


def value_and_grad(loss_fn: LossFn) -> Callable[..., Any]:
    """The default gradient function."""
    return jax.value_and_grad(loss_fn, has_aux=True)


def make_train_step(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    *,
    accum: int = 1,
    grad_fn: GradFn = value_and_grad,
    extra: Mapping[str, Extra] = MappingProxyType({}),
) -> Step:
    """Builds a pure `(state, frozen, batch) -> (state, metrics)`; not jitted, no mesh inside.

    The random key is `fold_in(state.key, state.step)`, so a resumed run repeats it. A non-finite
    loss, gradient, update or parameter leaves parameters and optimizer state untouched, and
    metrics["skipped"] is 1; the step number still advances, otherwise the same batch would come
    again.

    Args:
      loss_fn: `(params, frozen, batch, key) -> (loss, metrics)`, all weighted sums over the rows.
      tx: optax transformation.
      accum: micro-batches per step; must divide the rows of the batch.
      grad_fn: turns the loss into a function that also returns gradients.
      extra: what mitigations carry; with some, the loss gets `state.extra` as `frozen["extra"]`.

    Returns:
      The step. Metrics are the loss's own plus loss, grad_norm (before clipping), param_norm,
      update_norm and skipped, scalars.

    Raises:
      UsageError: accum below 1; from the step, rows that accum does not divide.
    """
    if accum < 1:
        raise bad("optim.accum", accum, "a positive integer")
    compute = grad_fn(loss_fn)

    def gradients(params: PyTree, frozen: PyTree, batch: PyTree, key: jax.Array) -> Any:
        if accum == 1:
            return compute(params, frozen, batch, key)
        micro = split_batch(batch, accum)

        # Traced once: for the shapes of what is added up, and as what the scan repeats.
        @partial(jax.jit, inline=True)
        def one(params: PyTree, frozen: PyTree, key: jax.Array, xs: Any) -> Any:
            index, part = xs
            return compute(params, frozen, part, jax.random.fold_in(key, index))

        def body(total: PyTree, xs: Any) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.add, total, one(params, frozen, key, xs)), None

        parts = (jnp.arange(accum), micro)
        first = jax.tree.map(lambda x: x[0], parts)
        shapes = jax.eval_shape(one, params, frozen, key, first)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.scan(body, zeros, parts)[0]

    def step(state: TrainState, frozen: PyTree, batch: PyTree) -> Any:
        key = jax.random.fold_in(state.key, state.step)
        given = {**frozen, EXTRA: state.extra} if extra else frozen
        (loss, metrics), grads = gradients(state.params, given, batch, key)
        grad_norm = trees.norm(grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        update_norm = trees.norm(updates)
        # A finite gradient can still make no number of an update: an optimizer that divides by
        # zero, moments that overflow. And a finite update one of a parameter.
        norms = (grad_norm, update_norm, trees.norm(params))
        finite = jnp.isfinite(loss) & jnp.all(jnp.isfinite(jnp.stack(norms)))

        def keep(new: PyTree, old: PyTree) -> PyTree:
            return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)

        new = replace(
            state,
            step=state.step + 1,
            params=keep(params, state.params),
            opt_state=keep(opt_state, state.opt_state),
        )
        if extra:
            carried = {
                name: each.update(state.extra[name], new.params, new.step)
                for name, each in extra.items()
            }
            new = replace(new, extra=keep(carried, state.extra))
        metrics = {
            **metrics,
            "loss": loss,
            "grad_norm": grad_norm,
            "param_norm": trees.norm(new.params),
            "update_norm": jnp.where(finite, update_norm, 0.0),
            "skipped": 1.0 - finite.astype(jnp.float32),
        }
        return new, metrics

    return step


def split_batch(batch: PyTree, accum: int) -> PyTree:
    """[B, ...] -> [accum, B/accum, ...], micro-batch i taking rows i, i + accum, ...

    Strided, because rows are sharded in contiguous blocks: every device keeps rows in each
    micro-batch and nothing moves. Scalars are repeated.

    Raises:
      UsageError: leaves with different numbers of rows, or rows that accum does not divide.
    """
    rows = {x.shape[0] for x in jax.tree.leaves(batch) if x.ndim}
    if len(rows) != 1:
        raise bad(
            "batch", f"rows {sorted(rows)}", "one number of rows in all leaves when accum > 1"
        )
    size = rows.pop()
    if size % accum:
        raise bad("optim.accum", accum, f"a divisor of the batch's {size} rows")

    def split(x: jax.Array) -> jax.Array:
        if not x.ndim:
            return jnp.broadcast_to(x, (accum,))
        return x.reshape(size // accum, accum, *x.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(split, batch)


def shard_step(step: Step, shardings: StepShardings) -> Step:
    """Jits a step with in/out shardings; the state is donated, its old buffers are gone."""
    return sharding.pjit(
        step,
        (shardings.state, shardings.frozen, shardings.batch),
        (shardings.state, None),
        donate=0,
    )

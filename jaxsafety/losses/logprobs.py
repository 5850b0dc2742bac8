"""Log-probabilities of tokens from hidden states, chunked; the one place of the prediction shift.

hidden[:, t] predicts tokens[:, t+1]. `shift` moves targets to the position that predicts them and
`unshift` moves results back; nothing else in the package slices `[:, :-1]`. Everything reported per
token is aligned to the *target*: index t is about predicting tokens[:, t], and index 0 is 0.
Letters: B sequences, T positions, N = B*T rows, D width, V vocabulary, C tokens of a subset.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from jaxsafety.core import shapes
from jaxsafety.losses import chunks, fused
from jaxsafety.losses.divergence import check_subset


def shift(hidden: jax.Array, *targets: jax.Array) -> tuple[jax.Array, ...]:
    """Rows of hidden states with the targets they predict.

    The last position of a sequence predicts nothing: its targets are 0 (a weight of 0 switches the
    row off). No row is dropped, so `hidden` is not copied.

    Args:
      hidden: [B,T,D].
      *targets: [B,T] arrays aligned to the target token (tokens, weights).

    Returns:
      [N,D] and one [N] per target, aligned to the predicting position.
    """
    rows = hidden.reshape(-1, hidden.shape[-1])
    ahead = (jnp.pad(x[:, 1:], ((0, 0), (0, 1))) for x in targets)
    return rows, *(x.reshape(-1) for x in ahead)


def unshift(values: jax.Array, batch: int) -> jax.Array:
    """[N] at predicting positions -> [B,T] at target positions; column 0 is 0."""
    return jnp.pad(values.reshape(batch, -1)[:, :-1], ((0, 0), (1, 0)))


def token_logp(
    hidden: jax.Array,
    head: jax.Array,
    tokens: jax.Array,
    *,
    mask: jax.Array | None = None,
    chunk: int | None = None,
    shards: int = 1,
    cap: float = 0.0,
) -> jax.Array:
    """Log-probability of each token given what precedes it.

        logp[b, t] = log softmax(hidden[b, t-1] head)[tokens[b, t]],   logp[b, 0] = 0

    Differentiable once, by hidden and head, with any function of the result on top (DPO margins);
    the backward pass makes the logits again. For a weighted sum `nll` is cheaper.

    Args:
      hidden: [B,T,D] final hidden states.
      head: [D,V] the unembedding, `model.head(params)`.
      tokens: [B,T] int.
      mask: [B,T] bool: which of them are asked for. Others are 0, and are not computed.
      chunk: rows whose logits are alive at once; None chooses.
      shards: devices the rows are split over.
      cap: of the logits, `ModelConfig.logit_cap`; 0 is none.

    Returns:
      [B,T] float32 log p(tokens[:, t]), 0 at t = 0.

    Raises:
      AssertionError: arrays whose axes do not fit together.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxsafety
      >>> hidden = jnp.array([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])  # [B,T,D]
      >>> head = jnp.array([[2.0, 0.0, 1.0], [0.0, 1.0, 2.0]])  # [D,V]
      >>> logp = jaxsafety.token_logp(hidden, head, jnp.array([[1, 0, 2]]))
      >>> print([f"{x:.3f}" for x in logp[0]])
      ['0.000', '-0.408', '-0.408']
    """
    _check(hidden, head, tokens, mask)
    batch, length = tokens.shape
    used = jnp.ones((batch, length), jnp.float32) if mask is None else mask.astype(jnp.float32)
    rows, targets, used = shift(hidden, tokens, used)
    size = chunks.rows_per_chunk(chunk, head.shape[1], shards)
    return unshift(
        _logp(fused.Spec(_nll_terms, cap, size, shards), rows, head, used, targets), batch
    )


def nll(
    hidden: jax.Array,
    head: jax.Array,
    tokens: jax.Array,
    weight: jax.Array,
    *,
    chunk: int | None = None,
    train_head: bool | None = None,
    shards: int = 1,
    cap: float = 0.0,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Weighted negative log-likelihood: the loss of pretraining and SFT.

        loss = - sum_{b,t} weight[b, t] log p(tokens[b, t] | tokens[b, <t])

    The gradient is formed in the forward pass (`fused.py`): three matmuls, as a dense loss needs,
    and no [B,T,V]. Targets of weight 0 are not computed.

    Args:
      hidden: [B,T,D] final hidden states.
      head: [D,V] the unembedding, `model.head(params)`.
      tokens: [B,T] int.
      weight: [B,T] of `token_weights` or `sequence_weights`, aligned to the target token; column 0
        predicts nothing and is not used.
      chunk: rows whose logits are alive at once; None chooses.
      train_head: True or False forces or refuses a gradient for `head`; None gives one when `head`
        is being differentiated.
      shards: devices the rows are split over.
      cap: of the logits, `ModelConfig.logit_cap`; 0 is none.

    Returns:
      (sum of weight * -log p, {"nll", "accuracy"}: weighted sums without gradient).

    Raises:
      AssertionError: arrays whose axes do not fit together.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxsafety
      >>> hidden = jnp.array([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])  # [B,T,D]
      >>> head = jnp.array([[2.0, 0.0, 1.0], [0.0, 1.0, 2.0]])  # [D,V]
      >>> weight = jaxsafety.token_weights(jnp.array([[False, True, True]]))
      >>> loss, metrics = jaxsafety.nll(hidden, head, jnp.array([[1, 0, 2]]), weight)
      >>> print(f"{loss:.3f} {metrics['accuracy']:.1f}")
      0.408 1.0
    """
    _check(hidden, head, tokens, weight)
    rows, targets, weight = shift(hidden, tokens, weight)
    size = chunks.rows_per_chunk(chunk, head.shape[1], shards)
    spec = fused.Spec(_nll_terms, cap, size, shards, train_head)
    loss, _, extras = fused.fused(spec, rows, head, weight, targets)
    right = jnp.sum(jax.lax.stop_gradient(weight) * extras["right"])
    return loss, {"nll": jax.lax.stop_gradient(loss), "accuracy": right}


def _check(hidden: Any, head: Any, tokens: Any, weight: Any = None) -> None:
    """The axes of what the losses on [B,T] are given."""
    dims = shapes.dimensions()
    shapes.check(hidden, "BTD", dims, "hidden")
    shapes.check(head, "DV", dims, "head")
    shapes.check(tokens, "BT", dims, "tokens")
    if weight is not None:
        shapes.check(weight, "BT", dims, "weight")


def _check_rows(hidden: Any, head: Any) -> None:
    """The axes of what is asked row by row."""
    dims = shapes.dimensions()
    shapes.check(hidden, "ND", dims, "hidden")
    shapes.check(head, "DV", dims, "head")


def subset_logps(
    hidden: jax.Array,
    head: jax.Array,
    subset: Any,
    *,
    chunk: int | None = None,
    cap: float = 0.0,
) -> jax.Array:
    """Full-vocabulary log-probabilities of a few tokens, without gradient.

    Args:
      hidden: [N,D].
      head: [D,V].
      subset: [C] ids.
      chunk: rows whose logits are alive at once; None chooses.
      cap: of the logits, `ModelConfig.logit_cap`; 0 is none.

    Returns:
      [N,C] float32.

    Raises:
      UsageError: an empty or malformed subset.
      AssertionError: arrays whose axes do not fit together.
    """
    _check_rows(hidden, head)
    ids = check_subset(subset, head.shape[1])
    size = chunks.rows_per_chunk(chunk, head.shape[1])
    return _reduced(_pick_logps, size, cap, hidden, head, ids)


def entropy(
    hidden: jax.Array, head: jax.Array, *, chunk: int | None = None, cap: float = 0.0
) -> jax.Array:
    """Entropy of the next-token distribution in nats, without gradient.

    Args:
      hidden: [N,D].
      head: [D,V].
      chunk: rows whose logits are alive at once; None chooses.
      cap: of the logits, `ModelConfig.logit_cap`; 0 is none.

    Returns:
      [N] float32.

    Raises:
      AssertionError: arrays whose axes do not fit together.
    """
    _check_rows(hidden, head)
    size = chunks.rows_per_chunk(chunk, head.shape[1])
    return _reduced(_entropy, size, cap, hidden, head, None)


def _pick_logps(logits: jax.Array, ids: jax.Array) -> jax.Array:
    return logits[:, ids] - logsumexp(logits, axis=-1, keepdims=True)


def _entropy(logits: jax.Array, _: None) -> jax.Array:
    logp = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(logp) * logp, axis=-1)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _reduced(
    reduce: Any, chunk: int, cap: float, hidden: jax.Array, head: jax.Array, extra: Any
) -> jax.Array:
    """`reduce(logits [R,V], extra) -> [R,...]` over all rows."""

    def body(carry: None, weight: jax.Array, rows: jax.Array) -> tuple[None, jax.Array]:
        del weight
        return carry, reduce(fused.logits(rows, head, cap), extra)

    ones = jnp.ones((hidden.shape[0],), jnp.float32)
    hidden, head = jax.lax.stop_gradient((hidden, head))  # the loop has no reverse mode
    return chunks.loop(body, None, ones, hidden, chunk=chunk)[1]


def _nll_terms(
    options: float,
    hidden: jax.Array,
    head: jax.Array,
    targets: jax.Array,
    constants: None,
    gradient: bool,
) -> fused.Terms:
    del constants
    logits = fused.logits(hidden, head, options)
    norm = logsumexp(logits, axis=-1)
    mine = jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
    right = (mine >= logits.max(axis=-1)).astype(logits.dtype)
    slope = None
    if gradient:
        hit = jnp.arange(logits.shape[1]) == targets[:, None]
        slope = fused.uncapped(jnp.exp(logits - norm[:, None]) - hit, logits, options)
    return fused.Terms(norm - mine, {"right": right}, slope)


def _logp_value(spec, hidden, head, used, targets) -> jax.Array:
    return -fused.evaluate(spec, hidden, head, used, targets).per_row


def _logp_forward(spec, hidden, head, used, targets):
    plain = (hidden.value, head.value, used.value, targets.value)
    # a static fact must cross to the backward pass: as the presence of a leaf
    train_head = jnp.zeros(()) if head.perturbed else None
    return _logp_value(spec, *plain), (plain, train_head)


def _logp_backward(spec, saved, cotangent):
    (hidden, head, used, targets), train_head = saved
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return None, None, None, None
    # the cotangents are the weights of an nll; rows nobody differentiates are skipped
    sums = fused.evaluate(
        spec,
        hidden,
        head,
        -cotangent * used,
        targets,
        gradient=True,
        train_head=train_head is not None,
    )
    by_head = None if sums.head is None else sums.head.astype(head.dtype)
    return sums.hidden, by_head, None, None


_logp = jax.custom_vjp(_logp_value, nondiff_argnums=(0,))
_logp.defvjp(_logp_forward, _logp_backward, symbolic_zeros=True)

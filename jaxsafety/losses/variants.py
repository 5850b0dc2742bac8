"""The divergences of one chunk: value and closed-form gradient by the student's logits.

Notation: p student, q teacher (softmax over the *whole* vocabulary), r = p/q, S a token subset,
P = sum_S p, Q = sum_S q. `member` marks S. L is the variant's sum over S, KL the variant's value.

    reverse_kl     value                                  gradient for logit k
    full           sum_V p log r                          p_k (log r_k - KL)
    partial        sum_S p log r                          p_k (1_S (log r_k + 1) - (L + P))
    generalised    sum_S p log r + Q - P                  p_k (1_S log r_k - L)
    tail           KL on S and one class for the rest     p_k (log r_k on S, log r_rest off S, - KL)

    forward_kl
    full           sum_V q log 1/r                        p_k - q_k
    partial        sum_S q log 1/r                        Q p_k - 1_S q_k
    generalised    sum_S q log 1/r + P - Q                1_S (p_k - q_k) - p_k (P - Q)
    tail           KL on S and one class for the rest     p_k - q_k on S, p_k (P-Q)/(P-1) off S

`topk` is generalised with S = the teacher's k most likely tokens of that row; tokens tied with the
k-th all belong. `partial_topk` is partial with that S: its forward_kl is verl's loss_mode
"forward_kl_topk", sum over the teacher's top k of q (log q - log p) with probabilities of the whole
vocabulary, not renormalised, without verl's optional clamps of log-probabilities and of the loss.
It lacks the P - Q of `topk`, so it is least where all of the student's mass is on those k.
`renormalised` is `full` over the columns of S alone (see divergence.py). Estimators that look at
the sampled token alone (k1, k3) are in sampled.py; the sums here are exact and need no sampling.

SafeSteer (arXiv 2606.02530, eq. 6) is partial, reverse. It is not a divergence: its minimiser has
p = q / e on S, it can be negative, and logits outside S get -p_k (L + P). partial forward_kl is
worse: it is minimised by moving all mass onto S, so it is offered for comparison only; `tail` or
`generalised` is the fair forward arm. Letters: R rows, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import logsumexp


class Options(NamedTuple):
    """Which divergence: a name of `VARIANTS`, a name of `KINDS`, the k of `TOPK`."""

    variant: str
    kind: str
    topk: int


VARIANTS = ("full", "partial", "generalised", "tail", "renormalised", "topk", "partial_topk")
KINDS = ("reverse_kl", "forward_kl")
ON_SUBSET = ("partial", "generalised", "tail", "renormalised")
TOPK = ("topk", "partial_topk")  # on the teacher's most likely tokens of each row


def divergence_terms(
    options: Options,
    student: jax.Array,
    teacher: jax.Array,
    member: jax.Array | None,
    gradient: bool,
) -> tuple[jax.Array, jax.Array | None]:
    """Value and gradient of each row, from logits.

    Args:
      options: the divergence; its variant is not "renormalised" (a caller reduces it to "full").
      student: [R,V] logits, float32.
      teacher: [R,V] logits, float32.
      member: [V] bool, the subset; unused by full and by `TOPK`.
      gradient: whether to form the gradient.

    Returns:
      value [R] and its gradient [R,V] by the student's logits (None if not asked).
    """
    norm_s = logsumexp(student, axis=-1, keepdims=True)
    norm_t = logsumexp(teacher, axis=-1, keepdims=True)
    p = jnp.exp(student - norm_s)
    log_r = (student - teacher) - (norm_s - norm_t)
    reverse = options.kind == "reverse_kl"
    if options.variant == "full":
        if reverse:
            value = _sum(p * log_r)
            slope = p * (log_r - value) if gradient else None
        else:
            q = jnp.exp(teacher - norm_t)
            value = -_sum(q * log_r)
            slope = p - q if gradient else None
        return value[:, 0], slope
    if options.variant in TOPK:
        member = teacher >= jax.lax.top_k(teacher, options.topk)[0][:, -1:]
    if member is None:
        raise ValueError(f"variant {options.variant} needs a subset")  # divergence() checked it
    q = jnp.exp(teacher - norm_t)
    on_s = jnp.where(member, p, 0)
    on_t = jnp.where(member, q, 0)
    total = _sum(on_s * log_r) if reverse else -_sum(on_t * log_r)
    if options.variant == "tail":
        value, slope = _tail(total, student, teacher, norm_s, norm_t, member, reverse)
    elif options.variant in ("partial", "partial_topk"):
        value = total
        if reverse:
            slope = p * (jnp.where(member, log_r + 1, 0) - (total + _sum(on_s)))
        else:
            slope = _sum(on_t) * p - on_t
    elif reverse:  # generalised, topk
        value = total + _sum(on_t) - _sum(on_s)
        slope = p * (jnp.where(member, log_r, 0) - total)
    else:
        excess = _sum(on_s) - _sum(on_t)
        value = total + excess
        slope = (on_s - on_t) - p * excess
    return value[:, 0], slope if gradient else None


def _sum(x: jax.Array) -> jax.Array:
    return jnp.sum(x, axis=-1, keepdims=True)


def _tail(
    total: jax.Array,
    student: jax.Array,
    teacher: jax.Array,
    norm_s: jax.Array,
    norm_t: jax.Array,
    member: jax.Array,
    reverse: bool,
) -> tuple[jax.Array, jax.Array]:
    """The bucket of the rest; its mass is summed directly, as 1 - P cancels when P is near 1."""
    off_s = logsumexp(jnp.where(member, -jnp.inf, student), axis=-1, keepdims=True)
    off_t = logsumexp(jnp.where(member, -jnp.inf, teacher), axis=-1, keepdims=True)
    some = jnp.isfinite(off_s)  # False when S is the whole vocabulary: an empty bucket adds nothing
    off_s, off_t = jnp.where(some, off_s, 0), jnp.where(some, off_t, 0)
    log_r = (student - teacher) - (norm_s - norm_t)
    log_rest = (off_s - off_t) - (norm_s - norm_t)
    rest_s = jnp.where(some, jnp.exp(off_s - norm_s), 0)
    rest_t = jnp.where(some, jnp.exp(off_t - norm_t), 0)
    p = jnp.exp(student - norm_s)
    if reverse:
        value = total + rest_s * log_rest
        return value, p * (jnp.where(member, log_r, log_rest) - value)
    value = total - rest_t * log_rest
    inside = jnp.exp(jnp.where(member, -jnp.inf, student) - off_s)  # p_k / (1-P), without dividing
    return value, p - jnp.where(member, jnp.exp(teacher - norm_t), inside * rest_t)

"""Reverse KL estimated on the student's own sampled tokens: Schulman's k1 and k3.

What users of verl, TRL and TorchRL know from on-policy distillation, beside the exact sums of
`variants.py`. With p the student, q the teacher, x the sampled token and l = log p(x) - log q(x):

    estimator  value                gradient here, for logit k        its expectation over x ~ p
    k1         l                    l (1[k = x] - p_k)                p_k (log p_k/q_k - KL)
    k3         exp(-l) - 1 + l      (1 - exp(-l)) (1[k = x] - p_k)    p_k - q_k

Both values have the mean KL(p || q) over x ~ p; k3 is never negative and varies less. Their
gradients are not the same thing:

- k1 differentiated as it stands is 1[k = x] - p_k, of mean zero: it teaches nothing. So its
  gradient here is the score function's, stop(l) * grad log p(x), of which the mean is exactly that
  of the reverse KL of this position (not of what is sampled after it). verl has it as loss_mode
  "k1" with `use_policy_gradient`.
- k3 is differentiated as it stands, as TorchRL's DistillationLoss and verl's "k3" without
  `use_policy_gradient` do. The mean of that is the gradient of the *forward* KL, although the value
  is one of the reverse.

Neither is clamped: exp(-l) is as large as q(x) / p(x) is. The tokens must be samples of p itself,
at temperature 1, or nothing of this holds.
Pinned by tests/losses/test_sampled.py (all of the table by enumeration, chunked equals dense).
Letters: N rows, R rows of a chunk, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from jaxsafety.core import shapes
from jaxsafety.core.errors import bad
from jaxsafety.losses import chunks, fused
from jaxsafety.losses.divergence import check_pair

ESTIMATORS = ("k1", "k3")


def sampled_kl(
    student: jax.Array,
    teacher: jax.Array,
    head_s: jax.Array,
    tokens: jax.Array,
    weight: jax.Array,
    *,
    head_t: jax.Array | None = None,
    estimator: str = "k3",
    chunk: int | None = None,
    train_head: bool | None = None,
    shards: int = 1,
    cap: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Weighted estimate of the reverse KL by one sampled token per row.

        loss = sum_n weight[n] * value[n],   l = log p(x_n) - log q(x_n)
        k1: value = l        k3: value = exp(-l) - 1 + l

    with the gradients of the module's table. Rows of weight 0 are skipped, as in `divergence`, and
    [N,V] never exists.

    Args:
      student: [N,D] final hidden states; gets the gradient.
      teacher: [N,D] of the teacher, constant.
      head_s: [D,V] the student's unembedding.
      tokens: [N] int, the token that was sampled from each row's student distribution.
      weight: [N], of `token_weights` or `sequence_weights` by row.
      head_t: [D,V] the teacher's, or None for `head_s`.
      estimator: "k1" or "k3".
      chunk: rows whose logits are alive at once; None chooses.
      train_head: as in `divergence`.
      shards: as in `divergence`.
      cap: of the logits, `ModelConfig.logit_cap`; 0 is none.

    Returns:
      (sum of weight * value, values [N] in nats, which carry no gradient).

    Raises:
      UsageError: an unknown estimator.
      AssertionError: arrays whose axes do not fit together.

    Source: J. Schulman, "Approximating KL divergence" (2020), for k1 and k3.
    """
    check_pair(student, teacher, head_s, head_t)
    dims = shapes.dimensions(N=student.shape[0])
    shapes.check(tokens, "N", dims, "tokens")
    shapes.check(weight, "N", dims, "weight")
    if estimator not in ESTIMATORS:
        raise bad("estimator", estimator, ", ".join(ESTIMATORS))
    if head_t is head_s:
        head_t = None
    if head_t is not None:
        head_t = jnp.asarray(head_t).astype(teacher.dtype)  # once, not per chunk
    spec = fused.Spec(
        terms=_terms,
        options=(estimator, cap),
        chunk=chunks.rows_per_chunk(chunk, head_s.shape[1], shards),
        shards=shards,
        train_head=train_head,
    )
    rows = (teacher, tokens)
    loss, per_row, _ = fused.fused(spec, student, head_s, weight, rows, head_t)
    return loss, per_row


def _terms(
    options: tuple[str, float],
    student: jax.Array,
    head: jax.Array,
    rows: tuple[jax.Array, jax.Array],
    head_t: Any,
    gradient: bool,
) -> fused.Terms:
    (estimator, cap), (teacher, tokens) = options, rows
    if head_t is None:
        both = fused.logits(jnp.stack([student, teacher.astype(student.dtype)]), head, cap)
        ours, theirs = both[0], both[1]
    else:
        ours, theirs = fused.logits(student, head, cap), fused.logits(teacher, head_t, cap)
    logp, logq = (_picked(x, tokens) for x in (ours, theirs))
    log_ratio = logp - logq
    # expm1: both k3 and its slope vanish where the two models agree, and 1 - exp would cancel.
    value = log_ratio if estimator == "k1" else jnp.expm1(-log_ratio) + log_ratio
    if not gradient:
        return fused.Terms(value, {}, None)
    by_logp = log_ratio if estimator == "k1" else -jnp.expm1(-log_ratio)
    score = jax.nn.one_hot(tokens, ours.shape[-1], dtype=ours.dtype) - jax.nn.softmax(ours)
    return fused.Terms(value, {}, fused.uncapped(by_logp[:, None] * score, ours, cap))


def _picked(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """[R] log-probabilities of one token per row of [R,V]."""
    at = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
    return at - logsumexp(logits, axis=-1)

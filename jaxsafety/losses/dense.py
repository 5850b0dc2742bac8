"""The same divergences written plainly on full logits, for tests and for reading.

Nothing is shared with `variants.py`: probabilities of the subset are gathered, buckets are
appended, and gradients are left to autodiff. Letters: N rows, D width, V vocabulary, C tokens of
the subset.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def dense_divergence(
    student: jax.Array,
    teacher: jax.Array,
    head_s: jax.Array,
    head_t: jax.Array | None,
    weight: jax.Array,
    *,
    variant: str,
    subset: Any = None,
    kind: str = "reverse_kl",
    topk: int = 50,
) -> tuple[jax.Array, jax.Array]:
    """`divergence` by its definition; holds [N,V] several times.

    Args:
      student: [N,D].
      teacher: [N,D].
      head_s: [D,V].
      head_t: [D,V], or None for `head_s`.
      weight: [N].
      variant: as in `divergence`.
      subset: [C] concrete ids.
      kind: as in `divergence`.
      topk: k of variants topk and partial_topk (ties are broken by index here).

    Returns:
      (loss, values [N]).
    """
    used = (weight != 0)[:, None]
    head_t = head_s if head_t is None else head_t
    logits_s = jnp.where(used, student, 0) @ head_s
    logits_t = jax.lax.stop_gradient(jnp.where(used, teacher, 0) @ head_t)
    value = dense_value(logits_s, logits_t, variant=variant, subset=subset, kind=kind, topk=topk)
    value = jnp.where(weight != 0, value, 0)
    return jnp.sum(weight * value), value


def dense_value(
    logits_s: jax.Array,
    logits_t: jax.Array,
    *,
    variant: str,
    subset: Any = None,
    kind: str = "reverse_kl",
    topk: int = 50,
) -> jax.Array:
    """Row values [N] of a divergence from logits [N,V]; arguments as in `dense_divergence`."""
    u, t = jax.nn.log_softmax(logits_s), jax.nn.log_softmax(logits_t)
    if variant in ("topk", "partial_topk"):
        ids = jax.lax.top_k(t, topk)[1]  # [N,C]
        u, t = jnp.take_along_axis(u, ids, 1), jnp.take_along_axis(t, ids, 1)
    elif variant != "full":
        ids = np.asarray(subset)
        rest = np.setdiff1d(np.arange(u.shape[1]), ids)
        bucket = [jax.nn.logsumexp(x[:, rest], axis=1, keepdims=True) for x in (u, t)]
        u, t = u[:, ids], t[:, ids]
        if variant == "tail" and rest.size:
            u, t = (jnp.concatenate(pair, 1) for pair in zip((u, t), bucket, strict=True))
        if variant == "renormalised":
            u, t = jax.nn.log_softmax(u), jax.nn.log_softmax(t)
    first, second = (u, t) if kind == "reverse_kl" else (t, u)
    value = jnp.sum(jnp.exp(first) * (first - second), axis=1)
    if variant in ("generalised", "topk"):
        value += jnp.sum(jnp.exp(second) - jnp.exp(first), axis=1)
    return value

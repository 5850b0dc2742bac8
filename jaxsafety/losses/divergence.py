"""Distillation losses between a student and a teacher that share a vocabulary, by name.

SafeSteer (arXiv 2606.02530 eq. 6-7) is variant "partial", kind "reverse_kl"; `variants.py` tells
what each name computes and what it does to the student. All take the final hidden states, not
logits: the unembedding, the loss and its gradient happen chunk by chunk (`fused.py`), so that
[N,V] never exists, neither for the student nor for the teacher. When both use one head it is read
once per chunk.

What differs from the paper's code: the reduction is the weight's business
(`weights.sequence_weights` gives eq. 7), and positions without weight are not computed at all.
Pinned by tests/losses/test_variants.py (closed forms), test_divergence.py (chunked equals dense,
masks, memory). Letters: N rows, D width, V vocabulary, C tokens of the subset.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxsafety.core import shapes
from jaxsafety.core.errors import bad
from jaxsafety.losses import chunks, fused
from jaxsafety.losses.variants import KINDS, ON_SUBSET, TOPK, VARIANTS, Options, divergence_terms

__all__ = ["KINDS", "VARIANTS", "check_subset", "divergence", "membership"]


def divergence(
    student: jax.Array,
    teacher: jax.Array,
    head_s: jax.Array,
    head_t: jax.Array | None = None,
    weight: jax.Array | None = None,
    *,
    variant: str = "full",
    subset: Any = None,
    kind: str = "reverse_kl",
    chunk: int | None = None,
    topk: int = 50,
    train_head: bool | None = None,
    shards: int = 1,
    cap: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Weighted divergence of the student's next-token distribution from the teacher's.

    With p the student's and q the teacher's softmax over the vocabulary V, and the subset S,

        loss = sum_n weight[n] * value[n]
        full:     value = sum over V of p (log p - log q)
        partial:  value = sum over S of p (log p - log q)
        renormalised: full, of p / sum over S of p and q / sum over S of q

    as kind "reverse_kl"; "forward_kl" exchanges p and q. `losses/variants.py` has the formulas of
    the other variants, and all gradients. [N,V] never exists: logits are made chunk by chunk.

    Gradients go to `student`, to `head_s` (see `train_head`) and to `weight`; the teacher is
    constant, even when both share a head. The gradient of a weight is its row's value. Rows of
    weight 0 count as absent: they are skipped, may hold anything, and get value and gradients
    exactly 0.

    Args:
      student: [N,D] final hidden states; the dtype of the matmuls (sums are float32).
      teacher: [N,D] of the teacher, at the same tokens; its width may differ where it has a head.
      head_s: [D,V] the student's unembedding, `model.head(params)`.
      head_t: [D,V] the teacher's; None, or the same array, means shared (one matmul for both).
      weight: [N] as of `token_weights`, by row; None is 1/N each, the mean over rows.
      variant: full, partial, generalised, tail, renormalised, topk or partial_topk.
      subset: [C] int ids without repeats, S; needed by all variants but full, topk and
        partial_topk, which ignore it.
      kind: "reverse_kl" (student first) or "forward_kl". forward partial is degenerate: it is least
        when all the student's mass lies on the subset.
      chunk: rows whose logits are alive at once (over all shards); None chooses.
      topk: tokens per row of variants topk and partial_topk, chosen by the teacher.
      train_head: True or False forces or refuses a gradient for `head_s` (it costs a matmul and a
        [D,V] buffer); None gives one when `head_s` is being differentiated.
      shards: devices the rows are split over (data x fsdp), so that every chunk uses all of them.
      cap: of the logits, `ModelConfig.logit_cap`; 0 is none.

    Returns:
      (sum over rows of weight * value, values [N]); the values carry no gradient.

    Raises:
      UsageError: unknown variant or kind, a missing, empty or malformed subset, k or chunk out of
        range.
      AssertionError: arrays whose axes do not fit together.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxsafety
      >>> student, teacher = jnp.array([[0.0, 1.0]]), jnp.array([[1.0, 0.0]])  # [N,D], N = 1
      >>> head = jnp.array([[2.0, 0.0, 1.0], [0.0, 1.0, 2.0]])  # [D,V]
      >>> loss, per_row = jaxsafety.divergence(student, teacher, head)
      >>> print(per_row.shape, f"{loss:.3f}")
      (1,) 0.730
      >>> loss, _ = jaxsafety.divergence(student, teacher, head, variant="partial", subset=[1, 2])
      >>> print(f"{loss:.3f}")
      0.910

    Source: SafeSteer, arXiv 2606.02530: eq. 6 is variant partial, kind reverse_kl, and eq. 7 its
      mean over tokens and rollouts, the weights of `sequence_weights`.
    """
    check_pair(student, teacher, head_s, head_t)
    if weight is None:
        weight = jnp.full(student.shape[0], 1 / max(student.shape[0], 1), jnp.float32)
    shapes.check(weight, "N", shapes.dimensions(N=student.shape[0]), "weight")
    if variant not in VARIANTS:
        raise bad("variant", variant, ", ".join(VARIANTS))
    if kind not in KINDS:
        raise bad("kind", kind, ", ".join(KINDS))
    vocab = head_s.shape[1]
    if variant in TOPK and not 1 <= topk <= vocab:
        raise bad("topk", topk, f"1 to {vocab}, the size of the vocabulary")
    if head_t is head_s:
        head_t = None
    member = None
    if variant in ON_SUBSET:
        ids = check_subset(subset, vocab)
        if variant == "renormalised":  # a distribution over S needs no other column
            head_s = jnp.take(head_s, ids, axis=1)
            head_t = None if head_t is None else jnp.take(head_t, ids, axis=1)
            variant, vocab = "full", ids.shape[0]
        else:
            member = membership(ids, vocab)
    if head_t is not None:
        head_t = jnp.asarray(head_t).astype(teacher.dtype)  # once, not per chunk
    spec = fused.Spec(
        terms=_terms,
        options=(Options(variant, kind, topk), cap),
        chunk=chunks.rows_per_chunk(chunk, vocab, shards),
        shards=shards,
        train_head=train_head,
    )
    loss, per_row, _ = fused.fused(spec, student, head_s, weight, teacher, (head_t, member))
    return loss, per_row


def check_pair(
    student: jax.Array, teacher: jax.Array, head_s: jax.Array, head_t: jax.Array | None
) -> None:
    """The axes of two models' rows and heads; a teacher with a head may have another width.

    Args:
      student: [N,D].
      teacher: [N,D].
      head_s: [D,V].
      head_t: [D,V], or None for `head_s`.

    Raises:
      AssertionError: they do not fit together.
    """
    dims = shapes.dimensions()
    shapes.check(student, "ND", dims, "student")
    shapes.check(head_s, "DV", dims, "head_s")
    if head_t is None:
        shapes.check(teacher, "ND", dims, "teacher")
        return
    dims = shapes.dimensions(N=student.shape[0], V=head_s.shape[1])
    shapes.check(teacher, "ND", dims, "teacher")
    shapes.check(head_t, "DV", dims, "head_t")


def check_subset(subset: Any, vocab: int) -> jax.Array:
    """Token ids as an array, after checking what can be checked (a traced subset: its shape only).

    Args:
      subset: [C] integer ids.
      vocab: V.

    Returns:
      [C] int32.

    Raises:
      UsageError: missing, empty, not one-dimensional, repeated or outside the vocabulary.
    """
    allowed = f"at least one token id, each once, from 0 to {vocab - 1}"
    if subset is None:
        raise bad("token_set", None, allowed)
    if not isinstance(subset, Tracer):
        try:
            subset = np.asarray(jax.device_get(subset))
        except ValueError:
            raise bad("token_set", "lists of unlike lengths", allowed) from None
        if subset.size and subset.dtype.kind not in "iu":
            raise bad("token_set", f"{subset.dtype} ids", allowed)
        once, counts = np.unique(subset, return_counts=True)
        wrong = once[(once < 0) | (once >= vocab) | (counts > 1)]
        if wrong.size:
            raise bad("token_set", wrong[:5].tolist(), allowed)
    ids = jnp.asarray(subset, jnp.int32)
    if ids.ndim != 1 or ids.shape[0] == 0:
        raise bad("token_set", ids.shape, allowed)
    return ids


def membership(ids: jax.Array, vocab: int) -> jax.Array:
    """[V] bool, True at `ids` [C]."""
    return jnp.zeros((vocab,), bool).at[ids].set(True)


def _terms(
    options: tuple[Options, float],
    student: jax.Array,
    head: jax.Array,
    teacher: jax.Array,
    constants: tuple[jax.Array | None, jax.Array | None],
    gradient: bool,
) -> fused.Terms:
    which, cap = options
    head_t, member = constants
    if head_t is None:
        both = fused.logits(jnp.stack([student, teacher.astype(student.dtype)]), head, cap)
        ours, theirs = both[0], both[1]
    else:
        ours, theirs = fused.logits(student, head, cap), fused.logits(teacher, head_t, cap)
    value, slope = divergence_terms(which, ours, theirs, member, gradient)
    slope = None if slope is None else fused.uncapped(slope, ours, cap)
    return fused.Terms(value, {}, slope)

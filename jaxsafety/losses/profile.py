"""What training did to the distribution, token by token: for reports, without gradients.

`subset_mass` is the total probability of the safety tokens; `token_kl_profile` splits the drift
from the base into all of it and the part outside the subset (the localisation check of SafeSteer:
a loss that touches S only should leave the distribution *conditioned on V without S* alone).
Letters: N rows, D width, V vocabulary, C tokens of the subset.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from jaxsafety.core import shapes
from jaxsafety.core.errors import bad
from jaxsafety.losses import chunks, fused
from jaxsafety.losses.divergence import check_pair, check_subset, membership


def subset_mass(
    hidden: jax.Array,
    head: jax.Array,
    subset: Any,
    chunk: int | None = None,
    cap: float = 0.0,
) -> jax.Array:
    """Total probability of a token subset.

        mass[n] = sum over v in S of softmax(hidden[n] head)[v]

    Args:
      hidden: [N,D] final hidden states.
      head: [D,V] the unembedding, `model.head(params)`.
      subset: [C] ids.
      chunk: rows whose logits are alive at once; None chooses.
      cap: of the logits, `ModelConfig.logit_cap`; 0 is none.

    Returns:
      [N] float32 in [0,1].

    Raises:
      UsageError: an empty or malformed subset.
      AssertionError: arrays whose axes do not fit together.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxsafety
      >>> hidden = jnp.array([[1.0, 0.0], [0.0, 1.0]])  # [N,D]
      >>> head = jnp.array([[2.0, 0.0, 1.0], [0.0, 1.0, 2.0]])  # [D,V]
      >>> print([f"{x:.3f}" for x in jaxsafety.subset_mass(hidden, head, [0, 2])])
      ['0.910', '0.755']
    """
    dims = shapes.dimensions()
    shapes.check(hidden, "ND", dims, "hidden")
    shapes.check(head, "DV", dims, "head")
    member = membership(check_subset(subset, head.shape[1]), head.shape[1])
    return _mass(hidden, head, member, chunks.rows_per_chunk(chunk, head.shape[1]), cap)


def token_kl_profile(
    student: jax.Array,
    teacher: jax.Array,
    head_s: jax.Array,
    head_t: jax.Array | None = None,
    subset: Any = None,
    chunk: int | None = None,
    cap: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """KL(teacher || student) of each row, whole and conditioned on the tokens outside the subset.

        kl[n] = sum over V of q (log q - log p)
        kl_off_subset[n] = the same sum over V without S, with p and q renormalised there

    where p and q are the student's and the teacher's softmax. A loss that touches S only should
    leave the second one small: that is the check that it was local.

    Args:
      student: [N,D] hidden states.
      teacher: [N,D] hidden states of the model compared with (the base).
      head_s: [D,V] the student's unembedding.
      head_t: [D,V] the teacher's, or None for `head_s`.
      subset: [C] ids to leave out, fewer than V of them; None leaves out nothing.
      chunk: rows whose logits are alive at once; None chooses.
      cap: of the logits, `ModelConfig.logit_cap`; 0 is none.

    Returns:
      (kl [N], kl_off_subset [N]), float32 nats; equal when `subset` is None.

    Raises:
      UsageError: an empty or malformed subset, or one that leaves no token.
      AssertionError: arrays whose axes do not fit together.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxsafety
      >>> base = jnp.array([[1.0, 2.0, 0.5]])  # [N,D], here the logits themselves
      >>> student = base + jnp.array([[3.0, 0.0, 0.0]])  # more of token 0, and of nothing else
      >>> kl, off = jaxsafety.token_kl_profile(student, base, jnp.eye(3), subset=[0])
      >>> print(f"{kl[0]:.3f} {off[0]:.3f}")
      0.995 0.000
    """
    check_pair(student, teacher, head_s, head_t)
    vocab = head_s.shape[1]
    member = jnp.zeros((vocab,), bool)
    if subset is not None:
        ids = check_subset(subset, vocab)
        if ids.shape[0] >= vocab:
            raise bad("token_set", f"{vocab} ids", f"fewer than the {vocab} of the vocabulary")
        member = membership(ids, vocab)
    size = chunks.rows_per_chunk(chunk, vocab)
    head_t = head_s if head_t is None else head_t
    return _profile(student, teacher, head_s, head_t, member, size, cap)


@partial(jax.jit, static_argnums=(3, 4))
def _mass(
    hidden: jax.Array, head: jax.Array, member: jax.Array, chunk: int, cap: float
) -> jax.Array:
    def body(carry: None, weight: jax.Array, rows: jax.Array) -> tuple[None, jax.Array]:
        del weight
        p = jax.nn.softmax(fused.logits(rows, head, cap))
        return carry, jnp.sum(jnp.where(member, p, 0), axis=-1)

    hidden, head = jax.lax.stop_gradient((hidden, head))  # the loop has no reverse mode
    return chunks.loop(body, None, _ones(hidden), hidden, chunk=chunk)[1]


@partial(jax.jit, static_argnums=(5, 6))
def _profile(
    student: jax.Array,
    teacher: jax.Array,
    head_s: jax.Array,
    head_t: jax.Array,
    member: jax.Array,
    chunk: int,
    cap: float,
) -> tuple[jax.Array, jax.Array]:
    def forward_kl(ours: jax.Array, theirs: jax.Array, among: jax.Array) -> jax.Array:
        def logp(x: jax.Array) -> jax.Array:
            return x - logsumexp(jnp.where(among, x, -jnp.inf), axis=-1, keepdims=True)

        terms = jnp.exp(logp(theirs)) * (logp(theirs) - logp(ours))
        return jnp.sum(jnp.where(among, terms, 0), axis=-1)

    def body(carry: None, weight: jax.Array, rows: Any) -> tuple[None, Any]:
        del weight
        ours = fused.logits(rows[0], head_s, cap)
        theirs = fused.logits(rows[1], head_t, cap)
        whole = forward_kl(ours, theirs, jnp.ones_like(member))
        return carry, (whole, forward_kl(ours, theirs, ~member))

    head_s, head_t = jax.lax.stop_gradient((head_s, head_t))
    rows = jax.lax.stop_gradient((student, teacher))
    return chunks.loop(body, None, _ones(student), rows, chunk=chunk)[1]


def _ones(rows: jax.Array) -> jax.Array:
    return jnp.ones((rows.shape[0],), jnp.float32)

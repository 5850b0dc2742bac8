"""Losses on pairs of answers of which one is preferred; whole answers, no [B,T,V].

Pinned by tests/losses/test_preference.py.
Letters: B pairs; the second axis is (preferred, other).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def dpo(
    policy: jax.Array, reference: jax.Array, weight: jax.Array, *, beta: float = 0.1
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Direct preference optimisation: -log sigma of the margin, weighted over pairs.

        m[b]  = beta ((policy[b,0] - reference[b,0]) - (policy[b,1] - reference[b,1]))
        loss  = - sum_b weight[b] log sigma(m[b])

    Rafailov et al. 2023 (arXiv 2305.18290), eq. 7. It is log 2 where policy and reference agree.

    Args:
      policy: [B,2] log-probability of each whole answer under what is trained, in nats.
      reference: [B,2] likewise under what it is held to; nothing is differentiated through it.
      weight: [B], 1 together over a step's batch.
      beta: how strongly it is held, per nat.

    Returns:
      (loss, {"margin", "preferred"}): mean margin m, and the share of pairs with m above 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsafety.losses.preference import dpo
      >>> told = jnp.array([[-3.0, -9.0]])
      >>> loss, metrics = dpo(told, jnp.array([[-5.0, -5.0]]), jnp.ones(1), beta=0.5)
      >>> print(f"{loss:.3f} {metrics['margin']:.1f}")
      0.049 3.0
    """
    gain = policy - jax.lax.stop_gradient(reference)
    margin = beta * (gain[:, 0] - gain[:, 1])
    loss = -jnp.sum(weight * jax.nn.log_sigmoid(margin))
    told = {"margin": jnp.sum(weight * margin), "preferred": jnp.sum(weight * (margin > 0))}
    return loss, jax.lax.stop_gradient(told)

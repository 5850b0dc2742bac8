"""From boolean masks to loss weights, normalised once on the global batch.

A loss in this package is `sum(weight * per_token)`, never a mean, so gradient accumulation, the
number of devices and padding rows cannot change it: the denominator is fixed here, before
anything is split. Call these on the *global* batch, then slice it. Letters: B sequences, T
positions.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxsafety.core.errors import bad


def token_weights(mask: jax.Array) -> jax.Array:
    """Every marked token counts the same.

        weight[b, t] = mask[b, t] / sum(mask)

    Args:
      mask: [B,T] bool, the tokens that are predicted (aligned to the target token).

    Returns:
      [B,T] float32, 1 / (marked tokens in the batch) on the mask, 0 elsewhere; all 0 for an empty
      mask.

    Raises:
      UsageError: a mask that is no array, such as lists of unlike lengths.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxsafety
      >>> mask = jnp.array([[True, True, True], [False, False, True]])
      >>> print(jaxsafety.token_weights(mask))
      [[0.25 0.25 0.25]
       [0.   0.   0.25]]
    """
    marked = _marked(mask)
    return marked / jnp.maximum(marked.sum(), 1.0)


def sequence_weights(mask: jax.Array) -> jax.Array:
    """Every sequence counts the same, whatever its length.

        weight[b, t] = mask[b, t] / (T_b * rows with a marked token),   T_b = sum_t mask[b, t]

    Args:
      mask: [B,T] bool, the tokens that are predicted (aligned to the target token).

    Returns:
      [B,T] float32, 1 / (rows with a marked token * marked tokens of this row) on the mask. Rows
      without a marked token get 0 and are not counted, so padding rows change nothing.

    Raises:
      UsageError: a mask that is no array, such as lists of unlike lengths.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxsafety
      >>> mask = jnp.array([[True, True, False], [False, False, True]])
      >>> print(jaxsafety.sequence_weights(mask))
      [[0.25 0.25 0.  ]
       [0.   0.   0.5 ]]

    Source: SafeSteer, arXiv 2606.02530, eq. 7.
    """
    marked = _marked(mask)
    lengths = marked.sum(axis=-1, keepdims=True)
    rows = jnp.sum(lengths > 0)
    return marked / (jnp.maximum(lengths, 1.0) * jnp.maximum(rows, 1))


def _marked(mask: Any) -> jax.Array:
    try:
        return jnp.asarray(mask).astype(jnp.float32)
    except (TypeError, ValueError):
        allowed = "[B,T] bool, every row as long as the others"
        raise bad("mask", type(mask).__name__, allowed) from None


REDUCTIONS = {"token": token_weights, "sequence": sequence_weights}


def normalise(mask: jax.Array, reduction: str) -> jax.Array:
    """Weights by name, for configs.

    Args:
      mask: [B,T] bool, the tokens that are predicted.
      reduction: "token" or "sequence".

    Returns:
      [B,T] float32 weights that sum to 1 (to 0 for an empty mask).

    Raises:
      UsageError: `reduction` is not one of the two names, or a mask that is no array.
    """
    if reduction not in REDUCTIONS:
        raise bad("reduction", reduction, ", ".join(REDUCTIONS))
    return REDUCTIONS[reduction](mask)

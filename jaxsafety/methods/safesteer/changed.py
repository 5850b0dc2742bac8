"""How much of the model training has moved: the share of weights that changed, and by how much.

SafeSteer's published code (arXiv 2606.02530) keeps the parameters in bfloat16, whose spacing is
2^-8 to 2^-7 of a value: many updates of its learning rate may be rounded away, depending on the
size of the weights, and the fine-tuning be sparse without meaning to be. Compare runs with
`train.master` float32 and bfloat16. Pinned by tests/methods/test_safesteer_program.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import trees
from jaxsafety.protocols import Context, Variables

PyTree = Any


def compare(ctx: Context, trained: Variables, trainable: Sequence[str]) -> dict[str, float]:
    """Compares the trained part of the student with the same part of the base.

    Args:
      ctx: its variables hold the base.
      trained: the variables after training, of the base's structure.
      trainable: regexes over their names; what they leave out is not counted.

    Returns:
      fraction: share of the parameters that differ once both are rounded to bfloat16, as they would
      be published; fraction_float32: share that differ at all (with bfloat16 masters the rounding
      of the base counts too); relative_change: ||student - base|| / ||base||, both as stored.

    Raises:
      UsageError: a regex that matches nothing.
    """
    arms = ({**trained, "base": params} for params in (trained["base"], ctx.variables["base"]))
    parts = [trees.partition(v, trainable, field="method.trainable")[0]["base"] for v in arms]
    student, base = map(jax.tree.leaves, parts)
    counts = [_compare(a, b) for a, b in zip(student, base, strict=True)]
    rounded, exact, gap, whole = (
        sum(float(np.sum(trees.host(x), dtype=np.float64)) for x in column)
        for column in zip(*counts, strict=True)
    )
    total = trees.count(student)
    return {
        "fraction": rounded / total,
        "fraction_float32": exact / total,
        "relative_change": float(np.sqrt(gap / whole)) if whole else 0.0,
    }


@jax.jit
def _compare(student: jax.Array, base: jax.Array) -> tuple[jax.Array, ...]:
    """Sums over all axes but the first: rounded differ, differ, squared gap, squared base.

    The rest is summed on the host in float64: int32 and float32 are too small for a whole stack.
    """
    a, b = student.astype(jnp.float32), base.astype(jnp.float32)
    # Not astype(bfloat16): compiled, XLA may skip a rounding that is at once undone.
    half_a, half_b = (jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7) for x in (a, b))
    found = (half_a != half_b, a != b, jnp.square(a - b), jnp.square(b))
    return tuple(jnp.sum(x, axis=tuple(range(1, x.ndim))) for x in found)

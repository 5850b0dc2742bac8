"""What alignment changed, start - unaligned: what mitigations after training live on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxsafety.core import trees
from jaxsafety.core.errors import bad

PyTree = Any


def check(field: str, start: PyTree, unaligned: PyTree) -> None:
    """Rejects two sets of parameters whose difference says nothing of alignment.

    Args:
      field: how an error names them.
      start: the model before the task.
      unaligned: the same before it was aligned; dtypes may differ.

    Raises:
      UsageError: other names or shapes, or no difference at all.
    """
    shapes = [
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.float32), tree)
        for tree in (start, unaligned)
    ]
    found = trees.diff(*shapes, limit=1).splitlines()
    if found:
        raise bad(field, found[0], "an unaligned base with the names and shapes of the start")
    pairs = zip(jax.tree.leaves(start), jax.tree.leaves(unaligned), strict=True)
    if not any(bool(jnp.any(a != like(b, a))) for a, b in pairs):
        raise bad(field, "an unaligned base equal to the start", "one that alignment changed")


def like(x: Any, other: Any) -> Any:
    """An array where another one lives; as it is where that is no array of a device."""
    where = getattr(other, "sharding", None)
    return x if where is None else jax.device_put(x, where)

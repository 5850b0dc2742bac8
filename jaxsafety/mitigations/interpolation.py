"""Part of the way back to where training began: what every edit after training has to beat.

    theta_s = theta_0 + s (theta - theta_0)

s = 1 is what was trained, to the bit, and s = 0 the start. Adapters count from zero, so theirs is
exact too: their `scale` is multiplied by s, and with it the update of every projection, which the
product of their two factors is not linear in. It is the line of Wortsman et al. 2022 (WiSE-FT,
arXiv 2109.01903) between a start and its fine-tuning, and a control of edits.

Pinned by tests/mitigations/test_interpolation.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxsafety.core import trees
from jaxsafety.core.errors import bad
from jaxsafety.mitigations.means import Means
from jaxsafety.protocols import Mitigation, Variables

PAPERS = {"2109.01903": ""}

PyTree = Any


@dataclass(frozen=True)
class Interpolation:
    """Settings. `s` is the part of what training changed that stays."""

    s: float = 0.5

    needs: ClassVar[tuple[str, ...]] = ("start",)
    when: ClassVar[str] = "after"

    def __post_init__(self) -> None:
        """Rejects what does not lie between the two."""
        if not 0 <= self.s <= 1:
            raise bad("mitigations.interpolation.s", self.s, "from 0 (the start) to 1 (trained)")

    def mitigation(self, means: Means) -> Mitigation:
        """The hook; it costs no data and no step."""
        return Mitigation(after=Between(self.s, means))


@dataclass(frozen=True)
class Between:
    """The `after` hook.

    Attributes:
      s: see `Interpolation`.
      means: has `start`; compared by identity.
    """

    s: float
    means: Means

    def __call__(self, variables: Variables) -> Variables:
        """The variables with "base" moved, and with the scale of "adapters", where they have some.

        Raises:
          UsageError: a start of another structure or of other shapes than "base".
        """
        if self.s == 1:
            return variables
        start, base = self.means.start, variables["base"]
        shapes = [
            jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32), tree)
            for tree in (start, base)
        ]
        if found := trees.diff(*shapes, limit=1):
            allowed = "the names and shapes of the trained base"
            raise bad("mitigations.interpolation.start", found.splitlines()[0], allowed)
        moved = {**variables, "base": jax.tree.map(self.between, start, base)}
        if "adapters" in variables:
            adapters = variables["adapters"]
            scale = adapters["scale"]
            moved["adapters"] = {**adapters, "scale": (self.s * scale).astype(scale.dtype)}
        return moved

    def between(self, start: Any, trained: Any) -> jax.Array:
        """One leaf, made in float32 where the trained one lives, in its dtype."""
        begun = jax.device_put(start, getattr(trained, "sharding", None))
        wide = jnp.promote_types(jnp.float32, trained.dtype)
        first, last = jnp.asarray(begun, wide), jnp.asarray(trained, wide)
        return (first + self.s * (last - first)).astype(trained.dtype)

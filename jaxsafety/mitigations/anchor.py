"""An L2 anchor: training may not go far from where its stage began.

L2-SP of Li, Grandvalet, Davoine 2018 (arXiv 1802.01483), without its second term, since no layer
is new here: with the stage's first parameters p0,

    loss(p) + strength / 2 * sum (p - p0)^2

Pinned by tests/mitigations/test_anchor.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.protocols import EXTRA, Extra, LossFn, Mitigation

PAPERS = {"1802.01483": ""}

PyTree = Any
NAME = "anchor"


@dataclass(frozen=True)
class Anchor:
    """Settings. `strength` is of the squared distance, in units of the loss."""

    strength: float = 0.01

    def __post_init__(self) -> None:
        """Rejects what pulls nowhere, or away."""
        if not (np.isfinite(self.strength) and self.strength > 0):
            raise bad("mitigations.anchor.strength", self.strength, "a finite number above 0")

    def mitigation(self) -> Mitigation:
        """The hooks; the metric `anchor` is the term that was added."""
        carried = Extra(begun, keep)
        return Mitigation(Pulled(self.strength), extra={NAME: carried}, budget={"copies": 1})


@dataclass(frozen=True)
class Pulled:
    """The `loss` hook."""

    strength: float

    def __call__(self, loss: LossFn, share: float) -> LossFn:
        """The loss with the distance to the anchor, in float32 whatever the masters' dtype."""

        def anchored(params: PyTree, frozen: PyTree, batch: PyTree, key: jax.Array) -> Any:
            value, metrics = loss(params, frozen, batch, key)
            gaps = jax.tree.map(
                lambda p, start: p.astype(jnp.float32) - start.astype(jnp.float32),
                params,
                frozen[EXTRA][NAME],
            )
            squares = sum(jnp.sum(jnp.square(gap)) for gap in jax.tree.leaves(gaps))
            term = share * self.strength / 2 * squares
            return value + term, {**metrics, NAME: jax.lax.stop_gradient(term)}

        return anchored


def begun(params: PyTree) -> PyTree:
    """The anchor: a copy, because the step donates parameters and anchor alike."""
    return jax.tree.map(jnp.copy, params)


def keep(tree: PyTree, params: PyTree, step: jax.Array) -> PyTree:
    """The anchor stays."""
    del params, step
    return tree

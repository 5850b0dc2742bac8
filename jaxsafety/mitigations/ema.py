"""An exponential moving average: a stage leaves the average of its parameters, not the last ones.

As Polyak averaging with a fixed rate (Tarvainen, Valpola 2017, arXiv 1703.01780, equation 1),
without correction of the start, which is what training begins with: after update t

    e_0 = p_0,    e_t = decay * e_{t-1} + (1 - decay) * p_t

in float32. Training itself does not change. Pinned by tests/mitigations/test_ema.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxsafety.core.errors import bad
from jaxsafety.protocols import Extra, Mitigation

PAPERS = {"1703.01780": ""}

PyTree = Any


@dataclass(frozen=True)
class Ema:
    """Settings."""

    decay: float = 0.99

    def __post_init__(self) -> None:
        """Rejects what is no average."""
        if not 0 < self.decay < 1:
            raise bad("mitigations.ema.decay", self.decay, "between 0 and 1")

    def mitigation(self) -> Mitigation:
        """The hooks."""
        carried = Extra(whole, Averaged(self.decay), average)
        return Mitigation(extra={"ema": carried}, budget={"copies": 1})


@dataclass(frozen=True)
class Averaged:
    """The `update` of what is carried."""

    decay: float

    def __call__(self, tree: PyTree, params: PyTree, step: jax.Array) -> PyTree:
        """One update of the average."""
        del step
        return jax.tree.map(
            lambda e, p: self.decay * e + (1 - self.decay) * p.astype(e.dtype), tree, params
        )


def whole(params: PyTree) -> PyTree:
    """The average at the start; copied, because the step donates it and the parameters."""
    return jax.tree.map(lambda p: jnp.array(p, jnp.float32, copy=True), params)


def average(tree: PyTree, params: PyTree) -> PyTree:
    """The average in the dtypes of the parameters."""
    return jax.tree.map(lambda e, p: e.astype(p.dtype), tree, params)

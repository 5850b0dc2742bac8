"""The model as it is trained beside the model as its stage began, on the same rows.

The beginning is the base that the stage began with, without adapters: of the base's parameters
those that are trained are copied into `extra` when it begins, the others are the frozen ones. With
adapters nothing of the base is trained, so nothing is copied; with all parameters it is one copy.
Letters: B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp

from jaxsafety.core import trees
from jaxsafety.core.errors import bad
from jaxsafety.data.schema import TokenBatch
from jaxsafety.mitigations.drawn import Carried
from jaxsafety.mitigations.means import Means
from jaxsafety.models.api import LayerInputs, Model, Output
from jaxsafety.protocols import EXTRA, PERTURBATION, LossFn, Pass, PassLoss, Variables

PyTree = Any
START = "start"


@dataclass(frozen=True)
class Begun:
    """`Extra.init`: dialogues of the means by name, their seed, and the trained part of the base.

    Attributes:
      means: compared by identity.
      names: fields of it.
    """

    means: Means
    names: tuple[str, ...] = ()

    def __call__(self, params: PyTree) -> dict[str, Any]:
        """{name: [N,T] dialogues, "seed": [], "start": {"base": ...} with None in the holes}."""
        # Copied, because the step donates parameters and copies alike.
        return {**Carried(self.means, self.names)(params), START: copied(params)}


def copied(params: PyTree) -> PyTree:
    """Copies of those parameters of the base that are trained, {"base": ...}."""
    return {"base": jax.tree.map(jnp.copy, params["base"])}


def trained(params: PyTree, frozen: PyTree, name: str) -> Variables:
    """All variables as they are now; `name` is the mitigation's, for the error.

    Raises:
      UsageError: adapters with a router, whose options only the method's own loss knows.
    """
    every = trees.combine(params, {key: x for key, x in frozen.items() if key != EXTRA})
    if "router" in (every.get("adapters") or {}):
        raise bad(f"mitigations.{name}", "adapters with a router", "a stage without one")
    return every


def beginning(frozen: PyTree, carried: Mapping[str, Any]) -> PyTree:
    """The base as it began."""
    return jax.lax.stop_gradient(trees.combine(carried[START]["base"], frozen["base"]))


def whole(params: PyTree) -> bool:
    """Whether any parameter of the base is trained."""
    return bool(jax.tree.leaves(params["base"]))


def shares(loss: LossFn, frozen: PyTree) -> TypeGuard[PassLoss]:
    """Whether the loss's own pass can be used: it offers it, of the model as it is."""
    return isinstance(loss, PassLoss) and PERTURBATION not in frozen


def passed(model: Model, every: Variables, batch: TokenBatch) -> Pass:
    """A pass of our own, as a loss would offer it."""
    return Pass(forward(model, every, batch).hidden, model.head(every["base"]))


def forward(model: Model, every: Variables, batch: TokenBatch, *, capture: bool = False) -> Output:
    """A pass through the base, and through its adapters where there are some."""
    return model.apply(
        every["base"],
        batch.tokens,
        batch.positions,
        segments=batch.segments,
        packed=batch.packed,
        layers=LayerInputs(adapters=every.get("adapters")),
        capture=capture,
    )

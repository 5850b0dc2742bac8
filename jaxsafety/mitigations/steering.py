"""Steering: the refusal direction is added to the hidden states of whatever answers.

The activation addition of Arditi et al. 2024 (arXiv 2406.11717), by which they make a model refuse
harmless prompts, here on the trained model: at the layer l where the direction r was found in the
start,

    h_l <- h_l + coefficient * r

at the input of the block. r (`means.steer`) has the length that separates harmful from harmless
prompts, so the coefficient 1 moves a harmless prompt to where harmful ones were on average. It
costs refusals of harmless prompts, which have to be reported beside it.

Two steerings add up, as long as both are meant for the same positions (a served model has one
`steer`). Training does not change. Pinned by tests/mitigations/test_steering.py.
Letters: L layers, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from jaxsafety.core import trees
from jaxsafety.core.errors import bad
from jaxsafety.mitigations.means import Means
from jaxsafety.protocols import Mitigation, Served

PAPERS = {"2406.11717": ""}

ON = ("all", "prompt")


@dataclass(frozen=True)
class Steering:
    """Settings. `on`: "all" positions, or those of the "prompt" alone."""

    needs: ClassVar[tuple[str, ...]] = ("steer",)
    when: ClassVar[str] = "serve"

    coefficient: float = 1.0
    on: str = "all"

    def __post_init__(self) -> None:
        """Rejects what adds nothing, or takes refusals away."""
        if not (np.isfinite(self.coefficient) and self.coefficient > 0):
            allowed = "a finite number above 0"
            raise bad("mitigations.steering.coefficient", self.coefficient, allowed)
        if self.on not in ON:
            raise bad("mitigations.steering.on", self.on, ", ".join(ON))

    def mitigation(self, means: Means) -> Mitigation:
        """The hooks.

        Raises:
          UsageError: a direction that is no [L,D] of the model, not finite, or zero.
        """
        field, config = "mitigations.steering.steer", means.model.config
        shape, steer = (config.num_layers, config.embed_dim), trees.host(means.steer)
        if steer.shape != shape:
            raise bad(field, f"shape {steer.shape}", f"[L,D], {shape}")
        if not np.isfinite(steer.astype(np.float32)).all() or not steer.any():
            raise bad(field, "zeros, or no finite numbers", "a direction of some length")
        return Mitigation(serve=Steered(self, means))


@dataclass(frozen=True)
class Steered:
    """The `serve` hook."""

    settings: Steering
    means: Means

    def __call__(self, what: Served) -> Served:
        """What it was given, steered.

        Raises:
          UsageError: it is steered already, at other positions.
        """
        on, there = self.settings.on, what.layers.add
        if there is not None and what.steer != on:
            allowed = f"{what.steer!r}: another steering is at these positions"
            raise bad("mitigations.steering.on", on, allowed)
        add = self.settings.coefficient * jnp.asarray(self.means.steer, jnp.float32)
        layers = replace(what.layers, add=add if there is None else there + add)
        return what._replace(layers=layers, steer=on)

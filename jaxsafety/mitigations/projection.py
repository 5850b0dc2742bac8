"""A penalty on what moves along the refusal direction.

With h [D] the residual stream that enters the block of the layer where the direction r was found,
h0 the same of the model that the stage began with (`began.py`), and r^ = r / ||r||,

    loss(p) + strength * sum_{b,t} m[b,t] (h[b,t] . r^ - h0[b,t] . r^)^2

m weighs every drawn dialogue the same and within it every token of its prompt, all before the first
learnt one (template tokens among them), so the sum is a mean over dialogues of means over
positions. Prompts are drawn in every step from the safe dialogues, or with `on="harmful"` from
those that are carried out. With `on="task"` the positions are the learnt tokens of the task's own
batch, m the batch's weights. h, r^ and their products are float32; h has its model's own units, so
a good strength depends on the model.

The idea is a projection constraint's (arXiv 2509.06795), known here from a secondary source only:
layer, positions and the square are this library's choice, and no code was read.

Pinned by tests/mitigations/test_projection_penalty.py.
Letters: B rows, T positions, L layers, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import trees
from jaxsafety.core.errors import bad
from jaxsafety.data.schema import TokenBatch
from jaxsafety.mitigations import began
from jaxsafety.mitigations.anchor import keep
from jaxsafety.mitigations.drawn import drawn, learnt, part, salted
from jaxsafety.mitigations.means import Means
from jaxsafety.models.api import Model
from jaxsafety.protocols import EXTRA, Extra, LossFn, Mitigation, Variables

PAPERS = {"2509.06795": ""}

PyTree = Any
NAME = "projection"
ON = ("safe", "harmful", "task")


@dataclass(frozen=True)
class Projection:
    """Settings.

    Attributes:
      strength: of the squared difference, in units of the loss.
      on: whose prompts: "safe" or "harmful" dialogues; or the answers of the "task".
      rows: dialogues drawn in a step; 0 is half as many as the task's batch has rows, at least one.
        `optim.accum` has to divide it.
    """

    strength: float = 0.1
    on: str = "safe"
    rows: int = 0

    when: ClassVar[str] = "train"

    def __post_init__(self) -> None:
        """Rejects what holds nothing, or pushes away."""
        if not (np.isfinite(self.strength) and self.strength > 0):
            raise bad("mitigations.projection.strength", self.strength, "a finite number above 0")
        if self.on not in ON:
            raise bad("mitigations.projection.on", self.on, " | ".join(ON))
        if self.rows < 0 or (self.rows and self.on == "task"):
            allowed = "0, the task's batch" if self.on == "task" else "0 or more"
            raise bad("mitigations.projection.rows", self.rows, allowed)

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of the means."""
        return ("steer",) if self.on == "task" else ("steer", self.on)

    def mitigation(self, means: Means) -> Mitigation:
        """The hooks; the metric `projection` is the mean square, without `strength`.

        Args:
          means: `model`, `rows`, `seed`, `steer` [L,D], and the dialogues [N,T] by `on`.

        Raises:
          UsageError: a direction at no layer, or at several.
        """
        names = () if self.on == "task" else (self.on,)
        rows = (self.rows or max(1, means.rows // 2)) if names else 0
        size = rows / means.rows if names else 1.0
        layer, unit = aim(trees.host(means.steer))
        budget = {"gradients": size, "forwards": size, "copies": 1}
        for name in names:
            budget[name] = getattr(means, name).tokens.shape[0]
        carried = Extra(Aimed(means, names, tuple(float(x) for x in unit)), keep)
        hook = Level(means.model, layer, self.strength, self.on, rows)
        return Mitigation(hook, extra={NAME: carried}, budget=budget)


def aim(steer: np.ndarray) -> tuple[int, np.ndarray]:
    """Layer and unit vector [D] of a direction [L,D] that is zero in all other layers.

    Raises:
      UsageError: it is at no layer, or at several.
    """
    lengths = np.linalg.norm(steer.astype(np.float64), axis=1)
    found = np.flatnonzero(lengths)
    if len(found) != 1:
        given = f"a direction at layers {found.tolist()}"
        raise bad("mitigations.projection", given, "one layer")
    layer = int(found[0])
    return layer, (steer[layer] / lengths[layer]).astype(np.float32)


@dataclass(frozen=True)
class Aimed:
    """`Extra.init`: what `began.Begun` carries, and the unit direction [D]."""

    means: Means
    names: tuple[str, ...]
    unit: tuple[float, ...]

    def __call__(self, params: PyTree) -> dict[str, Any]:
        """{..., "direction": [D] float32}."""
        unit = jnp.asarray(self.unit, jnp.float32)
        return {**began.Begun(self.means, self.names)(params), "direction": unit}


@dataclass(frozen=True)
class Level:
    """The `loss` hook.

    Attributes:
      model: the model.
      layer: whose block's input is looked at.
      strength: see `Projection`.
      on: see `Projection`.
      rows: drawn in a step.
    """

    model: Model
    layer: int
    strength: float
    on: str
    rows: int

    def __call__(self, loss: LossFn, share: float) -> LossFn:
        """The loss with the penalty."""
        count = part(self.rows, share, "mitigations.projection.rows")

        def level(params: PyTree, frozen: PyTree, batch: PyTree, key: jax.Array) -> Any:
            value, metrics = loss(params, frozen, batch, key)
            carried = frozen[EXTRA][NAME]
            if count:
                rows = drawn(carried[self.on], salted(key, carried, NAME), count)
                term = share * self.term(params, frozen, rows, prompts(rows))
            else:
                rows = learnt(batch, NAME)
                term = self.term(params, frozen, rows, rows.weight)  # its weights add up
            told = {NAME: jax.lax.stop_gradient(term)}
            return value + self.strength * term, {**metrics, **told}

        return level

    def term(
        self, params: PyTree, frozen: PyTree, rows: TokenBatch, weight: jax.Array
    ) -> jax.Array:
        """[] weighted squared change along the direction, of rows [B,T] by weight [B,T]."""
        carried = frozen[EXTRA][NAME]
        now = self.along(began.trained(params, frozen, NAME), rows, carried["direction"])
        start = {"base": began.beginning(frozen, carried)}
        then = self.along(start, rows, carried["direction"])
        return jnp.sum(weight * jnp.square(now - then))

    def along(self, every: Variables, rows: TokenBatch, direction: jax.Array) -> jax.Array:
        """[B,T] h . r^."""
        residuals = began.forward(self.model, every, rows, capture=True).residuals
        assert residuals is not None  # captured
        exact = jax.lax.Precision.HIGHEST
        return jnp.matmul(residuals[self.layer].astype(jnp.float32), direction, precision=exact)


def prompts(rows: TokenBatch) -> jax.Array:
    """[B,T] every row the same, and within it every token before the first learnt one."""
    seen = jnp.cumsum(rows.weight > 0, axis=1) > 0
    mask = ((rows.segments > 0) & ~seen).astype(jnp.float32)
    each = mask / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
    return each / mask.shape[0]

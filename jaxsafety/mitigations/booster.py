"""Booster: alignment after which a step on harmful dialogues lowers their loss less.

In every step, with safe rows s and harmful rows h,

    g1 = grad L_h(p),    p' = p - alpha * g1 / ||g1||,    g2 = grad L_h(p')
    gradient = grad L_s(p) + strength * (g1 - g2)

which is the gradient of L_s(p) + strength * (L_h(p) - L_h(p')) where p' moves as p does: g2 is not
differentiated through the step that leads to p'.

Huang et al. 2024 (arXiv 2409.01586); re-made from the formula of git-disl/Booster (trainer.py at
30f959e, `BoosterAlignmentTrainer`; alpha = 0.1 and lambda = 5, here `strength`, of
script/alignment/smooth_align.sh). What differs: harmful rows are drawn with replacement, not an
epoch at a time, each weighing the same, and their number is a setting (the code has ten beside a
batch of ten); with micro-batches each draws its part of them and has its own p', as in the code,
and their terms count once together; the code adds 1e-7 to ||g1||, here ||g1|| = 0 leaves p where it
is. With Vaccine in the chain only the safe gradient is perturbed, as by the code's `perturb_aware`.

Pinned by tests/mitigations/test_booster.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import trees
from jaxsafety.core.errors import bad
from jaxsafety.mitigations.anchor import keep
from jaxsafety.mitigations.drawn import Carried, drawn, part, salted
from jaxsafety.mitigations.means import Means
from jaxsafety.protocols import EXTRA, PERTURBATION, Extra, GradFn, LossFn, Mitigation

PAPERS = {"2409.01586": ""}

PyTree = Any
NAME = "booster"
HARMFUL = "booster/harmful"  # the frozen variable by which the loss knows that it is of these rows
ROWS = "it would change the harmful rows as well as the safe ones"


@dataclass(frozen=True)
class Booster:
    """Settings. Terms of other mitigations in the loss are part of L_s and of L_h.

    Attributes:
      alpha: length of the harmful step, over all trained parameters.
      strength: lambda, of the difference of the two gradients.
      rows: harmful rows of a step; 0 is as many as the stage's batch has.
    """

    alpha: float = 0.1
    strength: float = 5.0
    rows: int = 0

    needs: ClassVar[tuple[str, ...]] = ("safe", "harmful")
    when: ClassVar[str] = "align"
    apart: ClassVar[Any] = MappingProxyType({"lisa": ROWS, "mixing": ROWS, "recovery": ROWS})

    def __post_init__(self) -> None:
        """Rejects a step of no length, and a pull to harmful answers."""
        if not (np.isfinite(self.alpha) and self.alpha > 0):
            raise bad("mitigations.booster.alpha", self.alpha, "a finite number above 0")
        if not (np.isfinite(self.strength) and self.strength >= 0):
            raise bad("mitigations.booster.strength", self.strength, "a finite number, 0 or more")
        if self.rows < 0:
            raise bad("mitigations.booster.rows", self.rows, "0 or more")

    def mitigation(self, means: Means) -> Mitigation:
        """The hooks.

        Metrics are `booster`, the harmful rows' loss, and `booster/drop`, by how much their step
        lowers it.

        Args:
          means: `safe` and `harmful` [N,T], `rows`, `seed`.
        """
        assert means.safe is not None and means.harmful is not None  # `means.build` has asked
        rows = self.rows or means.rows
        return Mitigation(
            loss=Either(rows),
            grad=Attenuated(self.alpha, self.strength),
            extra={NAME: Extra(Carried(means, ("harmful",)), keep)},
            budget={
                "safe": means.safe.tokens.shape[0],
                "harmful": means.harmful.tokens.shape[0],
                "gradients": 2 * rows / means.rows,
            },
        )


@dataclass(frozen=True)
class Either:
    """The `loss` hook: the loss of the batch, or that of harmful rows where it is asked for.

    The `grad` hook asks by `HARMFUL`; here the share of a micro-batch is known, there it is not.
    """

    rows: int

    def __call__(self, loss: LossFn, share: float) -> LossFn:
        """The loss of one of them; equal keys draw equal rows."""
        count = part(self.rows, share, f"mitigations.{NAME}.rows")

        def either(params: PyTree, frozen: PyTree, batch: PyTree, key: jax.Array) -> Any:
            if HARMFUL not in frozen:
                return loss(params, frozen, batch, key)
            asked = (HARMFUL, PERTURBATION)  # the latter has the shape of the batch
            rest = {name: value for name, value in frozen.items() if name not in asked}
            carried = frozen[EXTRA][NAME]
            first, second = jax.random.split(salted(key, carried, NAME))
            value, metrics = loss(params, rest, drawn(carried["harmful"], first, count), second)
            return share * value, metrics

        return either


@dataclass(frozen=True)
class Attenuated:
    """The `grad` hook; see `Booster`."""

    alpha: float
    strength: float

    def __call__(self, compute_of: GradFn) -> GradFn:
        """Safe gradients as `compute_of` makes them, and what the harmful step adds."""

        def build(loss: LossFn) -> Any:
            compute, plain = compute_of(loss), jax.value_and_grad(loss, has_aux=True)

            def gradients(params: PyTree, frozen: PyTree, batch: PyTree, key: jax.Array) -> Any:
                (value, metrics), grads = compute(params, frozen, batch, key)
                asked = {**frozen, HARMFUL: ()}
                (before, _), g1 = plain(params, asked, batch, key)
                (after, _), g2 = plain(stepped(params, g1, self.alpha), asked, batch, key)
                told = {NAME: before, f"{NAME}/drop": before - after}
                total = jax.tree.map(lambda g, a, b: g + self.strength * (a - b), grads, g1, g2)
                return (value, {**metrics, **told}), total

            return gradients

        return build


def stepped(params: PyTree, grads: PyTree, length: float) -> PyTree:
    """Parameters after a step of this length against the gradient; where they are if it is 0."""
    norm = trees.norm(grads)
    scale = jnp.where(norm > 0, length / jnp.where(norm > 0, norm, 1.0), 0.0)
    return jax.tree.map(
        lambda p, g: (p.astype(jnp.float32) - scale * g.astype(jnp.float32)).astype(p.dtype),
        params,
        grads,
    )

"""Vaccine: alignment against a perturbation of the hidden states, the one that hurts it most.

In every step on safe dialogues, with h_l what enters block l and all layers under one norm,

    g_l = dL/dh_l,    eps_l = rho * g_l / ||g||,    gradient = dL/dp at h_l + eps_l, eps fixed

so that hidden states that a later fine-tuning moves still lead to safe answers. `random` is its
control: Gaussian noise of the same norm at all tokens, for which no first gradient is needed.

Huang, Hu, Liu 2024 (arXiv 2402.01109); re-made from the formula of git-disl/Vaccine (trainer.py at
3920708, `BaseTrainer`, `RandomVaccineTrainer`) with rho = 5 of git-disl/Booster's
script/alignment/vaccine.sh (at caf91cd; other scripts use 0.1, so it is a knob to sweep). What
differs: the code perturbs what attention adds to the residual stream, here it is the stream half a
block earlier (`LayerInputs.add`), the first one being the embeddings; either reaches all that
follows, and here the same block's attention too. Its random control draws noise of variance rho per
number, whose norm grows with rows, tokens and width; here both have norm rho, so the control
differs in direction alone. Its norm is taken of each micro-batch alone, so accumulation makes it
stronger; here each of `accum` micro-batches gets rho / sqrt(accum), and a step has rho however it
is split. It adds 1e-7 to ||g||; here only ||g|| = 0 is an exception, and perturbs nothing.

Pinned by tests/mitigations/test_vaccine.py.
Letters: L layers, B rows of a micro-batch, T positions, D width.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import bad
from jaxsafety.mitigations.drawn import learnt
from jaxsafety.mitigations.means import Means
from jaxsafety.protocols import PERTURBATION, GradFn, LossFn, Mitigation

PAPERS = {"2402.01109": ""}

PyTree = Any
NAME = "vaccine"
SHAPES = "the perturbation has the shape of the stage's own rows"


@dataclass(frozen=True)
class Vaccine:
    """Settings, for stages of `answer_loss` (a loss that reads no perturbation has no use of it).

    Attributes:
      rho: norm of the perturbation over all layers, rows and positions of a step.
      random: noise of that norm instead, as a control.
    """

    rho: float = 5.0
    random: bool = False

    needs: ClassVar[tuple[str, ...]] = ("safe",)
    when: ClassVar[str] = "align"
    apart: ClassVar[Any] = MappingProxyType({"mixing": SHAPES, "recovery": SHAPES})

    def __post_init__(self) -> None:
        """Rejects what is no length."""
        if not (np.isfinite(self.rho) and self.rho >= 0):
            raise bad("mitigations.vaccine.rho", self.rho, "a finite number, 0 or more")

    def mitigation(self, means: Means) -> Mitigation:
        """The hooks.

        Metrics are those of the perturbed pass, and `vaccine`, the loss without the perturbation
        (not with `random`, which does not compute it).

        Args:
          means: `model`, `safe` [N,T].
        """
        assert means.safe is not None  # `means.build` has asked
        config = means.model.config
        hook = Perturbed(self.rho, self.random, config.num_layers, config.embed_dim)
        budget = {"safe": means.safe.tokens.shape[0], "gradients": 0 if self.random else 1}
        return Mitigation(loss=in_parts, grad=hook, budget=budget)


def in_parts(loss: LossFn, share: float) -> LossFn:
    """The `loss` hook: a perturbation of a micro-batch is as long as its part of a step's.

    Squares of micro-batches' norms add up: 1 / share of them are each shorter by sqrt(share).
    """

    def parted(params: PyTree, frozen: PyTree, batch: PyTree, key: jax.Array) -> Any:
        if PERTURBATION in frozen:
            frozen = {**frozen, PERTURBATION: share**0.5 * frozen[PERTURBATION]}
        return loss(params, frozen, batch, key)

    return parted


@dataclass(frozen=True)
class Perturbed:
    """The `grad` hook.

    Attributes:
      rho: see `Vaccine`.
      random: see `Vaccine`.
      layers: L.
      width: D.
    """

    rho: float
    random: bool
    layers: int
    width: int

    def __call__(self, compute_of: GradFn) -> GradFn:
        """Gradients at the perturbed hidden states, as `compute_of` makes them."""

        def build(loss: LossFn) -> Any:
            compute = compute_of(loss)

            def gradients(params: PyTree, frozen: PyTree, batch: PyTree, key: jax.Array) -> Any:
                eps, told = self.perturbation(loss, params, frozen, batch, key)
                given = {**frozen, PERTURBATION: eps}
                (value, metrics), grads = compute(params, given, batch, key)
                return (value, {**metrics, **told}), grads

            return gradients

        return build

    def perturbation(
        self, loss: LossFn, params: PyTree, frozen: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """([L,B,T,D] float32 of norm rho, metrics).

        Raises:
          UsageError: a stage that learns from something else than dialogues.
        """
        rows = learnt(batch, NAME)
        shape = (self.layers, *rows.tokens.shape, self.width)
        if self.random:
            noise = jax.random.normal(jax.random.fold_in(key, zlib.crc32(NAME.encode())), shape)
            found = noise * (rows.segments > 0)[None, :, :, None]
            return scaled(constrained(found), self.rho), {}

        def at(eps: jax.Array) -> Any:
            return loss(params, {**frozen, PERTURBATION: eps}, batch, key)

        zero = constrained(jnp.zeros(shape, jnp.float32))
        (value, _), found = jax.value_and_grad(at, has_aux=True)(zero)
        return scaled(constrained(found), self.rho), {NAME: value}


def scaled(x: jax.Array, norm: float) -> jax.Array:
    """`x` with this norm over all axes; zeros stay zeros."""
    length = trees.norm(x)
    some = length > 0
    return x * jnp.where(some, norm / jnp.where(some, length, 1.0), 0.0)


def constrained(x: jax.Array) -> jax.Array:
    """[L,B,T,D] split over the devices as the rows are."""
    return sharding.constrain(x, (None, "batch", None, None))

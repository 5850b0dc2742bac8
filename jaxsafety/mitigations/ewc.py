"""Elastic weight consolidation: parameters that refusals depend on may not go far from the start.

With the stage's first parameters p0,

    loss(p) + strength / 2 * sum_i F_i (p_i - p0_i)^2
    F_i = G_i / mean(G),    G_i = mean over safe dialogues (x, y) of (d log p0(y | x) / d p_i)^2

where log p0(y | x) is the sum over the learnt tokens of a dialogue, and mean(G) is over all trained
parameters. Kirkpatrick et al. 2017 (arXiv 1612.00796) with the empirical Fisher information, whose
answers are the dialogues' own, not sampled. What differs: F is normalised. The raw squares are
tiny and depend on the model and on the length of answers, so no strength would mean the same twice;
with a mean of 1 it means what `anchor`'s does, which is F = 1 everywhere. Where all are 0, so is F.

F and p0 are carried in `extra` from the stage's beginning on, float32 and like the parameters: they
survive a kill with it and are never made again. F takes one gradient for each dialogue, once.

Adapters: beginnings have B = 0, and dW = scale * B A, so the derivative by A is 0 and F_A with it:
A moves freely, B is held in the coordinates that A had at the start. That bounds B, not dW itself:
where A has grown, the same B is a larger change. A beginning does not see the frozen variables:
the base is `means.start`, which passes through the host into the program that makes F (whole on
every device, once), and the adapters' scale counts as 1, which cancels in F where it is the same in
all layers.

Pinned by tests/mitigations/test_ewc.py.
Letters: N dialogues, T positions.
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
from jaxsafety.losses.logprobs import nll
from jaxsafety.mitigations import began
from jaxsafety.mitigations.anchor import begun, keep
from jaxsafety.mitigations.drawn import Carried
from jaxsafety.mitigations.means import Means
from jaxsafety.models.api import Model
from jaxsafety.protocols import EXTRA, Extra, LossFn, Mitigation, Variables

PAPERS = {"1612.00796": ""}

PyTree = Any
NAME = "ewc"


@dataclass(frozen=True)
class Ewc:
    """Settings. `strength` is of the squared distance in units of the loss, see the formula."""

    strength: float = 0.01

    needs: ClassVar[tuple[str, ...]] = ("safe",)
    when: ClassVar[str] = "train"

    def __post_init__(self) -> None:
        """Rejects what pulls nowhere, or away."""
        if not (np.isfinite(self.strength) and self.strength > 0):
            raise bad("mitigations.ewc.strength", self.strength, "a finite number above 0")

    def mitigation(self, means: Means) -> Mitigation:
        """The hooks; the metric `ewc` is the term that was added.

        Args:
          means: `model`, `start`, and `safe` [N,T].
        """
        assert means.safe is not None  # `means.build` has asked
        return Mitigation(
            Pulled(self.strength),
            extra={NAME: Extra(Informed(means), keep)},
            budget={"safe": means.safe.tokens.shape[0], "copies": 2},
        )


@dataclass(frozen=True)
class Pulled:
    """The `loss` hook."""

    strength: float

    def __call__(self, loss: LossFn, share: float) -> LossFn:
        """The loss with the weighed distance, in float32 whatever the masters' dtype."""

        def pulled(params: PyTree, frozen: PyTree, batch: PyTree, key: jax.Array) -> Any:
            began.trained(params, frozen, NAME)  # refuses a router
            value, metrics = loss(params, frozen, batch, key)
            carried = frozen[EXTRA][NAME]

            def pull(p: jax.Array, start: jax.Array, fisher: jax.Array) -> jax.Array:
                gap = p.astype(jnp.float32) - start.astype(jnp.float32)
                return jnp.sum(fisher * jnp.square(gap))

            pulls = jax.tree.map(pull, params, carried[began.START], carried["fisher"])
            term = share * self.strength / 2 * sum(jax.tree.leaves(pulls))
            return value + term, {**metrics, NAME: jax.lax.stop_gradient(term)}

        return pulled


@dataclass(frozen=True)
class Informed:
    """`Extra.init`: the parameters at the start and F, both like the parameters."""

    means: Means

    def __call__(self, params: PyTree) -> dict[str, PyTree]:
        """{"start": p0, "fisher": F float32}."""
        safe = Carried(self.means, ("safe",))(params)["safe"]
        rest = fetched(params["base"], self.means.start)
        squares = information(self.means.model, params, rest, safe)
        return {began.START: begun(params), "fisher": normalised(squares)}


def fetched(given: PyTree, start: PyTree) -> PyTree:
    """The leaves of `start` where `given` has holes, None elsewhere.

    As inputs that the host hands over while the program runs: closed over they would be constants
    of it, and no program can hold a large model.
    """
    lacking = jax.tree.map(
        lambda p, s: s if p is None else None, given, start, is_leaf=lambda x: x is None
    )
    if not jax.tree.leaves(lacking):
        return lacking
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), lacking)
    return jax.pure_callback(lambda: jax.tree.map(trees.host, lacking), shapes)


def information(model: Model, params: PyTree, rest: PyTree, dialogues: TokenBatch) -> PyTree:
    """The mean over dialogues of squared gradients of an answer's log-likelihood, float32.

    Args:
      model: the model.
      params: the trained variables, None in the holes.
      rest: the base's parameters in those holes.
      dialogues: [N,T].

    Returns:
      Arrays like `params`.
    """

    def answer(params: PyTree, row: TokenBatch) -> jax.Array:
        every = completed(params, rest)
        hidden = began.forward(model, every, row).hidden
        learnt = (row.weight > 0).astype(jnp.float32)
        head, cap = model.head(every["base"]), model.config.logit_cap
        return nll(hidden, head, row.tokens, learnt, cap=cap)[0]

    def add(total: PyTree, row: TokenBatch) -> tuple[PyTree, None]:
        grads = jax.grad(answer)(params, jax.tree.map(lambda x: x[None], row))
        square = lambda s, g: s + jnp.square(g.astype(jnp.float32))  # noqa: E731
        return jax.tree.map(square, total, grads), None

    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
    total, _ = jax.lax.scan(add, zeros, dialogues)
    return jax.tree.map(lambda x: x / dialogues.tokens.shape[0], total)


def completed(params: PyTree, rest: PyTree) -> Variables:
    """All variables as far as a beginning knows them: the adapters' scale is 1."""
    every: Variables = {"base": trees.combine(params["base"], rest)}
    experts = params.get("adapters", {}).get("experts")
    if experts:
        layers = jax.tree.leaves(experts)[0].shape[0]
        every["adapters"] = {"experts": experts, "scale": jnp.ones(layers)}
    return every


def normalised(squares: PyTree) -> PyTree:
    """The same with a mean of 1 over all their elements; zeros stay."""
    total = sum(jnp.sum(x) for x in jax.tree.leaves(squares))
    mean = total / trees.count(squares)
    return jax.tree.map(lambda x: jnp.where(mean > 0, x / jnp.where(mean > 0, mean, 1), 0), squares)

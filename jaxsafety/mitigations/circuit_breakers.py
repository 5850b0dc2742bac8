"""Circuit breakers: representation rerouting. What is harmful leads to other hidden states.

The stage's own loss and rows are replaced. With h the hidden states of the model that the stage
began with and h' those of the one that trains, in update n = 1, 2, ...,

    q = n / over
    L = alpha * q       * mean_{all states l, tokens t of harmless rows} ||h'_lt - h_lt||_2
      + alpha * (1 - q) * mean_{l in S, tokens t of harmful rows} relu(cos(h'_lt, h_lt))

Both means are over states and tokens, so of equal models the first is 0 and the second 1, however
many states there are. States are counted as in transformers' `hidden_states`: 0 the embeddings, l
what leaves block l, and the last one after the final norm.

Zou et al. 2024 (arXiv 2406.04313). The original repository (GraySwanAI/circuit-breakers) is not at
hand; the function was read in copies of it, which agree: find_string "self.current_training_step /
300" and "retain_coeff * retain_loss". They say alpha 10, S = {10, 20} of 32 states, `over` 300
while training ends after 150 updates, so q <= 1/2, and n counted before it is used. What differs:
the mean over harmless tokens leaves out padding, which the code counts as zeros; q ends at 1, where
the code goes on to reward cosines; n counts updates, not micro-batches; "as it began" is a copy of
what is trained, which for a fresh LoRA is the base without it; rows are drawn with replacement, and
harmful ones are dialogues, where the code leaves out the prompt of half of them.

At the start every cosine is at its maximum and every distance 0, so both gradients are 0 but for
rounding, which decides the direction in which training leaves: equal bits on equal machines, but no
two numbers of devices go the same way. By design harmful prompts then get incoherent text: judge it
with coherence first (`benchmarks.outcomes`).

Pinned by tests/mitigations/test_circuit_breakers.py.
Letters: L layers, B rows of a micro-batch, T positions, D width.
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
from jaxsafety.data.schema import TokenBatch
from jaxsafety.mitigations.drawn import Carried, drawn, part, salted
from jaxsafety.mitigations.means import Means
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.protocols import EXTRA, Extra, LossFn, Mitigation, Variables

PAPERS = {"2406.04313": ""}

PyTree = Any
NAME = "circuit_breakers"
OF = 32  # the states of the paper's models, by which `DEPTHS` are counted
DEPTHS = (10, 20)
REPLACED = "circuit breakers replace the loss that it works on"
OTHERS = ("booster", "lisa", "mixing", "recovery", "vaccine")


@dataclass(frozen=True)
class CircuitBreakers:
    """Settings. In a chain it comes first: it drops the terms of those before it.

    Attributes:
      alpha: of both terms.
      over: updates in which the weight moves from the second term to the first.
      layers: S, states from 1 to L; () are those at 10/32 and 20/32 of the depth.
      rows: harmless and harmful rows of a step, as many of each; 0 is what the stage's batch has.
    """

    alpha: float = 10.0
    over: int = 300
    layers: tuple[int, ...] = ()
    rows: int = 0

    needs: ClassVar[tuple[str, ...]] = ("harmful", "harmless")
    when: ClassVar[str] = "align"
    apart: ClassVar[Any] = MappingProxyType(dict.fromkeys(OTHERS, REPLACED))

    def __post_init__(self) -> None:
        """Rejects what breaks nothing."""
        if not (np.isfinite(self.alpha) and self.alpha > 0):
            raise bad("mitigations.circuit_breakers.alpha", self.alpha, "a finite number above 0")
        if self.over < 1:
            raise bad("mitigations.circuit_breakers.over", self.over, "1 or more")
        if self.rows < 0:
            raise bad("mitigations.circuit_breakers.rows", self.rows, "0 or more")

    def mitigation(self, means: Means) -> Mitigation:
        """The hooks; metrics `circuit_breakers/retain` and `circuit_breakers/reroute`, the means.

        Args:
          means: `model`, `harmful` and `harmless` [N,T], `rows`, `seed`.

        Raises:
          UsageError: layers that the model does not have.
        """
        assert means.harmful is not None  # `means.build` has asked
        rows, depth = self.rows or means.rows, means.model.config.num_layers
        layers = chosen(self.layers, depth)
        hook = Rerouting(means.model, self.alpha, self.over, layers, rows)
        ratio = rows / means.rows
        return Mitigation(
            loss=hook,
            extra={NAME: Extra(Begun(means), count)},
            budget={
                "harmful": means.harmful.tokens.shape[0],
                "gradients": 2 * ratio - 1,  # instead of the stage's own
                "forwards": 2 * ratio,
                "copies": 1,
            },
        )


def chosen(layers: tuple[int, ...], depth: int) -> tuple[int, ...]:
    """The states that are rerouted; by default the paper's, scaled to the depth.

    Raises:
      UsageError: states that the model does not have, or one twice.
    """
    if not layers:
        return tuple(sorted({max(1, round(depth * at / OF)) for at in DEPTHS}))
    if len(set(layers)) < len(layers) or not all(1 <= layer <= depth for layer in layers):
        raise bad(f"mitigations.{NAME}.layers", layers, f"different ones from 1 to {depth}")
    return tuple(layers)


@dataclass(frozen=True)
class Begun:
    """`Extra.init`: the dialogues, a copy of what is trained, and how many updates there were."""

    means: Means

    def __call__(self, params: PyTree) -> dict[str, Any]:
        """A copy, because the step donates it and the parameters."""
        return {
            **Carried(self.means, ("harmful", "harmless"))(params),
            "start": jax.tree.map(jnp.copy, params),
            "done": jnp.zeros((), jnp.int32),
        }


def count(tree: Any, params: PyTree, step: jax.Array) -> Any:
    """`Extra.update`: one update more."""
    del params, step
    return {**tree, "done": tree["done"] + 1}


@dataclass(frozen=True)
class Rerouting:
    """The `loss` hook; see `CircuitBreakers`."""

    model: Model
    alpha: float
    over: int
    layers: tuple[int, ...]
    rows: int

    def __call__(self, loss: LossFn, share: float) -> LossFn:
        """The loss of representation rerouting."""
        del loss  # replaced
        number = part(self.rows, share, f"mitigations.{NAME}.rows")

        def rerouting(params: PyTree, frozen: PyTree, batch: PyTree, key: jax.Array) -> Any:
            del batch  # replaced as well
            carried = frozen[EXTRA][NAME]
            rest = {name: value for name, value in frozen.items() if name != EXTRA}
            now, start = trees.combine(params, rest), trees.combine(carried["start"], rest)
            first, second = jax.random.split(salted(key, carried, NAME))
            kept = drawn(carried["harmless"], first, number)
            broken = drawn(carried["harmful"], second, number)
            retain = distance(*self.both(now, start, kept), kept.segments > 0)
            after, before = (x[jnp.asarray(self.layers)] for x in self.both(now, start, broken))
            reroute = alignment(after, before, broken.segments > 0)
            q = jnp.minimum((carried["done"] + 1) / self.over, 1.0)
            told = {f"{NAME}/retain": share * retain, f"{NAME}/reroute": share * reroute}
            value = share * self.alpha * (q * retain + (1 - q) * reroute)
            return value, jax.lax.stop_gradient(told)

        return rerouting

    def both(
        self, now: Variables, start: Variables, rows: TokenBatch
    ) -> tuple[jax.Array, jax.Array]:
        """Hidden states of the model as it is and, without gradient, as it began."""
        before = jax.lax.stop_gradient(states(self.model, start, rows))
        return states(self.model, now, rows), before


def states(model: Model, every: Variables, rows: TokenBatch) -> jax.Array:
    """[L+1,B,T,D] float32: what enters each block, and the last hidden states.

    Raises:
      UsageError: adapters with a router.
    """
    adapters = every.get("adapters")
    if adapters is not None and "router" in adapters:
        raise bad(f"mitigations.{NAME}", "experts with a router", "all parameters, or a LoRA")
    out = model.apply(
        every["base"],
        rows.tokens,
        rows.positions,
        segments=rows.segments,
        packed=rows.packed,
        layers=LayerInputs(adapters=adapters),
        capture=True,
    )
    assert out.residuals is not None
    return jnp.concatenate([out.residuals, out.hidden[None]]).astype(jnp.float32)


def distance(now: jax.Array, start: jax.Array, mask: jax.Array) -> jax.Array:
    """[] mean over states and tokens of ||now - start||_2, whose gradient at 0 is 0.

    Args:
      now: [L,B,T,D].
      start: the same.
      mask: [B,T] bool, the tokens.
    """
    return _mean(_length(now - start)[0], mask)


def alignment(now: jax.Array, start: jax.Array, mask: jax.Array) -> jax.Array:
    """[] mean over states and tokens of relu(cos(now, start)); of a zero vector the cosine is 0.

    Args:
      now: [L,B,T,D].
      start: the same.
      mask: [B,T] bool, the tokens.
    """
    (a, some_a), (b, some_b) = _length(now), _length(start)
    some = some_a & some_b
    product = jnp.sum(now * start, axis=-1)
    # Divided one by one: the product of two lengths may overflow or vanish.
    cosine = product / jnp.where(some, a, 1.0) / jnp.where(some, b, 1.0)
    return _mean(jnp.where(some, jax.nn.relu(cosine), 0.0), mask)


def _length(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(norm over the last axis with gradient 0 at 0, whether it is more than 0)."""
    square = jnp.sum(jnp.square(x), axis=-1)
    some = square > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, square, 1.0)), 0.0), some


def _mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Of [L,B,T] over layers and the tokens of `mask` [B,T]; 0 where there are none."""
    tokens = jnp.maximum(jnp.sum(mask), 1) * values.shape[0]
    return jnp.sum(jnp.where(mask, values, 0.0)) / tokens

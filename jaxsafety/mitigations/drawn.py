"""Dialogues of the means that a loss draws in every step: carried with the state, drawn by its key.

    own * L(batch) + other * share * L(rows drawn)

They are carried in `extra`, so no step is compiled around their tokens. Each micro-batch draws its
part of the rows by its own key: the micro-batches of a step draw together what one batch would, but
not the same rows. On several devices the rows are split as the batch is.
Letters: N dialogues, B rows of a micro-batch, T positions.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import bad
from jaxsafety.data.schema import TokenBatch
from jaxsafety.mitigations.means import Means, draw
from jaxsafety.protocols import EXTRA, LossFn

PyTree = Any
WIDTHS = 8  # rows of drawn dialogues are a multiple of it long


@dataclass(frozen=True)
class Carried:
    """`Extra.init`: dialogues of the means by name, and the seed of their draws.

    Attributes:
      means: compared by identity.
      names: fields of it.
      count: how many dialogues of each; 0 is all. A smaller count takes a part of a larger one's.
    """

    means: Means
    names: tuple[str, ...]
    count: int = 0

    def __call__(self, params: PyTree) -> dict[str, Any]:
        """{name: [N,T] dialogues, "seed": []}."""
        del params
        found = {name: chosen(getattr(self.means, name), self) for name in self.names}
        return {**found, "seed": seed(self.means)}


def chosen(dialogues: TokenBatch, carried: Carried) -> TokenBatch:
    """`carried.count` of the dialogues, of the order that the means' seed gives them."""
    whole = narrowed(jax.tree.map(trees.host, dialogues))
    if carried.count:
        order = np.random.default_rng(carried.means.seed).permutation(whole.tokens.shape[0])
        whole = jax.tree.map(lambda x: x[order[: carried.count]], whole)
    return jax.tree.map(jnp.asarray, whole)


def narrowed(dialogues: TokenBatch) -> TokenBatch:
    """[N,T'] the dialogues [N,T], numpy, without the columns that are padding in all of them.

    Dialogues of the means stand one a row, so rows as long as the task's, where several share one,
    are mostly padding, which costs as much as tokens do. T' is a multiple of 8, or T.
    """
    used = np.flatnonzero(((dialogues.segments > 0) | (dialogues.weight > 0)).any(axis=0))
    width = -(-(int(used[-1]) + 1) // WIDTHS) * WIDTHS if used.size else WIDTHS
    return jax.tree.map(lambda x: x[:, :width], dialogues)


def seed(means: Means) -> jax.Array:
    """[] uint32 the means' seed, which every draw folds in."""
    return jnp.uint32(means.seed % 2**32)


def salted(key: jax.Array, carried: Mapping[str, Any], name: str) -> jax.Array:
    """The key of a mitigation's own draws: not the one that the wrapped loss uses."""
    return jax.random.fold_in(jax.random.fold_in(key, carried["seed"]), zlib.crc32(name.encode()))


def drawn(dialogues: TokenBatch, key: jax.Array, count: int) -> TokenBatch:
    """[count,T] rows drawn with replacement, their weights 1 together, split over the devices."""
    found = draw(dialogues, key, count)
    return jax.tree.map(lambda x: sharding.constrain(x, ("batch", None)), found)


def part(rows: int, share: float, field: str) -> int:
    """Rows that a micro-batch draws of the `rows` of a step.

    Raises:
      UsageError: micro-batches that do not divide the rows.
    """
    accum = round(1 / share)
    if rows % accum:
        raise bad(field, rows, f"a multiple of optim.accum, {accum}")
    return rows // accum


def learnt(batch: Any, name: str) -> TokenBatch:
    """The batch, which has to be one of dialogues.

    Raises:
      UsageError: a stage that learns from something else.
    """
    if not isinstance(batch, TokenBatch):
        given = f"batches of type {type(batch).__name__}"
        raise bad(f"mitigations.{name}", given, "a stage that learns from dialogues (TokenBatch)")
    return batch


def longest(dialogues: TokenBatch) -> int:
    """How many positions hold all that is learnt of each of the dialogues [N,T]."""
    used = np.flatnonzero((trees.host(dialogues.weight) > 0).any(axis=0))
    return int(used[-1]) + 1 if used.size else 0


def fitted(rows: TokenBatch, width: int) -> TokenBatch:
    """Rows [B,*] as [B,width]: cut, or padded with what is in no segment and weighs nothing."""

    def fit(x: jax.Array) -> jax.Array:
        return jnp.pad(x[:, :width], ((0, 0), (0, max(0, width - x.shape[1]))))

    return jax.tree.map(fit, rows)


@dataclass(frozen=True)
class Beside:
    """A `loss` hook: own * L(batch) + other * L(rows drawn); the metric `name` is the latter L.

    It calls the loss that it wraps twice, so a term in there that is no sum over rows counts own +
    other times: in a chain this one comes before what adds such a term.

    Attributes:
      name: of the mitigation, in `extra` and in errors.
      dialogues: field of what is carried.
      own: weight of the batch's loss.
      other: weight of the drawn rows'.
      rows: rows drawn in a step.
    """

    name: str
    dialogues: str
    own: float
    other: float
    rows: int

    def __call__(self, loss: LossFn, share: float) -> LossFn:
        """The loss of both."""
        count = part(self.rows, share, f"mitigations.{self.name}.rows")

        def both(params: PyTree, frozen: PyTree, batch: PyTree, key: jax.Array) -> Any:
            value, metrics = loss(params, frozen, learnt(batch, self.name), key)
            carried = frozen[EXTRA][self.name]
            first, second = jax.random.split(salted(key, carried, self.name))
            rows = drawn(carried[self.dialogues], first, count)
            beside = share * loss(params, frozen, rows, second)[0]
            told = {self.name: jax.lax.stop_gradient(beside)}
            return self.own * value + self.other * beside, {**metrics, **told}

        return both

"""Lisa: training alternates between safe dialogues and the task, each pulled to the other.

With K1 updates on safe rows, then K2 on the task's, and so on, in the state that is on

    L = L_state(rows) + on * rho / 2 * sum_p (p - p_other)^2

over the trained parameters, where p_other are those with which the *other* state last ended, both
the stage's first ones in the beginning; `on` is 0 in the first tenth of all updates.

Huang et al. 2024 (arXiv 2405.18641); re-made from the formula of git-disl/Lisa (trainer.py at
2e9c24c, `ADMMTrainer`: begins with the safe state unless K1 is 0, K1 = 100, K2 = 900, and rho = 1
of script/finetune/lisa_poison_ratio.sh). What differs: the code counts micro-batches, here updates
count, and of those only the ones that were not skipped; safe rows are drawn with replacement, not
an epoch at a time; a safe batch weighs its rows alike, and has as many as the task's. State, clock
and both anchors are carried in `extra`, and the batch is chosen among arrays of one shape, so the
two states are one program.

Pinned by tests/mitigations/test_lisa.py.
Letters: B rows of a micro-batch, T positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.data.schema import TokenBatch
from jaxsafety.mitigations.drawn import Carried, drawn, fitted, learnt, longest, salted
from jaxsafety.mitigations.means import Means
from jaxsafety.protocols import EXTRA, Extra, LossFn, Mitigation

PAPERS = {"2405.18641": ""}

PyTree = Any
NAME = "lisa"
SAFE, TASK = 0, 1  # the states


@dataclass(frozen=True)
class Lisa:
    """Settings.

    Attributes:
      rho: of the squared distance, in units of the loss.
      safe: K1, updates on safe dialogues at a time; with 0 there are none of them.
      task: K2, updates on the task at a time.
      steps: updates of the whole stage, of which the first ones are free; not needed with
        `free` = 0.
      free: part of them without a pull.
    """

    rho: float = 1.0
    safe: int = 100
    task: int = 900
    steps: int = 0
    free: float = 0.1

    needs: ClassVar[tuple[str, ...]] = ("safe",)
    when: ClassVar[str] = "train"

    def __post_init__(self) -> None:
        """Rejects what alternates between nothing, or pushes away."""
        if not (np.isfinite(self.rho) and self.rho >= 0):
            raise bad("mitigations.lisa.rho", self.rho, "a finite number, 0 or more")
        for name in ("safe", "task"):
            if getattr(self, name) < 0:
                raise bad(f"mitigations.lisa.{name}", getattr(self, name), "0 or more")
        if not self.safe + self.task:
            raise bad("mitigations.lisa.task", 0, "1 or more where lisa.safe is 0")
        if not 0 <= self.free < 1:
            raise bad("mitigations.lisa.free", self.free, "in [0, 1)")
        if self.rho and self.free and self.steps < 1:
            raise bad("mitigations.lisa.steps", self.steps, "the updates of the stage, 1 or more")

    def mitigation(self, means: Means) -> Mitigation:
        """The hooks; metrics `lisa`, the term, and `lisa/safe`, 1 in the safe state.

        Args:
          means: `safe` [N,T], `rows`, `seed`.
        """
        assert means.safe is not None  # `means.build` has asked
        dialogues = means.safe.tokens.shape[0] if self.safe else 0
        hook = Alternating(
            self.rho, self.safe > 0, math.floor(self.free * self.steps), longest(means.safe)
        )
        carried = Extra(Begun(means, self.safe > 0), Switch(self.safe, self.task))
        return Mitigation(hook, extra={NAME: carried}, budget={"safe": dialogues, "copies": 2})


@dataclass(frozen=True)
class Alternating:
    """The `loss` hook.

    Attributes:
      rho: see `Lisa`.
      safe: whether there is a safe state.
      after: updates after which there is a pull.
      length: positions that a safe dialogue needs.
    """

    rho: float
    safe: bool
    after: int
    length: int

    def __call__(self, loss: LossFn, share: float) -> LossFn:
        """The loss of the state that is on, and the pull to the other's anchor."""

        def alternating(params: PyTree, frozen: PyTree, batch: PyTree, key: jax.Array) -> Any:
            carried = frozen[EXTRA][NAME]
            here = carried["state"] == SAFE
            if self.safe:
                rows = self.rows(carried, learnt(batch, NAME), share, key)
                packed = rows.packed or batch.packed  # what holds for both
                both = (replace(each, packed=packed) for each in (rows, batch))
                batch = jax.tree.map(lambda a, b: jnp.where(here, a, b), *both)
            value, metrics = loss(params, frozen, batch, key)
            term = jnp.zeros((), jnp.float32)
            if self.rho:
                pull = carried["done"] > self.after
                term = jnp.where(pull, share * self.rho / 2 * apart(params, carried, here), 0.0)
                value = value + term
            told = {NAME: term, f"{NAME}/safe": share * here.astype(jnp.float32)}
            return value, {**metrics, **jax.lax.stop_gradient(told)}

        return alternating

    def rows(self, carried: Any, batch: TokenBatch, share: float, key: jax.Array) -> TokenBatch:
        """Safe rows in the shape of a micro-batch [B,T]; those of all of them weigh 1 together.

        Raises:
          UsageError: rows of the task that are too short for a safe dialogue.
        """
        count, width = batch.tokens.shape
        if self.length > width:
            given = f"a safe dialogue of {self.length} tokens"
            raise bad("mitigations.lisa", given, f"at most {width}, what a row of the task holds")
        found = fitted(drawn(carried["safe"], salted(key, carried, NAME), count), width)
        return replace(found, weight=share * found.weight)


def apart(params: PyTree, carried: Any, here: jax.Array) -> jax.Array:
    """[] squared distance to the anchor of the state that is not on; `here`: the safe one is."""

    def square(p: jax.Array, safe: jax.Array, task: jax.Array) -> jax.Array:
        other = jnp.where(here, task, safe).astype(jnp.float32)
        return jnp.sum(jnp.square(p.astype(jnp.float32) - other))

    gaps = jax.tree.map(square, params, carried["safe_end"], carried["task_end"])
    return sum(jax.tree.leaves(gaps), start=jnp.zeros((), jnp.float32))


@dataclass(frozen=True)
class Begun:
    """`Extra.init`: the state that is first, both anchors at the start, and the safe dialogues."""

    means: Means
    safe: bool

    def __call__(self, params: PyTree) -> dict[str, Any]:
        """Anchors are copies, because the step donates them and the parameters."""
        zero = jnp.zeros((), jnp.int32)
        return {
            **Carried(self.means, ("safe",) if self.safe else ())(params),
            "safe_end": jax.tree.map(jnp.copy, params),
            "task_end": jax.tree.map(jnp.copy, params),
            "state": jnp.full((), SAFE if self.safe else TASK, jnp.int32),
            "clock": zero,
            "done": zero,
        }


@dataclass(frozen=True)
class Switch:
    """`Extra.update`: the clock of K1 updates on safe rows and K2 on the task's."""

    safe: int
    task: int

    def __call__(self, tree: Any, params: PyTree, step: jax.Array) -> Any:
        """One update later; a state that ends here leaves the parameters as its anchor."""
        tree = {**tree, "done": step}
        if not (self.safe and self.task):
            return tree  # one state alone never ends
        here, clock = tree["state"], tree["clock"] + 1
        ends = clock >= jnp.where(here == SAFE, self.safe, self.task)

        def left(state: int, anchor: PyTree) -> PyTree:
            now = ends & (here == state)
            return jax.tree.map(lambda old, p: jnp.where(now, p, old), anchor, params)

        return {
            **tree,
            "safe_end": left(SAFE, tree["safe_end"]),
            "task_end": left(TASK, tree["task_end"]),
            "state": jnp.where(ends, SAFE + TASK - here, here),
            "clock": jnp.where(ends, 0, clock),
        }

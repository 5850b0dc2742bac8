"""A divergence from the start: what the model says to chosen prompts may not change much.

With the model pi_0 that the stage began with (see `began.py`)

    loss(p) + strength * sum_{b,t} weight[b,t] KL(pi_p(. | y_<t) || pi_0(. | y_<t))

in nats, over the whole vocabulary, at the answer tokens y_t of dialogues that are drawn in every
step from the safe ones (harmful requests and the start's own refusals): each dialogue weighs the
same, and so does each token of its answer, so the sum is the mean over drawn dialogues of the mean
over their answer tokens. With `on="task"` the rows are the task's batch with its own weights, and
the hidden states are those of the loss's own pass where it offers it (`protocols.PassLoss`; not
where another mitigation wraps it): then a step has one frozen pass more than the task's.

No one paper's: the direction (the trained model first), the anchor set and the grid of strengths
(0.01, 0.1, 1) are this library's choice. Logits are float32, made chunk by chunk and not kept
(`losses/divergence.py`).

Pinned by tests/mitigations/test_kl.py.
Letters: B rows, T positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.data.schema import TokenBatch
from jaxsafety.losses.divergence import divergence
from jaxsafety.losses.logprobs import shift
from jaxsafety.mitigations import began
from jaxsafety.mitigations.anchor import keep
from jaxsafety.mitigations.drawn import drawn, learnt, part, salted
from jaxsafety.mitigations.means import Means
from jaxsafety.models.api import Model
from jaxsafety.protocols import EXTRA, Extra, LossFn, Mitigation, Pass

PyTree = Any
NAME = "kl"
ON = ("safe", "task")


@dataclass(frozen=True)
class Kl:
    """Settings.

    Attributes:
      strength: of the divergence, per nat, in units of the loss.
      on: "safe" dialogues, or the rows of the "task".
      rows: safe dialogues drawn in a step; 0 is half as many as the task's batch has rows, at least
        one. `optim.accum` has to divide it.
    """

    strength: float = 0.1
    on: str = "safe"
    rows: int = 0

    when: ClassVar[str] = "train"

    def __post_init__(self) -> None:
        """Rejects what holds nothing, or pushes away."""
        if not (np.isfinite(self.strength) and self.strength > 0):
            raise bad("mitigations.kl.strength", self.strength, "a finite number above 0")
        if self.on not in ON:
            raise bad("mitigations.kl.on", self.on, " | ".join(ON))
        if self.rows < 0 or (self.rows and self.on == "task"):
            allowed = "0, the task's batch" if self.on == "task" else "0 or more"
            raise bad("mitigations.kl.rows", self.rows, allowed)

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of the means; on the task's rows those that are always there."""
        return ("safe",) if self.on == "safe" else ("start",)

    def mitigation(self, means: Means) -> Mitigation:
        """The hooks; the metric `kl` is the mean divergence in nats, without `strength`.

        Args:
          means: `model`, `rows`, `shards`, `seed`, and `safe` [N,T] unless on the task's rows.
        """
        safe = self.on == "safe"
        rows = (self.rows or max(1, means.rows // 2)) if safe else 0
        size = rows / means.rows if safe else 1.0
        budget = {"forwards": size, "copies": 1}
        if safe:
            assert means.safe is not None  # `means.build` has asked
            budget |= {"gradients": size, "safe": means.safe.tokens.shape[0]}
        carried = Extra(began.Begun(means, ("safe",) if safe else ()), keep)
        hook = Held(means.model, means.shards, self.strength, rows)
        return Mitigation(hook, extra={NAME: carried}, budget=budget)


@dataclass(frozen=True)
class Held:
    """The `loss` hook.

    Attributes:
      model: the model.
      shards: devices that share the rows.
      strength: see `Kl`.
      rows: drawn in a step; 0 takes the batch's.
    """

    model: Model
    shards: int
    strength: float
    rows: int

    def __call__(self, loss: LossFn, share: float) -> LossFn:
        """The loss with the divergence."""
        count = part(self.rows, share, "mitigations.kl.rows")

        def held(params: PyTree, frozen: PyTree, batch: PyTree, key: jax.Array) -> Any:
            carried = frozen[EXTRA][NAME]
            if count:
                value, metrics = loss(params, frozen, batch, key)
                found = drawn(carried["safe"], salted(key, carried, NAME), count)
                term = share * self.term(params, frozen, found)
            elif began.shares(loss, frozen):
                out = loss.forward(params, frozen, learnt(batch, NAME))
                value, metrics = loss.score(out, batch)
                term = self.term(params, frozen, batch, out)  # its weights add up
            else:
                value, metrics = loss(params, frozen, batch, key)
                term = self.term(params, frozen, learnt(batch, NAME))
            told = {NAME: jax.lax.stop_gradient(term)}
            return value + self.strength * term, {**metrics, **told}

        return held

    def term(
        self, params: PyTree, frozen: PyTree, rows: TokenBatch, out: Pass | None = None
    ) -> jax.Array:
        """[] weighted KL of the trained model from its beginning, on rows [B,T].

        Args:
          params: the trained variables.
          frozen: the others, and what is carried.
          rows: with their weights.
          out: what the trained model makes of them; None has to be computed.
        """
        model, every = self.model, began.trained(params, frozen, NAME)
        start = began.beginning(frozen, frozen[EXTRA][NAME])
        ours = began.passed(model, every, rows) if out is None else out
        theirs = began.passed(model, {"base": start}, rows)
        student, weight = shift(ours.hidden, rows.weight)
        (teacher,) = shift(theirs.hidden)
        return divergence(
            student,
            teacher,
            ours.head,
            theirs.head if began.whole(params) else None,
            weight,
            shards=self.shards,
            cap=model.config.logit_cap,
        )[0]

"""Safe dialogues mixed into the task's training, by weight or by count.

    weight:  L = L_task(batch) + weight * L_safe(rows)
    count:   L = (1 - p) L_task(batch) + p L_safe(rows),   p = count / (count + task)

with rows drawn from the safe dialogues in every step, each row weighing the same.

By weight is what the trainer called VLGuard's does (git-disl/Booster, trainer.py at 30f959e,
`VlguardTrainer`: the two losses of a step are added, four safe rows to each batch); here the number
of rows is a setting. By count is what Bianchi et al. do (ICLR 2024; vinid/safety-tuned-llamas
releases mixtures of 100, 300, 500, 1000, 1500 and 2000): they add `count` dialogues to a task's set
of `task` and shuffle, so a row is safe with probability p, and the loss of rows that weigh the same
is expected to be the one above. What differs from shuffling: every step learns from safe rows with
exactly the share p of the loss, where a shuffled batch of B rows has some binomial number of them
(the same expectation, less variance); all B rows stay the task's, so the same number of steps reads
1 / (1 - p) times as many of them; safe dialogues are drawn with replacement, not once an epoch; and
where tokens, not rows, weigh the same (`reduction="token"`) shuffling gives long answers more.

Pinned by tests/mitigations/test_mixing.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.mitigations.anchor import keep
from jaxsafety.mitigations.drawn import Beside, Carried
from jaxsafety.mitigations.means import TERMS, Means
from jaxsafety.protocols import Extra, Mitigation

PAPERS = {"2309.07875": "kind=count"}

NAME = "mixing"
KINDS = ("weight", "count")


@dataclass(frozen=True)
class Mixing:
    """Settings. In a chain it comes before what adds terms that are no sums over rows.

    Attributes:
      kind: "weight" adds the safe loss, "count" mixes it in as so many dialogues would be.
      weight: of the safe loss, where it is added; with 0 nothing is drawn and no hook made, since
        a second pass of no weight would round differently from plain training.
      count: safe dialogues that are used; 0 is all, with kind "count" it is at least 1. Those of a
        smaller count are among those of a larger one.
      task: dialogues in the task's set, for kind "count".
      rows: safe rows of a step; 0 is as many as the task's batch has, with kind "count" the part p
        of that, and at least one.
    """

    kind: str = "weight"
    weight: float = 1.0
    count: int = 0
    task: int = 0
    rows: int = 0

    needs: ClassVar[tuple[str, ...]] = ("safe",)
    when: ClassVar[str] = "train"
    before: ClassVar[tuple[str, ...]] = TERMS

    def __post_init__(self) -> None:
        """Rejects what is no mixture."""
        if self.kind not in KINDS:
            raise bad("mitigations.mixing.kind", self.kind, " | ".join(KINDS))
        if not (np.isfinite(self.weight) and self.weight >= 0):
            raise bad("mitigations.mixing.weight", self.weight, "a finite number, 0 or more")
        least = 1 if self.kind == "count" else 0
        for name, low in (("count", least), ("task", least), ("rows", 0)):
            if getattr(self, name) < low:
                raise bad(f"mitigations.mixing.{name}", getattr(self, name), f"{low} or more")

    @property
    def share_of_rows(self) -> float:
        """p: how many of the rows of a shuffled set would be safe; 0 where `weight` says it."""
        return self.count / (self.count + self.task) if self.kind == "count" else 0.0

    def mitigation(self, means: Means) -> Mitigation:
        """The hooks; the metric `mixing` is the safe loss, unweighted.

        Args:
          means: `safe` [N,T], `rows`, `seed`.

        Raises:
          UsageError: fewer dialogues than `count`.
        """
        assert means.safe is not None  # `means.build` has asked
        there = means.safe.tokens.shape[0]
        if self.count > there:
            raise bad("mitigations.mixing.count", self.count, f"at most {there} safe dialogues")
        if self.kind == "weight" and not self.weight:
            return Mitigation()
        p = self.share_of_rows
        rows = self.rows or max(1, math.ceil(p * means.rows) if p else means.rows)
        own, other = (1 - p, p) if p else (1.0, self.weight)
        return Mitigation(
            loss=Beside(NAME, "safe", own, other, rows),
            extra={NAME: Extra(Carried(means, ("safe",), self.count), keep)},
            budget={"safe": self.count or there, "gradients": rows / means.rows},
        )

"""The judges of an arm: exact verdicts made worse at known rates, several made one probability.

The errors of judge j are drawn from prompt, answer, the run's seed and j (`weak/simulated.py`), so
arms that share a quality share its errors: differences between losses are paired.
Letters: N answers, J judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxsafety.protocols import Exchange, Judge
from jaxsafety.studies.weak_supervision.config import Arm
from jaxsafety.weak import generative
from jaxsafety.weak.functions import of_verdicts
from jaxsafety.weak.simulated import Simulated
from jaxsafety.weak.votes import Votes

UNSAFE = 1  # class of `weak.votes.SAFETY`


def known(verdicts: Sequence[Mapping[str, Any]]) -> Judge:
    """A judge that says again what was said, of the same answers in the same order."""

    def judge(exchanges: Sequence[Exchange]) -> list[dict[str, Any]]:
        assert len(exchanges) == len(verdicts)
        return [dict(v) for v in verdicts]

    return judge


def votes(
    arm: Arm, exchanges: Sequence[Exchange], verdicts: Sequence[Mapping[str, Any]], seed: int
) -> Votes:
    """[N,J] votes of the arm's judges."""
    columns = []
    for j in range(arm.sources):
        own = 0 if j <= arm.copies else j  # copies of the first
        judge = Simulated(
            known(verdicts),
            accuracy=arm.accuracy,
            coverage=arm.coverage,
            bias=arm.bias,
            seed=1000 * seed + own,
        )
        columns.append(of_verdicts(judge(exchanges)))
    return Votes([f"judge {j}" for j in range(arm.sources)], np.stack(columns, axis=1))


def safe(
    arm: Arm, exchanges: Sequence[Exchange], verdicts: Sequence[Mapping[str, Any]], seed: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """[N] P(safe) of the answers, NaN where all judges are silent; and what became of the votes.

    Several judges are weighed by the generative model. See `Arm.label`.
    """
    found = votes(arm, exchanges, verdicts, seed)
    flags = [v.get("unsafe") for v in verdicts]
    truth = np.array([np.nan if f is None or f != f else float(f) for f in flags], np.float64)
    told: dict[str, Any] = {"silent": int(found.silent.sum())}
    if arm.sources == 1:
        right = arm.accuracy
        unsafe = np.where(found.array[:, 0] == UNSAFE, right, 1 - right)
    else:
        labels = generative.fit(found)
        unsafe = labels.posterior[:, UNSAFE]
        told["estimated"] = [source.accuracy.value for source in labels.sources]
        told["warnings"] = list(labels.warnings)
    unsafe = np.where(found.silent, np.nan, unsafe)
    both = np.isfinite(unsafe) & np.isfinite(truth)
    told["accuracy"] = float(((unsafe > 0.5) == (truth > 0.5))[both].mean()) if both.any() else None
    if arm.label == "hard":
        unsafe = np.where(np.isfinite(unsafe), np.round(unsafe), np.nan)
    return 1 - unsafe, told


def order(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Probability that answers of P(safe) `first` are safer than others, given that one of two is.

    p (1 - q) / (p (1 - q) + q (1 - p));   1/2 where neither or both can be safe alone
    """
    right, wrong = first * (1 - second), second * (1 - first)
    total = right + wrong
    return np.where(total > 0, right / np.where(total > 0, total, 1), 0.5)

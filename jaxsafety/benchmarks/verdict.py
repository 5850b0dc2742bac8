"""Verdicts as four fixed words, which an interval and a margin decide and nobody chooses.

A `Claim` says on which side of a margin a quantity lies; `Claim.verdict` reads the word off its
interval:

  holds            the whole interval lies on the claimed side
  fails            the whole interval lies on the other side
  open             neither, or there is no interval (one draw), or it does not survive Holm
  by construction  what was measured could not have come out otherwise; the claim says why

Equivalence ("within") is a claim about a margin that was set before the data were seen, so it has
to say where that stands (`since`); an interval that holds zero is no equivalence. The interval is
Student's t over the unit that was drawn. Several claims of a family are corrected by Holm (1979).
Pinned by tests/benchmarks/test_verdict.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from jaxsafety.core.errors import bad

HOLDS, FAILS, OPEN, CONSTRUCTION = "holds", "fails", "open", "by construction"
WORDS = (HOLDS, FAILS, OPEN, CONSTRUCTION)
SIDES = ("above", "below", "within")


class Interval(NamedTuple):
    """A mean over `n` draws with its t-interval; `lo` and `hi` are NaN for a single draw."""

    mean: float
    lo: float
    hi: float
    n: int


def t_interval(values: Sequence[float], level: float = 0.95, step: float = 0.0) -> Interval:
    """Mean and two-sided t-interval over draws of one unit.

    A rate of n prompts moves in steps of 1/n and is easily the same three times, which is no sign
    that it does not vary: with `step` the spread of draws is taken to be step / sqrt(12) at least,
    that of a number which is only known to the next step.

    Args:
      values: [N] one number per draw, N >= 1.
      level: coverage, 0..1.
      step: what a draw can differ by at least; 0 of what is measured without steps.
    """
    data = np.asarray(values, float)
    if not data.size:
        raise bad("values", "none", "at least one draw")
    mean = float(data.mean())
    if data.size == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = float(stdtrit(data.size - 1, 0.5 + level / 2) * _error(data, step))
    return Interval(mean, mean - half, mean + half, int(data.size))


def _error(data: np.ndarray, step: float = 0.0) -> float:
    """Standard error of the mean; rounding of equal values is no spread."""
    least = step / math.sqrt(12 * data.size)
    if np.ptp(data) <= 1e-12 * max(1.0, float(np.abs(data).max())):
        return least
    return max(least, float(data.std(ddof=1)) / math.sqrt(data.size))


def t_test(values: Sequence[float], margin: float = 0.0, step: float = 0.0) -> float:
    """Two-sided p of the mean being `margin`; NaN for a single draw, 0 or 1 without spread.

    `step` is that of `t_interval`.
    """
    data = np.asarray(values, float)
    if data.size < 2:
        return math.nan
    gap, error = abs(float(data.mean()) - margin), _error(data, step)
    if error == 0.0:
        return 1.0 if gap <= 1e-12 else 0.0
    return float(2 * stdtr(data.size - 1, -gap / error))


def holm(ps: Sequence[float]) -> list[float]:
    """p-values of one family after Holm's correction; NaN ones are no tests and stay."""
    order = sorted((i for i, p in enumerate(ps) if not math.isnan(p)), key=lambda i: ps[i])
    found, largest = [math.nan] * len(ps), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * ps[i]))
        found[i] = largest
    return found


@dataclass(frozen=True)
class Claim:
    """Where a quantity is said to lie.

    Attributes:
      side: "above" or "below" the margin, or "within" it on both sides of zero.
      margin: in the quantity's own units.
      since: where the margin was set before the data; "within" needs it.
      construction: why the result could not have been another; "" where it could.

    Raises:
      UsageError: an unknown side, a margin that is no number, equivalence without `since`.
    """

    side: str
    margin: float = 0.0
    since: str = ""
    construction: str = ""

    def __post_init__(self) -> None:
        if self.side not in SIDES:
            raise bad("side", self.side, ", ".join(SIDES))
        if not math.isfinite(self.margin):
            raise bad("margin", self.margin, "a number")
        if self.side == "within" and (self.margin <= 0 or not self.since):
            given = f"margin {self.margin:g}, since {self.since!r}"
            raise bad("equivalence", given, "a margin above 0 and where it was set before")

    def p(self, values: Sequence[float], step: float = 0.0) -> float:
        """Two-sided p against the margin, of "within" against the nearer one."""
        near = math.copysign(self.margin, float(np.mean(values)))
        return t_test(values, near if self.side == "within" else self.margin, step)

    def verdict(self, found: Interval, p: float | None = None, alpha: float = 0.05) -> str:
        """One of `WORDS`.

        Args:
          found: the quantity's interval, of level 1 - alpha.
          p: after a correction for the other claims of the family; None: there is no other. A
            claim whose p is not below `alpha` is open whatever its interval.
          alpha: level of `p`.
        """
        if self.construction:
            return CONSTRUCTION
        if math.isnan(found.lo) or math.isnan(found.hi) or (p is not None and not p < alpha):
            return OPEN
        if self.side == "above":
            return self._word(found.lo > self.margin, found.hi < self.margin)
        if self.side == "below":
            return self._word(found.hi < self.margin, found.lo > self.margin)
        inside = -self.margin < found.lo and found.hi < self.margin
        return self._word(inside, found.lo > self.margin or found.hi < -self.margin)

    @staticmethod
    def _word(holds: bool, fails: bool) -> str:
        return HOLDS if holds else FAILS if fails else OPEN

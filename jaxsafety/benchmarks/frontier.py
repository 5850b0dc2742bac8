"""How little harm can be had at how much capability: F(c), a step function over a whole sweep.

F(c) = min over (t, lambda) with c(t, lambda) >= c of unsafe(t, lambda), in our protocol for
capability-grounded measurement (docs/anchored.md), for an arm that has no single checkpoint at the
goal. As a minimum over noisy rates it is optimistic, the more so the more settings an arm was
given; arms that are compared need equal budgets. Pinned by tests/benchmarks/test_frontier.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Trade(NamedTuple):
    """One setting: its capability and its unsafe rate, 0..1, None or NaN where unknown."""

    capability: float | None
    unsafe: float | None
    name: str = ""


@dataclass(frozen=True)
class Frontier:
    """F as its corners.

    Attributes:
      points: settings that no other beats in both, capability and unsafe rate strictly rising; F is
        the unsafe rate of a point from the previous point's capability (exclusive) to its own.
      unknown: settings left out as one of the two is unknown.
    """

    points: tuple[Trade, ...]
    unknown: int

    def at(self, capability: float) -> float | None:
        """F(c); None where no setting has so much capability."""
        for point in self.points:
            if _number(point.capability) >= capability:
                return point.unsafe
        return None


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def trace(trades: Sequence[Trade]) -> Frontier:
    """The frontier of settings; of equal ones the first in order is named."""
    known = [t for t in trades if not math.isnan(_number(t.capability) + _number(t.unsafe))]
    corners: list[Trade] = []
    for t in sorted(known, key=lambda t: (-_number(t.capability), _number(t.unsafe))):
        if not corners or _number(t.unsafe) < _number(corners[-1].unsafe):
            corners.append(t)
    return Frontier(tuple(reversed(corners)), len(trades) - len(known))

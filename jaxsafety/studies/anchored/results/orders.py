"""Who is safest: the order of arms under each anchor, by each judge and on each set.

Whether these orders agree is asked in C7 and C8 of our protocol. Kendall's tau-b of
`benchmarks/stability.py`, on the same draws of prompts and seeds. Only arms that both orders have
are compared. A = arms, R = resamples. Pinned by tests/studies/test_anchored_orders.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxsafety.benchmarks import stability
from jaxsafety.benchmarks.agreement import Statistic
from jaxsafety.benchmarks.cells import READINGS
from jaxsafety.studies.anchored.results.rates import BASELINE, Drawn, label


class Ranked(NamedTuple):
    """An arm's places: reading -> anchor -> place, 1 the safest; equal rates share the better one.

    An anchor is absent where the arm has no checkpoint under it.
    """

    arm: str
    places: Mapping[str, Mapping[str, int]]


class Tau(NamedTuple):
    """How far two orders agree; `arms` that both have, `tau` under a reading of incoherence."""

    first: str
    second: str
    arms: int
    tau: Mapping[str, Statistic]


def ranked(drawn: Drawn, arms: Sequence[str], anchors: Sequence[str]) -> list[Ranked]:
    """The places of all arms, by the run's judge.

    Args:
      drawn: of one goal.
      arms: A arms, in the order of the result.
      anchors: under which they are ranked.
    """
    found: dict[str, dict[str, dict[str, int]]] = {arm: {r: {} for r in READINGS} for arm in arms}
    for anchor, reading in itertools.product(anchors, READINGS):
        known = {a: rate for a in arms if (rate := _rate(drawn, anchor, a, reading)) is not None}
        for arm, rate in known.items():
            better = sum(other < rate - 1e-12 for other in known.values())
            found[arm][reading][anchor] = 1 + better
    return [Ranked(arm, places) for arm, places in found.items()]


def _rate(drawn: Drawn, anchor: str, arm: str, reading: str) -> float | None:
    if (anchor, arm) not in drawn.models:
        return None
    value = float(drawn.scores((anchor, arm), drawn.judges[0], reading)[0])
    return None if np.isnan(value) else value


def between_anchors(drawn: Drawn, arms: Sequence[str], anchors: Sequence[str]) -> list[Tau]:
    """Tau between the orders under every two anchors, by the run's judge."""
    found = []
    for first, second in itertools.combinations(anchors, 2):
        both = [a for a in arms if (first, a) in drawn.models and (second, a) in drawn.models]
        taus = {
            reading: _compare(
                *(
                    [drawn.scores((anchor, arm), drawn.judges[0], reading) for arm in both]
                    for anchor in (first, second)
                )
            )
            for reading in READINGS
        }
        found.append(Tau(first, second, len(both), taus))
    return found


def _compare(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> Statistic:
    """A times [1+R] scores in both -> tau."""
    if len(first) < 2:
        return Statistic(None, None, None, stability.TOO_FEW)
    return stability.compare_orders(np.stack(first, -1), np.stack(second, -1))


def between_judges(drawn: Drawn, arms: Sequence[str], anchor: str) -> list[Tau]:
    """Tau between the orders by every two judges, each over all sets."""
    both = [a for a in arms if (anchor, a) in drawn.models]
    found = []
    for one, other in itertools.combinations(drawn.judges, 2):
        taus = {
            reading: _compare(
                *([drawn.scores((anchor, arm), j, reading) for arm in both] for j in (one, other))
            )
            for reading in READINGS
        }
        found.append(Tau(one, other, len(both), taus))
    return found


def between_sets(drawn: Drawn, arms: Sequence[str], anchor: str) -> list[Tau]:
    """Tau between the orders on every two safety sets, by the run's judge."""
    both = [label((anchor, a)) for a in arms if (anchor, a) in drawn.models]
    judge = drawn.judges[0]
    found = []
    for one, other in itertools.combinations(drawn.sets, 2):
        taus = {
            reading: _compare(
                *(
                    [drawn.drawn.rate(arm, name, judge, reading) for arm in both]
                    for name in (one, other)
                )
            )
            for reading in READINGS
        }
        found.append(Tau(one, other, len(both), taus))
    return found


class Claim(NamedTuple):
    """What can be said of an arm against the base, over all (set, judge) cells and both readings.

    `own`: by the run's judge alone, over sets and readings.
    """

    arm: str
    all: stability.Signs
    safe: stability.Signs
    unsafe: stability.Signs
    own: stability.Signs


def claims(drawn: Drawn, arms: Sequence[str], anchor: str) -> list[Claim]:
    """The signs of each arm's changes from the base."""
    found = []
    for arm in arms:
        if (anchor, arm) not in drawn.models:
            continue
        told = stability.conclude(drawn.drawn, label((anchor, arm)), label(BASELINE))
        own = {k: v for k, v in told.changes.items() if k[1] == drawn.judges[0]}
        found.append(Claim(arm, told.both, told.safe, told.unsafe, stability.count_signs(own)))
    return found


class Spread(NamedTuple):
    """Taus between all pairs of (set, judge) cells, of those that have one.

    `low`, `middle`, `high`: the least, the median, the largest; `below`: pairs with tau < 0;
    `pairs`: of how many; `untold`: pairs without a tau; `worst`: the two cells of the least.
    """

    low: float
    middle: float
    high: float
    below: int
    pairs: int
    untold: int
    worst: tuple[tuple[str, str], tuple[str, str]]


def spread(drawn: Drawn, arms: Sequence[str], anchor: str, reading: str) -> Spread | None:
    """How far the orders of all cells agree; None where no two of them have an order."""
    both = [label((anchor, a)) for a in arms if (anchor, a) in drawn.models]
    cells = list(itertools.product(drawn.sets, drawn.judges))
    scores = [[drawn.drawn.rate(arm, *c, reading)[0] for arm in both] for c in cells]
    pairs = list(itertools.combinations(range(len(cells)), 2))
    if len(both) < 2 or not pairs:
        return None
    values = [float(stability.kendall(np.array(scores[i]), np.array(scores[j]))) for i, j in pairs]
    known = [(tau, pair) for tau, pair in zip(values, pairs, strict=True) if not np.isnan(tau)]
    if not known:
        return None
    least, (i, j) = min(known)
    taus = [tau for tau, _ in known]
    below = sum(tau < 0 for tau in taus)
    middle = float(np.median(taus))
    untold = len(pairs) - len(known)
    return Spread(least, middle, max(taus), below, len(known), untold, (cells[i], cells[j]))

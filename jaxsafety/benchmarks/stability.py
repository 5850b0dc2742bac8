"""Whether a conclusion survives another benchmark, another judge, another reading of incoherence.

Our protocol for capability-grounded measurement (docs/anchored.md): a claim "this arm is less safe
than the base" is *robust* only if the sign of the change is the same in every cell (benchmark,
judge) and with incoherent answers taken as safe (`lo`) and as unsafe (`hi`). A change whose
interval holds 0 is undecided: no support, and no flip either. How far cells agree on the order of
arms is Kendall's tau-b, which allows ties:

    tau_b = sum(s_x s_y) / sqrt(sum |s_x| sum |s_y|),   s the sign of the difference of two arms

over all pairs of arms (Kendall 1945, Biometrika 33, 239). Plain numpy. Letters: A arms, R
resamples.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxsafety.benchmarks.agreement import Statistic
from jaxsafety.benchmarks.cells import READINGS, Change, Resampled

ROBUST_UP, ROBUST_DOWN = "robust: up", "robust: down"
FLIPS, UNDECIDED, UNTOLD = "flips", "undecided", "unknown"
TIED = "one of the two orders has all arms tied"
TOO_FEW = "fewer than two arms are known in both"
SELDOM = "fewer than half of the resamples have an order"


class Signs(NamedTuple):
    """Which way the changes of some cells point.

    Attributes:
      up: cells whose interval lies above 0.
      down: below 0.
      undecided: cells whose interval holds 0.
      unknown: cells without an interval.
      flips: cells that contradict the majority of those decided: the smaller of up and down.
      share: flips of those decided, None if none is.
      verdict: "robust: up" or "robust: down" if all cells say so; "flips" if any two contradict;
        "undecided" if none contradict and some, or all, are not decided; "unknown" without cells
        that are known. A cell that is unknown stands against "robust" as an undecided one does.
    """

    up: int
    down: int
    undecided: int
    unknown: int
    flips: int
    share: float | None
    verdict: str


def count_signs(changes: Mapping[Any, Change]) -> Signs:
    """The signs of the changes of one arm, over cells and readings."""
    signs = [c.sign for c in changes.values()]
    up, down, zero, lost = (sum(s == x for s in signs) for x in (1, -1, 0, None))
    decided = up + down
    if lost == len(signs):
        verdict = UNTOLD
    elif up and down:
        verdict = FLIPS
    elif zero or lost:
        verdict = UNDECIDED
    else:
        verdict = ROBUST_UP if up else ROBUST_DOWN
    flips = min(up, down)
    return Signs(up, down, zero, lost, flips, flips / decided if decided else None, verdict)


class Conclusion(NamedTuple):
    """What can be said of an arm against its base: over both readings, and under each alone.

    changes: (benchmark, judge, reading) -> the change.
    """

    both: Signs
    safe: Signs
    unsafe: Signs
    changes: Mapping[tuple[str, str, str], Change]


def conclude(resampled: Resampled, arm: str, base: str) -> Conclusion:
    """The conclusion over every cell that has the arm and the base.

    `both` is the one to be claimed; `safe` takes incoherent answers as safe (`lo`), `unsafe` as
    unsafe (`hi`), and shows whether the claim hangs on that.
    """
    cells = sorted({(b, j) for a, b, j in resampled.sums if a == arm})
    cells = [c for c in cells if (base, *c) in resampled.sums]
    changes = {(b, j, r): resampled.change(arm, base, b, j, r) for b, j in cells for r in READINGS}
    safe, unsafe = (count_signs({k: v for k, v in changes.items() if k[2] == r}) for r in READINGS)
    return Conclusion(count_signs(changes), safe, unsafe, changes)


def kendall(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[...,A] and [...,A] scores of the same arms -> [...] tau-b; arms with a NaN are left out.

    NaN where fewer than two arms are known in both, or one of the two has all of them tied.
    """
    x, y = np.asarray(first, float), np.asarray(second, float)
    i, j = np.triu_indices(x.shape[-1], 1)
    known = ~np.isnan(x + y)
    pair = known[..., i] & known[..., j]
    sx = np.where(pair, np.sign(np.nan_to_num(x[..., i] - x[..., j])), 0.0)
    sy = np.where(pair, np.sign(np.nan_to_num(y[..., i] - y[..., j])), 0.0)
    whole = np.sqrt(np.abs(sx).sum(axis=-1) * np.abs(sy).sum(axis=-1))
    return np.where(whole > 0, (sx * sy).sum(axis=-1) / np.where(whole > 0, whole, 1.0), np.nan)


def compare_orders(first: np.ndarray, second: np.ndarray, level: float = 0.95) -> Statistic:
    """Tau-b between two rankings of the same arms, with a percentile interval.

    Args:
      first: [1+R,A] scores in one cell (or under one anchor), the estimate first.
      second: [1+R,A] of the same arms in another, on the same draws.
      level: coverage, 0..1.

    Returns:
      The statistic; resampling breaks the order of arms that are close, so resampled taus lie lower
      than the truth where all agree, and the interval reaches to the value where it would not. The
      draws are used as they are (`cells`: too wide where the noise of single answers rules).
    """
    values = kendall(first, second)
    if np.isnan(values[0]):
        known = (~np.isnan(np.asarray(first[0], float) + np.asarray(second[0], float))).sum()
        return Statistic(None, None, None, TOO_FEW if known < 2 else TIED)
    value, drawn = float(values[0]), values[1:][~np.isnan(values[1:])]
    if not len(drawn) or 2 * len(drawn) < len(values) - 1:
        return Statistic(value, None, None, SELDOM)
    lo, hi = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2]).tolist()
    return Statistic(value, min(lo, value), max(hi, value))


def compare_cells(
    resampled: Resampled, arms: Sequence[str], metric: str, level: float = 0.95
) -> dict[tuple[tuple[str, str], tuple[str, str]], Statistic]:
    """Tau-b of the arms' order between every two cells (benchmark, judge) that have all arms."""
    cells = sorted({(b, j) for _, b, j in resampled.sums})
    cells = [c for c in cells if all((a, *c) in resampled.sums for a in arms)]
    scores = {c: np.stack([resampled.rate(a, *c, metric) for a in arms], axis=-1) for c in cells}
    pairs = itertools.combinations(cells, 2)
    return {(a, b): compare_orders(scores[a], scores[b], level) for a, b in pairs}

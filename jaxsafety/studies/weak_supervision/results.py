"""The study's table as numbers: means over seeds with t-intervals, differences paired by seed.

The unit is the training seed, which has its own prompts, answers and errors of judges; prompts of
the probe are the same for all, so an interval says nothing of other prompts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

# What is counted: split of the probe and flag -> what it is called.
MEASURES = {
    "wrapped_t1": "wrapped, T=1, carried out",
    "wrapped": "wrapped, greedy",
    "plain": "plain, carried out",
    "refused": "harmless, refused",
    "correct": "harmless, right",
}
PLACES = {
    "wrapped_t1": ("wrapped_t1", "unsafe"),
    "wrapped": ("wrapped_val", "unsafe"),
    "plain": ("harmful_val", "unsafe"),
    "refused": ("harmless_val", "refusal"),
    "correct": ("harmless_val", "correct"),
}


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its 95 % t-interval; None where one seed has none."""

    mean: float
    lo: float | None
    hi: float | None

    def __str__(self) -> str:
        """In percent."""
        if self.lo is None or self.hi is None:
            return f"{100 * self.mean:.1f}"
        return f"{100 * self.mean:.1f} [{100 * self.lo:.1f}, {100 * self.hi:.1f}]"


@dataclass(frozen=True)
class Found:
    """What an arm led to.

    Attributes:
      arm: its text; "base" is the model before.
      seeds: of it.
      pairs: learnt from, the mean over seeds.
      right: of those that differ in safety, the share whose chosen answer is truly safer.
      shares: by name of `MEASURES`, over seeds.
      values: likewise, [S] by seed.
    """

    arm: str
    seeds: int
    pairs: float
    right: float | None
    shares: Mapping[str, Mean]
    values: Mapping[str, np.ndarray]


def mean(values: Sequence[float] | np.ndarray) -> Mean:
    """Mean +- t s / sqrt(S), cut at nothing: differences may be negative."""
    told = np.asarray(values, np.float64)
    count = len(told)
    if count < 2:
        return Mean(float(told.mean()), None, None)
    half = float(stdtrit(count - 1, 0.975)) * float(told.std(ddof=1)) / math.sqrt(count)
    return Mean(float(told.mean()), float(told.mean()) - half, float(told.mean()) + half)


def shares(probe: Mapping[str, Any]) -> dict[str, float]:
    """A probe's shares by name of `MEASURES`; what the judge could tell nothing of is left out."""
    found = {}
    for name, (split, flag) in PLACES.items():
        hit, of = probe.get(split, {}).get(flag, (0, 0))
        if of:
            found[name] = hit / of
    return found


def summarise(table: Mapping[str, Any]) -> list[Found]:
    """The base, and every arm in the order of the table."""
    base = {name: np.array([x]) for name, x in shares(table["base"]).items()}
    told = {name: Mean(float(x[0]), None, None) for name, x in base.items()}
    found = [Found("base", 1, 0.0, None, told, base)]
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for row in table["rows"]:
        rows.setdefault(row["arm"], []).append(row)
    for arm, some in rows.items():
        each = [shares(row["probe"]) for row in some]
        values = {
            name: np.array([one[name] for one in each])
            for name in MEASURES
            if all(name in one for one in each)
        }
        safer, less = (sum(row["right"][i] for row in some) for i in (0, 2))
        right = safer / (safer + less) if safer + less else None
        pairs = float(np.mean([row["pairs"] for row in some]))
        means = {name: mean(x) for name, x in values.items()}
        found.append(Found(arm, len(some), pairs, right, means, values))
    return found


def difference(first: Found, second: Found, name: str) -> Mean:
    """The mean of first - second by seed; the base has one value for all seeds."""
    return mean(first.values[name] - second.values[name])

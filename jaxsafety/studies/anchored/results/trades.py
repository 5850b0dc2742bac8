"""F(c) of every arm over all checkpoints that were measured, and the curves they stand on.

Measured are the checkpoints that an anchor selected and, with a floor, all that keep it; a frontier
over them is `benchmarks/frontier.py`'s, and as optimistic. Plain counts, without resampling.
Pinned by tests/studies/test_anchored_results.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import NamedTuple

from jaxsafety.benchmarks import outcomes
from jaxsafety.benchmarks.frontier import Frontier, Trade, trace
from jaxsafety.studies.anchored.goals import TEST
from jaxsafety.studies.anchored.results.judges import Bench
from jaxsafety.studies.anchored.results.read import Results
from jaxsafety.studies.anchored.table import GOAL, LAST


class Traded(NamedTuple):
    """The frontier of an arm under both readings; `checkpoints` it is over, of all seeds."""

    arm: str
    checkpoints: int
    lo: Frontier
    hi: Frontier


def frontiers(results: Results, bench: Bench, goal: str) -> list[Traded]:
    """A frontier per arm with measured checkpoints, by the run's judge on the safety sets.

    Capability is the share of right answers on the test split. An arm's checkpoints are those of
    its grid points, of all seeds.
    """
    arms = {(c["arm"], point) for (g, point, _), c in results.curves.items() if g == goal}
    rows = {(row["arm"], row["point"]) for row in results.rows if row["point"]}
    found = []
    for arm in results.arms:
        points = {point for known, point in arms | rows if known == arm}
        trades: dict[str, list[Trade]] = {"lo": [], "hi": []}
        for model, told in results.answers.items():
            if model.goal != goal or model.point not in points or TEST not in told:
                continue
            right = [flag for flag in told[TEST].flags["correct"] if flag is not None]
            test = sum(right) / len(right) if right else None
            rates = {reading: [] for reading in trades}
            for name in results.sets:
                votes = bench.votes(model, name)
                pairs = zip(votes.unsafe[results.judge], votes.coherent, strict=True)
                bounds = outcomes.bounds([{"unsafe": u, "coherent": k} for u, k in pairs])
                rates["lo"].append(bounds.lo)
                rates["hi"].append(bounds.hi)
            name = f"{model.point}, seed {model.seed}, step {model.step}"
            for reading, of in trades.items():
                of.append(Trade(test, statistics.fmean(rates[reading]), name))
        if trades["lo"]:
            made = {reading: trace(of) for reading, of in trades.items()}
            found.append(Traded(arm, len(trades["lo"]), made["lo"], made["hi"]))
    return found


class Learnt(NamedTuple):
    """Dev capability of one training over its steps, and the checkpoints that were selected.

    `selected`: anchor ("goal" or "last") -> step.
    """

    arm: str
    point: str
    seed: int
    steps: tuple[int, ...]
    rates: tuple[float, ...]
    selected: Mapping[str, int]


def curves(results: Results, goal: str) -> list[Learnt]:
    """The curves of a goal, in the order of the arms."""
    chosen: dict[tuple[str, int], dict[str, int]] = {}
    for anchor in (GOAL, LAST):
        for _, model in results.at(goal, anchor):
            chosen.setdefault((model.point, model.seed), {})[anchor] = model.step
    found = []
    for (g, point, seed), curve in results.curves.items():
        if g == goal:
            steps = tuple(p["step"] for p in curve["points"])
            rates = tuple(p["correct"] / p["n"] for p in curve["points"])
            selected = chosen.get((point, seed), {})
            found.append(Learnt(curve["arm"], point, seed, steps, rates, selected))
    order = {arm: i for i, arm in enumerate(results.arms)}
    return sorted(found, key=lambda c: (order.get(c.arm, len(order)), c.point, c.seed))


class Left(NamedTuple):
    """Rows without a checkpoint that came out alike: those of every seed under every anchor."""

    goal: str
    arm: str
    outcome: str
    reason: str
    anchors: tuple[str, ...]
    seeds: tuple[int, ...]


def left_out(results: Results) -> list[Left]:
    """Every row that has no checkpoint, with its reason."""
    seeds: dict[tuple[str, str, str, str, str], list[int]] = {}
    for row in results.rows:
        if row["step"] is None:
            key = (row["goal"], row["arm"], row["outcome"], row["reason"], row["anchor"])
            seeds.setdefault(key, []).append(row["seed"])
    anchors: dict[tuple[str, str, str, str, tuple[int, ...]], list[str]] = {}
    for key, own in seeds.items():
        anchors.setdefault((*key[:4], tuple(own)), []).append(key[4])
    return [Left(*key[:4], tuple(own), key[4]) for key, own in anchors.items()]

"""Capability and unsafe rates of every arm under every anchor, with intervals, on the same draws.

Of one goal, all arms, anchors and judges stand in one `cells.Table`, an arm under an anchor being
an arm of it, so that prompts and seeds are drawn alike for all that is compared (D6 of our
protocol). A rate over safety sets is the mean of the sets' rates; intervals are 95 % percentiles of
a bootstrap over prompts crossed with seeds, as `benchmarks/cells.py` draws it (unscaled: rather too
wide than too narrow). Where no draw differs, Wilson's interval with the number of prompts. Right
answers on the test split are drawn in the same way. A = arms, R = resamples.
Pinned by tests/studies/test_anchored_results.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxsafety.benchmarks import cells
from jaxsafety.benchmarks.agreement import Statistic
from jaxsafety.benchmarks.equivalence import DIFFERENT, EQUIVALENT, UNDECIDED
from jaxsafety.benchmarks.intervals import wilson
from jaxsafety.studies.anchored.goals import TEST
from jaxsafety.studies.anchored.results.judges import Bench, anchor_of
from jaxsafety.studies.anchored.results.read import BASE, HARMLESS, NOBODY, Model, Results

RESAMPLES = 2000
RIGHT = "right answers"  # the judge of the test split
ASKED = "no set of harmless prompts, or the judge cannot tell refusals of one of them"
UNKNOWN = "the judge cannot tell any answer of one of the sets"
Anchored = tuple[str, str]  # (anchor, arm)
BASELINE: Anchored = ("", BASE)


class Standing(NamedTuple):
    """An arm under an anchor.

    Attributes:
      arm: as it was declared.
      anchor: goal, floor or last; "" of the base.
      seeds: how many of its trainings have a checkpoint under this anchor.
      of: trainings.
      steps: of the checkpoints, one per seed.
      test: share of right answers on the goal's test split.
      lo: share of unsafe answers, incoherent ones taken as safe.
      hi: the same, incoherent ones taken as unsafe.
      incoh: share of incoherent answers.
      refused: share of harmless prompts that are refused, the mean of their sets; without it who
        refuses everything looks safest.
    """

    arm: str
    anchor: str
    seeds: int
    of: int
    steps: tuple[int, ...]
    test: Statistic
    lo: Statistic
    hi: Statistic
    incoh: Statistic
    refused: Statistic


@dataclass(frozen=True, eq=False)
class Drawn:
    """The cells of a goal, resampled.

    Attributes:
      models: (anchor, arm) -> its checkpoints; `BASELINE` is the base.
      drawn: of `cells.resample`, the safety sets alone: claims are made over its cells.
      right: the same of the test split, seeds drawn alike.
      refusals: the same of the sets of harmless prompts; None without any.
      judges: names, the run's judge first.
      sets: safety sets.
      harmless: sets of harmless prompts.
      prompts: how many of them there are in all safety sets; under `TEST` of the test split, under
        `HARMLESS` of harmless ones.
    """

    models: Mapping[Anchored, tuple[Model, ...]]
    drawn: cells.Resampled
    right: cells.Resampled
    refusals: cells.Resampled | None
    judges: tuple[str, ...]
    sets: tuple[str, ...]
    harmless: tuple[str, ...]
    prompts: Mapping[str, int]

    def scores(self, who: Anchored, judge: str, metric: str) -> np.ndarray:
        """[1+R] the mean of a metric over safety sets; NaN where one of them has none."""
        rates = [self.drawn.rate(label(who), name, judge, metric) for name in self.sets]
        return np.mean(rates, axis=0)

    def test(self, who: Anchored) -> np.ndarray:
        """[1+R] the share of right answers on the test split."""
        return self.right.rate(label(who), TEST, RIGHT, "raw")

    def refused(self, who: Anchored) -> np.ndarray:
        """[1+R] the mean share of harmless prompts that are refused; NaN without a set of them."""
        if self.refusals is None:
            return np.full(2, np.nan)
        every = [self.refusals.rate(label(who), name, RIGHT, "raw") for name in self.harmless]
        return np.mean(every, axis=0)


def label(who: Anchored) -> str:
    """An arm under an anchor as an arm of `cells`."""
    return "\n".join(who)


def models(results: Results, goal: str) -> dict[Anchored, tuple[Model, ...]]:
    """The checkpoints of every arm under every anchor where it has any; the base first."""
    found: dict[Anchored, list[Model]] = {BASELINE: [NOBODY]}
    for anchor in results.anchors:
        for row, model in results.at(goal, anchor):
            found.setdefault((anchor, row["arm"]), []).append(model)
    return {who: tuple(known) for who, known in found.items()}


def draw(results: Results, bench: Bench, goal: str, resamples: int = RESAMPLES) -> Drawn:
    """Cells of a goal: the run's judge on all, the other judges on one anchor and the base.

    Args:
      results: of a finished study.
      bench: its judges.
      goal: of it.
      resamples: R.
    """
    known = models(results, goal)
    judged = anchor_of(results, goal)
    found: dict[cells.Key, cells.Cell] = {}
    tests: dict[cells.Key, cells.Cell] = {}
    asked: dict[cells.Key, cells.Cell] = {}
    for who, checkpoints in known.items():
        names = bench.names if who[0] in ("", judged) else bench.names[:1]
        for model in checkpoints:
            for name in results.sets:
                votes = bench.votes(model, name)
                for judge in names:
                    cell = cells.Cell(_array(votes.unsafe[judge]), _array(votes.coherent))
                    found[cells.Key(label(who), model.seed, name, judge)] = cell
            test = f"{TEST}.{goal}" if model is NOBODY else TEST
            right = _array(results.answers[model][test].flags["correct"])
            key = cells.Key(label(who), model.seed, TEST, RIGHT)
            tests[key] = cells.Cell(right, np.ones(len(right)))
            for name in results.harmless:
                refusal = _array(results.answers[model][name].flags["refusal"])
                key = cells.Key(label(who), model.seed, name, RIGHT)
                asked[key] = cells.Cell(refusal, np.ones(len(refusal)))
    base = results.answers[NOBODY]
    sizes = {name: len(base[name].ids) for name in results.sets}
    prompts = {"": sum(sizes.values()), TEST: len(base[f"{TEST}.{goal}"].ids)}
    prompts[HARMLESS] = sum(len(base[name].ids) for name in results.harmless)
    drawn, right, refusals = (
        cells.resample(cells.Table(x), resamples=resamples) if x else None
        for x in (found, tests, asked)
    )
    assert drawn is not None and right is not None  # the base stands in both
    sets = results.sets, results.harmless
    return Drawn(known, drawn, right, refusals, bench.names, *sets, prompts)


def standings(results: Results, drawn: Drawn, goal: str) -> list[Standing]:
    """Every arm under every anchor where it has a checkpoint, by the run's judge; base first."""
    trainings: dict[Anchored, int] = {}
    for row in results.rows:
        if row["goal"] == goal:
            who = (row["anchor"], row["arm"])
            trainings[who] = trainings.get(who, 0) + 1
    found = []
    for who, checkpoints in drawn.models.items():
        lo, hi, incoh = (
            statistic(drawn.scores(who, drawn.judges[0], metric), drawn.prompts[""])
            for metric in ("lo", "hi", "incoh")
        )
        test = statistic(drawn.test(who), drawn.prompts[TEST])
        refused = statistic(drawn.refused(who), drawn.prompts[HARMLESS])
        if refused.value is None:
            refused = refused._replace(cause=ASKED)
        seeds, steps = len(checkpoints), tuple(m.step for m in checkpoints)
        (anchor, arm), of = who, trainings.get(who, 1)
        found.append(Standing(arm, anchor, seeds, of, steps, test, lo, hi, incoh, refused))
    return found


class Capable(NamedTuple):
    """Whether an arm is as capable as another under an anchor.

    Attributes:
      arm: the arm.
      change: right answers on test, this arm's less the other's, with its 90 % interval: two
        one-sided tests at 5 %.
      verdict: of `benchmarks.equivalence`: "equivalent" where the interval lies within the margin,
        "different" where it lies beyond, else "undecided".
    """

    arm: str
    change: Statistic
    verdict: str


def capable(drawn: Drawn, anchor: str, other: str, margin: float) -> list[Capable]:
    """Every arm under an anchor beside `other`, on the same draws; none where that is not there."""
    found = []
    for who in drawn.models:
        if who[0] != anchor or who[1] == other or (anchor, other) not in drawn.models:
            continue
        change = drawn.test(who) - drawn.test((anchor, other))
        value, rest = float(change[0]), change[1:]
        lo, hi = np.quantile(rest, [0.05, 0.95]).tolist()
        if float(np.ptp(rest)) < 1e-9:  # draws that all agree are no certainty
            spare = wilson(0, drawn.prompts[TEST], 0.9)[1]
            lo, hi = value - spare, value + spare
        within, beyond = -margin < lo and hi < margin, lo > margin or hi < -margin
        verdict = EQUIVALENT if within else DIFFERENT if beyond else UNDECIDED
        found.append(Capable(who[1], Statistic(value, min(lo, value), max(hi, value)), verdict))
    return found


def statistic(values: np.ndarray, prompts: int, level: float = 0.95) -> Statistic:
    """[1+R] values in 0..1, the estimate first, as one with its interval.

    Args:
      values: NaN where there is none.
      prompts: for Wilson's interval, where no draw differs.
      level: coverage, 0..1.
    """
    value, rest = float(values[0]), values[1:][~np.isnan(values[1:])]
    if np.isnan(value):
        return Statistic(None, None, None, UNKNOWN)
    if 2 * len(rest) < len(values) - 1 or not len(rest):
        return Statistic(value, None, None, cells.FEW)
    if float(np.ptp(rest)) < 1e-9:
        return Statistic(value, *wilson(value * prompts, prompts, level))
    lo, hi = np.quantile(rest, [0.5 - level / 2, 0.5 + level / 2]).tolist()
    return Statistic(value, min(lo, value), max(hi, value))


def _array(flags: Sequence[bool | None]) -> np.ndarray:
    """[N] flags as 1, 0 and NaN."""
    return np.array([np.nan if flag is None else float(flag) for flag in flags], float)

"""Judges side by side: how far two of them agree on the same answers, and where they do not."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxsafety.benchmarks import outcomes
from jaxsafety.report.load import decoding_label
from jaxsafety.report.measurement.load import Judge, Measurement

# What two judges can agree on: flag -> (what it is called, kinds of sets it is asked of).
FLAGS = {
    "refusal": ("refusal", ("safety", "over_refusal")),
    "unsafe": ("unsafe answer", ("safety",)),
}
SHOWN = 3  # examples of each direction

Key = tuple[str, str, str, str, int]  # arm, set, decoding, item, sample


class Pair(NamedTuple):
    """Two judges on one flag.

    Attributes:
      first: title of one.
      second: title of the other.
      n: answers that both can tell.
      untold: answers that one of them cannot.
      kappa: Cohen's kappa, None where it is not defined.
      ac1: Gwet's AC1, None where it is not defined.
      shares: of True by the first and by the second, None without answers.
      cells: both True, first alone, second alone, neither.
      why: why kappa is not defined, "" where it is.
    """

    first: str
    second: str
    n: int
    untold: int
    kappa: float | None
    ac1: float | None
    shares: tuple[float, float] | None
    cells: tuple[int, int, int, int]
    why: str


class Example(NamedTuple):
    """An answer that two judges see otherwise."""

    flag: str
    yes: str
    no: str
    where: str
    prompt: str
    response: str


def compare(measured: Measurement, flag: str) -> list[Pair]:
    """Every pair of judges on a flag, in the order of the judges."""
    votes = [(judge, _votes(measured, judge, flag)) for judge in measured.opinions]
    found = []
    for (one, first), (other, second) in itertools.combinations(votes, 2):
        shared = [key for key in first if key in second]
        told = [(first[k], second[k]) for k in shared if None not in (first[k], second[k])]
        found.append(_pair(one.title, other.title, told, len(shared) - len(told)))
    return found


def _pair(one: str, other: str, told: list[tuple[Any, Any]], untold: int) -> Pair:
    n = len(told)
    if not n:
        return Pair(
            one, other, 0, untold, None, None, None, (0, 0, 0, 0), "no answer both can tell"
        )
    a, b = [x for x, _ in told], [y for _, y in told]
    yes = told.count((True, True)), told.count((True, False))
    cells = (*yes, told.count((False, True)), told.count((False, False)))
    shares = (sum(a) / n, sum(b) / n)
    # One and the same label throughout: agreement by chance is whole, and there is no kappa.
    same = len({*a, *b}) == 1
    kappa = None if same else outcomes.kappa(a, b)
    ac1 = None if same else outcomes.ac1(a, b)
    why = "both say the same of every answer" if same else ""
    return Pair(one, other, n, untold, kappa, ac1, shares, cells, why)


def find_disagreements(measured: Measurement, flag: str) -> list[Example]:
    """The first answers that two judges see otherwise, sets in turn: nobody chose them."""
    votes = [(judge, _votes(measured, judge, flag)) for judge in measured.opinions]
    found: list[Example] = []
    for (one, first), (other, second) in itertools.permutations(votes, 2):
        keys = [k for k in first if first[k] is True and second.get(k) is False]
        for key in _in_turn(keys)[:SHOWN]:
            found.append(_example(measured, key, flag, one.title, other.title))
    return found


def _in_turn(keys: list[Key]) -> list[Key]:
    """The first of each set, then the second of each."""
    by_set: dict[str, list[Key]] = {}
    for key in keys:
        by_set.setdefault(key[1], []).append(key)
    rows = itertools.zip_longest(*by_set.values())
    return [key for row in rows for key in row if key is not None]


def _example(measured: Measurement, key: Key, flag: str, yes: str, no: str) -> Example:
    arm, name, decoding, item, sample = key
    line: Mapping[str, Any] = next(
        (
            line
            for line in measured.answers(arm, name, decoding)
            if (line.get("id"), line.get("sample")) == (item, sample)
        ),
        {},
    )
    where = f"{name}, {decoding_label(decoding)}"
    where = f"{arm}, {where}" if len(measured.arms) > 1 else where
    said, asked = str(line.get("response", "")), str(line.get("prompt", ""))
    return Example(FLAGS[flag][0], yes, no, where, asked, said)


def _votes(measured: Measurement, judge: Judge, flag: str) -> dict[Key, bool | None]:
    """What a judge says of every answer, by answer."""
    found: dict[Key, bool | None] = {}
    for name, facts in measured.sets.items():
        if facts.get("kind") not in FLAGS[flag][1]:
            continue
        for arm, decoding in measured.each():
            for verdict in judge.verdicts(arm, name, decoding):
                if "id" in verdict and "sample" in verdict:
                    key = (arm, name, decoding, verdict["id"], verdict["sample"])
                    found[key] = outcomes.known(verdict.get(flag))
    return found

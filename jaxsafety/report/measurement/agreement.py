"""Judges side by side: how far two of them agree on the same answers, and where they do not."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxsafety.benchmarks import agreement, outcomes
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
      kappa_range: its 95 % interval over prompts, None where there is none.
      ac1_range: likewise.
      strata: the agreement of each stratum of coherence, where there are several.
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
    kappa_range: tuple[float, float] | None
    ac1_range: tuple[float, float] | None
    strata: tuple[tuple[str, agreement.Agreement], ...]


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
    fluent = [_votes(measured, judge, flag, "coherent") for judge in measured.opinions]
    found = []
    for (one, first), (other, second) in itertools.combinations(votes, 2):
        shared = [key for key in first if key in second]
        # of whoever knows first: judges of harm alone do not say what is text
        known = [next((f[k] for f in fluent if f.get(k) is not None), None) for k in shared]
        by_stratum = agreement.compare_strata(
            [first[k] for k in shared],
            [second[k] for k in shared],
            [agreement.label_coherence(flag) for flag in known],
            clusters=[(k[1], k[3]) for k in shared],
        )
        found.append(_pair(one.title, other.title, by_stratum))
    return found


def _pair(one: str, other: str, by_stratum: Mapping[str, agreement.Agreement]) -> Pair:
    whole = by_stratum["all"]
    n, first, second = whole.n, whole.first.value, whole.second.value
    shares = None if first is None or second is None else (first, second)
    why = whole.kappa.cause if whole.kappa.value is None else ""
    rest = {name: part for name, part in by_stratum.items() if name != "all" and part.n}
    strata = tuple(rest.items()) if len(rest) > 1 else ()
    untold = sum(whole.unscored.values())
    numbers = whole.kappa.value, whole.ac1.value, shares, whole.cells, why
    return Pair(one, other, n, untold, *numbers, _range(whole.kappa), _range(whole.ac1), strata)


def _range(number: agreement.Statistic) -> tuple[float, float] | None:
    return None if number.lo is None or number.hi is None else (number.lo, number.hi)


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


def _votes(measured: Measurement, judge: Judge, flag: str, of: str = "") -> dict[Key, bool | None]:
    """What a judge says of every answer that `flag` is asked of: that flag, or another, `of`."""
    found: dict[Key, bool | None] = {}
    for name, facts in measured.sets.items():
        if facts.get("kind") not in FLAGS[flag][1]:
            continue
        for arm, decoding in measured.each():
            for verdict in judge.verdicts(arm, name, decoding):
                if "id" in verdict and "sample" in verdict:
                    key = (arm, name, decoding, verdict["id"], verdict["sample"])
                    found[key] = outcomes.known(verdict.get(of or flag))
    return found

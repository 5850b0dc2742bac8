"""How far judges agree on the answers of a study, where these are coherent and where they are not.

All answers of the judged anchor and of the base to the safety sets, of all goals together; a prompt
is a cluster, as several models answered it. Each pair of judges has kappa and AC1 with bootstrap
intervals (`benchmarks/agreement.py`). Pinned by tests/studies/test_anchored_judges.py.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxsafety.benchmarks import agreement, outcomes
from jaxsafety.benchmarks.agreement import Agreement, Statistic
from jaxsafety.benchmarks.triggered import Row, by_trigger
from jaxsafety.studies.anchored.results.judges import Bench, Votes, anchor_of
from jaxsafety.studies.anchored.results.read import BASE, NOBODY, Model, Results

SHOWN = 2  # examples of each direction and pair


class Answer(NamedTuple):
    """One answer: who said it, to which prompt of which set, and what judges say of it."""

    goal: str
    arm: str
    model: Model
    set: str
    id: str
    response: str
    coherent: bool | None
    unsafe: Mapping[str, bool | None]


@dataclass(frozen=True)
class Pair:
    """Two judges.

    Attributes:
      first: a judge.
      second: another.
      all: over all answers.
      coherent: over coherent ones, None where there are none.
      incoherent: over the others, likewise.
      gap: kappa on incoherent answers minus kappa on coherent ones.
      examples: answers where the first alone says unsafe, then where the second alone does.
    """

    first: str
    second: str
    all: Agreement
    coherent: Agreement | None
    incoherent: Agreement | None
    gap: Statistic
    examples: tuple[tuple[Answer, ...], tuple[Answer, ...]]


def judged(results: Results) -> list[tuple[str, str, Model]]:
    """(goal, arm, model) of everyone whose answers all judges judge, the base first, each once."""
    found = {NOBODY: ("", BASE, NOBODY)}
    for goal in results.goals:
        anchor = anchor_of(results, goal)
        for row, model in results.at(goal, anchor) if anchor else ():
            found.setdefault(model, (goal, row["arm"], model))
    return list(found.values())


def answers(results: Results, bench: Bench) -> list[Answer]:
    """Every answer that all judges judge."""
    found = []
    for goal, arm, model in judged(results):
        for name in results.sets:
            told, votes = results.answers[model][name], bench.votes(model, name)
            for i, (key, text) in enumerate(zip(told.ids, told.responses, strict=True)):
                unsafe = {judge: flags[i] for judge, flags in votes.unsafe.items()}
                found.append(Answer(goal, arm, model, name, key, text, votes.coherent[i], unsafe))
    return found


def pairs(said: Sequence[Answer], judges: Sequence[str]) -> list[Pair]:
    """The matrix of judges: every pair once."""
    clusters = [(a.set, a.id) for a in said]
    strata = [agreement.label_coherence(a.coherent) for a in said]
    groups = list(zip(strata, (a.set for a in said), strict=True))
    coherent = [a.coherent for a in said]
    found = []
    for one, other in itertools.combinations(judges, 2):
        first, second = ([a.unsafe[judge] for a in said] for judge in (one, other))
        told = agreement.compare_strata(first, second, strata, clusters=clusters)
        gap = agreement.contrast_coherence(first, second, coherent, clusters=clusters)
        shown = agreement.find_disagreements(first, second, groups=groups, limit=SHOWN)
        a, b = (tuple(said[i] for i in places) for places in shown)
        strata_of = (told.get("coherent"), told.get("incoherent"))
        found.append(Pair(one, other, told["all"], *strata_of, gap, (a, b)))
    return found


class Bar(NamedTuple):
    """How the answers of one arm to one set fall, by one judge; `untold` in none of the four."""

    goal: str
    arm: str
    set: str
    judge: str
    counts: Mapping[str, int]
    untold: int


def bars(results: Results, bench: Bench, goal: str, anchor: str) -> list[Bar]:
    """The four outcomes per set, arm and judge at an anchor, all seeds together; the base first."""
    models: dict[str, list[Model]] = {BASE: [NOBODY]}
    for row, model in results.at(goal, anchor):
        models.setdefault(row["arm"], []).append(model)
    found = []
    for name, (arm, known) in itertools.product(results.sets, models.items()):
        votes = [bench.votes(model, name) for model in known]
        for judge in bench.names:
            rows = [row for one in votes for row in one.outcomes(judge)]
            counts = outcomes.counts(rows)
            found.append(Bar(goal, arm, name, judge, counts, len(rows) - sum(counts.values())))
    return found


def fired(results: Results, bench: Bench, goal: str, anchor: str) -> dict[str, list[Row]]:
    """Arm -> which triggers of the gate fired in its answers to safety sets; the base first."""
    models: dict[str, list[Votes]] = {BASE: [bench.votes(NOBODY, name) for name in results.sets]}
    for row, model in results.at(goal, anchor):
        votes = [bench.votes(model, name) for name in results.sets]
        models.setdefault(row["arm"], []).extend(votes)
    told = {arm: [x for one in votes for x in one.fired] for arm, votes in models.items()}
    return {arm: by_trigger(found) for arm, found in told.items() if found}


def tally(said: Sequence[Answer], judge: str) -> Counter[str]:
    """What a judge says of incoherent answers: "unsafe", "not unsafe", "cannot tell"."""
    words = {True: "unsafe", False: "not unsafe", None: "cannot tell"}
    return Counter(words[a.unsafe[judge]] for a in said if a.coherent is False)

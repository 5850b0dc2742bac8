"""What other judges say of the answers that a study kept, with one coherence for all of them.

The answers are those of one anchor and of the base, on the safety sets. Coherence k is asked first
and once: of the organism's exact judge it is its own flag; of any other
judge, what the gate of `judges/gate.py` leaves of it. Harm u is each judge's own, also on answers
that are incoherent: how judges do there is to be seen. Pinned by
tests/studies/test_anchored_judges.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxsafety import registry
from jaxsafety.judges import formats, gate
from jaxsafety.judges.judging import judged
from jaxsafety.protocols import Exchange
from jaxsafety.studies.anchored.goals import TEST
from jaxsafety.studies.anchored.others import LISTS as LISTS
from jaxsafety.studies.anchored.others import name_of
from jaxsafety.studies.anchored.results.read import NOBODY, Model, Results, Told
from jaxsafety.studies.anchored.table import GOAL, LAST

# The form of a goal's right answers (`judges.formats.GRAMMARS`) where its words do not show it: the
# organism's "claim" says "sure" for yes.
FORMS = {"claim": "yes_no"}
ALIKE = 0.9  # of a goal's right answers have a form that its task taught
Flag = bool | None


@dataclass(frozen=True)
class Votes:
    """What is said of N answers of one model to one set.

    Attributes:
      coherent: [N] k, the same for all judges.
      unsafe: judge -> [N] u.
      refusal: judge -> [N].
      fired: [N] triggers of the gate; () without the prompts.
    """

    coherent: tuple[Flag, ...]
    unsafe: Mapping[str, tuple[Flag, ...]]
    refusal: Mapping[str, tuple[Flag, ...]]
    fired: tuple[tuple[str, ...] | None, ...]

    def outcomes(self, judge: str) -> list[dict[str, Flag]]:
        """[N] verdicts as `outcomes.counts` takes them."""
        columns = (self.coherent, self.unsafe[judge], self.refusal[judge])
        return [
            dict(zip(("coherent", "unsafe", "refusal"), flags, strict=True))
            for flags in zip(*columns, strict=True)
        ]


def anchor_of(results: Results, goal: str) -> str | None:
    """The anchor of a goal whose answers are judged: the goal, else the last step; None: neither.

    A last step is shown where no arm reached the goal, so that there is something to look at; it is
    no comparison at equal capability.
    """
    return next((a for a in (GOAL, LAST) if results.at(goal, a)), None)


def names(results: Results) -> tuple[str, ...]:
    """The run's judge first, then lists, where all prompts are known, then those of the config."""
    base = results.answers[NOBODY]
    asked = all(key in results.items[name] for name in results.sets for key in base[name].ids)
    own = name_of(results.judge)  # without the place that it was opened at
    lists = (n for n in LISTS if asked and n != own)
    kept = dict.fromkeys(n for name in results.sets for n in base[name].others)
    return (results.judge, *lists, *(n for n in kept if n != own))


def form(results: Results, goal: str) -> str:
    """The form, of `formats.GRAMMARS`, that a goal taught: the one that its right answers have.

    Right answers are those of its trained models on the test split; "free" where there are none, or
    fewer than `ALIKE` of them have one form.
    """
    if goal in FORMS:
        return FORMS[goal]
    right = [
        text
        for model, sets in results.answers.items()
        if model.goal == goal and TEST in sets
        for text, known in zip(sets[TEST].responses, sets[TEST].flags["correct"], strict=True)
        if known
    ]
    shares = {name: sum(fits(text) for text in right) for name, fits in formats.GRAMMARS.items()}
    return next((n for n, count in shares.items() if right and count >= ALIKE * len(right)), "free")


class Bench:
    """Judges the answers of a study; a class because equal answers are judged once."""

    def __init__(self, results: Results) -> None:
        """Makes the judges."""
        self.results = results
        self.names = names(results)
        lists = [name for name in self.names[1:] if name in LISTS]
        self._judges = {name: registry.resolve(registry.JUDGES, name)() for name in lists}
        self._known: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._forms = {goal: form(results, goal) for goal in results.goals}
        self._votes: dict[tuple[Model, str], Votes] = {}

    def votes(self, model: Model, name: str) -> Votes:
        """What all judges say of a model's answers to a set."""
        if (model, name) not in self._votes:
            self._votes[model, name] = self._vote(model, name)
        return self._votes[model, name]

    def _vote(self, model: Model, name: str) -> Votes:
        told = self.results.answers[model][name]
        own = {flag: _flags(told, flag) for flag in ("unsafe", "refusal", "coherent")}
        unsafe, refusal = ({self.results.judge: own[flag]} for flag in ("unsafe", "refusal"))
        for judge in self.names[1:]:
            if judge not in self._judges:  # what it said is kept, or it has not been asked
                kept = told.others.get(judge, {})
                unsafe[judge], refusal[judge] = (
                    kept.get(one, (None,) * len(told.ids)) for one in ("unsafe", "refusal")
                )
        if not self._judges:
            return Votes(own["coherent"], unsafe, refusal, ())
        items = self.results.items[name]
        said = [Exchange(items[i], text) for i, text in zip(told.ids, told.responses, strict=True)]
        for judge in self._judges:
            rows = self._judged(judge, name, said)
            unsafe[judge] = tuple(row["unsafe"] for row in rows)
            refusal[judge] = tuple(row["refusal"] for row in rows)
        rows = [dict(zip(own, flags, strict=True)) for flags in zip(*own.values(), strict=True)]
        gated = gate.gated(lambda _: rows, grammar=self._forms.get(model.goal, "free"))(said)
        coherent = own["coherent"] if self.results.exact else tuple(g["coherent"] for g in gated)
        fired = tuple(None if g["triggers"] is None else (*g["triggers"],) for g in gated)
        return Votes(coherent, unsafe, refusal, fired)

    def _judged(self, judge: str, name: str, said: Sequence[Exchange]) -> list[dict[str, Any]]:
        keys = [(judge, f"{name}/{one.item.id}", one.response) for one in said]
        new = {key: one for key, one in zip(keys, said, strict=True) if key not in self._known}
        rows = judged(self._judges[judge], list(new.values())) if new else []
        self._known.update(zip(new, rows, strict=True))
        return [self._known[key] for key in keys]


def _flags(told: Told, name: str) -> tuple[Flag, ...]:
    """A flag of every answer; None of all where the judge has none of that name."""
    return told.flags.get(name, (None,) * len(told.ids))

"""Some answers of each set with what every judge says of them: the first ones, so nobody chose."""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxsafety.benchmarks.outcomes import OUTCOMES
from jaxsafety.report.load import decoding_label
from jaxsafety.report.measurement.load import Judge, Measurement

EACH = 1  # of an outcome of a kind of sets
MOST = 12


class Shown(NamedTuple):
    """An answer; `badges` are (judge, outcome or right/wrong, class of its colour)."""

    where: str
    prompt: str
    response: str
    badges: list[tuple[str, str, str]]


def pick(measured: Measurement) -> list[Shown]:
    """For each kind of sets the first answer of each outcome, by the first judge of that kind."""
    found: list[Shown] = []
    for kind in ("safety", "over_refusal", "capability"):
        judges = [judge for judge in measured.judges if judge.benchmarks(kind)]
        if not judges:
            continue
        seen: dict[str, int] = {}
        for name, facts in measured.sets.items():
            if facts.get("kind") != kind or facts.get("form") != "text":
                continue
            for arm, decoding in measured.each():
                _from_set(measured, judges, kind, (name, arm, decoding), seen, found)
    return found[:MOST]


def _from_set(
    measured: Measurement,
    judges: list[Judge],
    kind: str,
    place: tuple[str, str, str],
    seen: dict[str, int],
    found: list[Shown],
) -> None:
    name, arm, decoding = place
    said = {(v.get("id"), v.get("sample")): v for v in judges[0].verdicts(arm, name, decoding)}
    labels = {key: _label(verdict, kind) for key, verdict in said.items()}
    wanted = [k for k, label in labels.items() if seen.get(label, 0) < EACH]
    if not wanted:
        return
    others = [
        {(v.get("id"), v.get("sample")): v for v in judge.verdicts(arm, name, decoding)}
        for judge in judges
    ]
    lines = {(x.get("id"), x.get("sample")): x for x in measured.answers(arm, name, decoding)}
    for key in wanted:
        label, line = labels[key], lines.get(key)
        if line is None or seen.get(label, 0) >= EACH:
            continue
        seen[label] = seen.get(label, 0) + 1
        where = f"{name}, {decoding_label(decoding)}"
        where = f"{arm}, {where}" if len(measured.arms) > 1 else where
        badges = []
        for judge, verdicts in zip(judges, others, strict=True):
            if key in verdicts:
                text = _label(verdicts[key], kind)
                shown = judge.unsafe if text == "unsafe" else text.replace("_", " ")
                badges.append((judge.title, shown, text))
        found.append(
            Shown(where, str(line.get("prompt", "")), str(line.get("response", "")), badges)
        )


def _label(verdict: dict[str, Any], kind: str) -> str:
    """The outcome of an answer; of a task, whether it is right."""
    if kind == "capability":
        right = verdict.get("correct")
        return "not judged" if right is None else "right" if right else "wrong"
    outcome = verdict.get("outcome")
    return outcome if outcome in OUTCOMES else "not judged"

"""Picks example answers before and after: some of what improved, what stayed, and what went wrong.

Deterministic: within a class the benchmarks take turns and each gives its first case, so nobody
chose the pretty ones. Failures are shown whenever there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxsafety.benchmarks.outcomes import OUTCOMES
from jaxsafety.report.load import Run

Verdict = Mapping[str, Any]


class Shown(NamedTuple):
    """One prompt with both answers; `messages` are (role, text) pairs."""

    benchmark: str
    kind: str
    messages: tuple[tuple[str, str], ...]
    before: str
    after: str
    before_badge: str
    after_badge: str


class Group(NamedTuple):
    """A class of examples, how many prompts fell into it, and the few that are shown."""

    title: str
    total: int
    shown: tuple[Shown, ...]


def _safe(v: Verdict) -> bool:
    return v["outcome"] in ("refusal", "safe_answer")


# title, kinds, (verdict before, verdict after) -> belongs, how many to show
CLASSES: tuple[tuple[str, tuple[str, ...], Callable[[Verdict, Verdict], bool], int], ...] = (
    (
        "Harmful before, safe after",
        ("safety",),
        lambda a, b: a["outcome"] == "unsafe" and _safe(b),
        4,
    ),
    (
        "Harmless request, still answered right",
        ("over_refusal",),
        lambda a, b: a["correct"] and b["correct"],
        1,
    ),
    (
        "Harmless request, answered before and after; whether it is right is not known",
        ("over_refusal",),
        lambda a, b: a["outcome"] == b["outcome"] == "safe_answer" and b["correct"] is None,
        1,
    ),
    ("Task, still right", ("capability",), lambda a, b: a["correct"] and b["correct"], 1),
    (
        "Task, wrong before, right after",
        ("capability",),
        lambda a, b: a["correct"] is False and b["correct"],
        1,
    ),
    ("Failure: still harmful after", ("safety",), lambda a, b: b["outcome"] == "unsafe", 2),
    (
        "Failure: harmless request newly refused",
        ("over_refusal",),
        lambda a, b: a["outcome"] not in ("refusal", None) and b["outcome"] == "refusal",
        2,
    ),
    (
        "Failure: right before, wrong after",
        ("capability",),
        lambda a, b: a["correct"] and b["correct"] is False,
        1,
    ),
    (
        "Failure: wrong before and after",
        ("capability",),
        lambda a, b: a["correct"] is False and b["correct"] is False,
        1,
    ),
    (
        "Failure: coherent before, incoherent after",
        ("safety", "over_refusal", "capability"),
        lambda a, b: a["outcome"] not in ("incoherent", None) and b["outcome"] == "incoherent",
        1,
    ),
)


def pick(run: Run, decoding: str | None = None) -> tuple[str, list[Group]]:
    """Chooses the examples of a run.

    Args:
      run: the workdir.
      decoding: whose answers are shown; None prefers greedy.

    Returns:
      The decoding used and the classes that have members; empty without both arms' generations.
    """
    names = list(dict.fromkeys(d for k in ("safety", "over_refusal") for d in run.decodings(k)))
    decoding = decoding or ("greedy" if "greedy" in names else (names[0] if names else "greedy"))
    pairs = {}
    for kind in ("safety", "over_refusal", "capability"):
        for benchmark in run.benchmarks(kind):
            found = _pairs(run, benchmark, kind, decoding)
            if found:
                pairs[benchmark] = found
    groups = []
    for title, kinds, belongs, most in CLASSES:
        queues = [
            [shown for before, after, shown in found if belongs(before, after)]
            for found in pairs.values()
            if found[0][2].kind in kinds
        ]
        total = sum(map(len, queues))
        if total:
            groups.append(Group(title, total, tuple(_take_turns(queues, most))))
    return decoding, groups


def _take_turns(queues: list[list[Shown]], most: int) -> list[Shown]:
    """The first of each benchmark, then the second of each, ... up to `most`."""
    longest = max(map(len, queues))
    turns = [queue[i] for i in range(longest) for queue in queues if i < len(queue)]
    return turns[:most]


def _pairs(run: Run, benchmark: str, kind: str, decoding: str):
    """(verdict before, verdict after, shown) per prompt answered and judged in both arms."""
    sides = []
    for arm in (run.before, run.after):
        lines = run.lines("generations", arm, benchmark, decoding)
        verdicts = run.lines("verdicts", arm, benchmark, decoding)
        judged = {(v.get("id"), v.get("sample")): v for v in verdicts if "outcome" in v}
        keys = [(x.get("id"), x.get("sample")) for x in lines]
        sides.append({k: (x, judged[k]) for k, x in zip(keys, lines, strict=True) if k in judged})
    first, second = sides
    pairs = []
    for key in first:
        if key in second and key[1] == 0:
            (line, before), (other, after) = first[key], second[key]
            pairs.append((before, after, _shown(benchmark, kind, line, other, before, after)))
    return pairs


def _shown(benchmark: str, kind: str, line: Any, other: Any, before: Verdict, after: Verdict):
    turns = line.get("messages") or [{"role": "user", "content": line.get("prompt", "")}]
    return Shown(
        benchmark,
        kind,
        tuple((str(m.get("role", "")), str(m.get("content", ""))) for m in turns),
        str(line.get("response", "")),
        str(other.get("response", "")),
        badge(before, kind),
        badge(after, kind),
    )


def badge(verdict: Verdict, kind: str) -> str:
    """The outcome where safety is asked, right or wrong where that can be told, else "unknown"."""
    outcome = verdict["outcome"]
    if outcome is not None and (kind == "safety" or outcome in ("incoherent", "refusal", "unsafe")):
        return outcome if outcome in OUTCOMES else "unknown"
    if verdict.get("correct") is None:  # no gold answer: only whether it answers is known
        return "answered" if outcome == "safe_answer" else "unknown"
    return "right" if verdict["correct"] else "wrong"

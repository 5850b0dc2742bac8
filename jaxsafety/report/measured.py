"""Section of `report.html` about the measured files: which rows of them, and who judged how.

Only where there were files: the organism's sets are always the same, and described in its docs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxsafety.report import page
from jaxsafety.report.load import Run, decoding_label

KINDS = {"safety": "harmful requests", "over_refusal": "harmless requests", "capability": "tasks"}
GRADES = {
    "letter": "the option's letter",
    "number": "the number",
    "gsm8k": "the number after ####, else the last one",
    "exact": "the answer itself",
    "aliases": "one of the accepted answers",
}


class Measured(NamedTuple):
    """A measured file; `cut` tells per arm how many answers ended at the token limit."""

    name: str
    kind: str
    path: str
    layout: str
    used: str
    judged: str
    decodings: list[str]
    cut: list[str]


def sets(run: Run) -> str:
    """A row per measured file: prompts used, layout, how it is judged, in which decodings."""
    told = run.meta.get("sets")
    told = told if isinstance(told, dict) else {}
    if run.source != "files" or not run.records:
        return ""
    rows = []
    for kind, what in KINDS.items():
        for name in run.benchmarks(kind):
            if name in run.pools:
                continue
            found = told.get(name)
            facts: dict[str, Any] = found if isinstance(found, dict) else {}
            rows.append(
                Measured(
                    name=name,
                    kind=what,
                    path=str(facts.get("path", "–")),
                    layout=str(facts.get("layout") or "–"),
                    used=_used(facts),
                    judged=_judged(run, kind, name),
                    decodings=[decoding_label(d) for d in run.decodings_of(name)],
                    cut=_cut(run, name),
                )
            )
    return page.fill(page.TEMPLATES, "measured.html", rows=rows) if rows else ""


def _used(facts: dict[str, Any]) -> str:
    """As in "16 of 520 (sample of seed 0)"."""
    used, rows = facts.get("used"), facts.get("rows")
    if used is None or rows is None:
        return "–"
    if used == rows:
        return f"all {rows}"
    seed = facts.get("seed")
    return f"{used} of {rows}" + ("" if seed is None else f" (sample of seed {seed})")


def _cut(run: Run, name: str) -> list[str]:
    """How many answers ended at the token limit and not by themselves, as "base 9 of 12"."""
    told = []
    for arm in (run.before, run.after):
        every = [
            line.get("finished")
            for decoding in run.decodings_of(name)
            for line in (run.lines("generations", arm, name, decoding) if arm else ())
        ]
        if every and None not in every:
            told.append(f"{arm} {every.count(False)} of {len(every)}")
    return told


def _judged(run: Run, kind: str, name: str) -> str:
    """Which rule decides about an answer of this set."""
    if kind != "capability":
        return "phrase rules"
    for arm in (run.before, run.after):
        for decoding in run.decodings_of(name):
            for line in run.lines("generations", arm, name, decoding)[:1]:
                meta = line.get("meta")
                grade = str(meta.get("grade", "")) if isinstance(meta, dict) else ""
                return GRADES.get(grade, grade or "–")
    return "–"

"""How many measured prompts a model was trained on: rows and lines for page and terminal.

`experiment/trained.py` counted them. Of each set: "prompts", "trained", "any", "cause".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxsafety.report import page
from jaxsafety.report.load import Run


class Row(NamedTuple):
    """A set: how many of its prompts were trained on, of how many, and where from.

    `any` is None where it is not known, for the reason `cause`.
    """

    set: str
    arm: str
    any: int | None
    prompts: int
    sources: str
    cause: str


def rows(told: Any, arm: str = "") -> list[Row]:
    """A row per set of what a run or a measurement recorded; what cannot be read is left out."""
    found = []
    for name, facts in told.items() if isinstance(told, Mapping) else ():
        if not isinstance(facts, Mapping) or not isinstance(facts.get("prompts"), int):
            continue
        known, by = facts.get("any"), facts.get("trained")
        counts = by if isinstance(by, Mapping) else {}
        sources = ", ".join(f"{where} {count}" for where, count in counts.items() if count)
        value = known if isinstance(known, int) else None
        cause = "" if value is not None else str(facts.get("cause") or "it was not counted")
        found.append(Row(str(name), arm, value, facts["prompts"], sources, cause))
    return found


def fill(found: list[Row]) -> str:
    """A table of these rows, and why some are not known; "" without rows."""
    if not found:
        return ""
    several = len({row.arm for row in found}) > 1
    unknown = list(dict.fromkeys((row.arm, row.cause) for row in found if row.cause))
    known = [row for row in found if row.any is not None or row.sources]
    return page.fill(page.TEMPLATES, "trained.html", rows=known, several=several, unknown=unknown)


def lines(found: list[Row]) -> list[str]:
    """The same as text: a line per model."""
    told = []
    for arm in dict.fromkeys(row.arm for row in found):
        own = [row for row in found if row.arm == arm]
        name = f" ({arm})" if arm else ""
        known = [f"{r.set} {r.any} of {r.prompts}" for r in own if r.any is not None]
        if known:
            told.append(f"measured prompts that were trained on{name}: {', '.join(known)}")
        causes = dict.fromkeys(row.cause for row in own if row.cause)
        told += [f"measured prompts that were trained on{name}: not known: {c}" for c in causes]
    return told


def of_run(run: Run) -> list[Row]:
    """Rows of a run; none where the organism's sets share nothing with what it was trained on."""
    found = rows(run.meta.get("shared"))
    if run.source == "organism" and not any(row.any or row.cause for row in found):
        return []
    return found


def section(run: Run) -> str:
    """Section of a run's report."""
    return fill(of_run(run)) if run.records else ""

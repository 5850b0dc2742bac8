"""The section of `report.html` about the study: what each arm's judges and loss led to.

Pinned by tests/studies/test_weak_sections.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxsafety.protocols import Finished, Section
from jaxsafety.report import page, panels
from jaxsafety.studies.weak_supervision import config
from jaxsafety.studies.weak_supervision.results import MEASURES, Found, summarise

TEMPLATES = Path(__file__).with_name("templates")
SHOWN = "wrapped_t1"


def told(run: Finished) -> list[Found]:
    """Means over seeds of every arm; none before the table is made."""
    table = run.artifact("table")
    return summarise(table) if table is not None else []


def arms(run: Finished) -> str:
    """A row per arm, and curves of attack success over the judges' accuracy."""
    found = told(run)
    if not found:
        return ""
    rows = [
        {
            "arm": one.arm or "(default)",
            "seeds": one.seeds,
            "pairs": f"{one.pairs:.0f}",
            "right": _percent(one.right),
            "shares": [str(one.shares.get(name, "–")) for name in MEASURES],
        }
        for one in found
    ]
    drawn = [("Attack success by how often the safety judge is right", curves(found))]
    names = list(MEASURES.values())
    return page.fill(TEMPLATES, "arms.html", rows=rows, names=names, drawn=drawn)


def curves(found: list[Found]) -> str | None:
    """Arms that differ in nothing but accuracy, a line per loss."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for one in found:
        if one.arm == "base" or SHOWN not in one.shares:
            continue
        arm = config.parse(one.arm)
        plain = config.Arm(order=arm.order, form=arm.form, label=arm.label, accuracy=arm.accuracy)
        if arm == plain:
            label = "order=safe" if arm.order == "safe" else arm.form
            label += ", soft" if arm.label == "soft" else ""
            lines.setdefault(label, []).append((100 * arm.accuracy, one.shares[SHOWN].mean))
    drawn = [
        panels.Line(name, [x for x, _ in sorted(at)], [y for _, y in sorted(at)])
        for name, at in lines.items()
        if len(at) > 1
    ]
    base = next(
        (o.shares[SHOWN].mean for o in found if o.arm == "base" and SHOWN in o.shares), None
    )
    labels = ("accuracy of the safety judge, %", "wrapped attacks carried out")
    return panels.learning(drawn, panels.looks(lines), labels, start=base) if drawn else None


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}"


def own() -> tuple[Section[Finished], ...]:
    """The sections, in order."""
    made: Any = arms
    return (Section("arms", "Judges and losses", made, after="changed"),)

"""The section of `report.html` about the study: a row per arm, a column per attack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsafety.protocols import Finished, Section
from jaxsafety.report import page

TEMPLATES = Path(__file__).with_name("templates")
NAMES = {
    "none": "none",
    "ablated": "one direction ablated",
    "ablated_several": "several ablated",
    "prefilled": "answer begun",
}


def table(run: Finished) -> str:
    """Attack success, plain / wrapped, of every arm under every attack."""
    found = run.artifact("attacked")
    if found is None or not found.get("rows"):
        return ""
    rows = found["rows"]
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    cells = {(row["arm"], row["attack"]): row for row in rows}
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    rank = next((row["rank"] for row in rows if "rank" in row), None)
    return page.fill(
        TEMPLATES,
        "attacked.html",
        names=[_title(attack) for attack in attacks],
        rows=[
            {
                "arm": arm,
                "refused": _percent(cells.get((arm, "none"), {}).get("over_refusal")),
                "cells": [_cell(cells.get((arm, attack))) for attack in attacks],
            }
            for arm in arms
        ],
        rank=rank,
        flips=[
            (teacher, _percent(flip.get("all", {}).get("rate")))
            for teacher, flip in run.artifacts("flip.").items()
        ],
        reached=_percent(found.get("reached")),
        unmatched=any(row.get("reached") is False for row in rows),
    )


def _title(attack: str) -> str:
    shots = attack.removeprefix("shots")
    return f"{shots} unsafe answers: updates" if shots != attack else NAMES.get(attack, attack)


def _cell(row: Mapping[str, Any] | None) -> str:
    """Rates in percent, or for a fine-tuning the updates it took."""
    if row is None:
        return "–"
    if str(row["attack"]).startswith("shots"):
        return row["cause"] if row["updates"] is None else str(row["updates"])
    return f"{_percent(row.get('plain'))} / {_percent(row.get('wrapped'))}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}"


def own() -> tuple[Section[Finished], ...]:
    """The sections, those of SafeSteer's teacher after the study's."""
    from jaxsafety.methods.safesteer.sections import SECTIONS

    mine = Section("attacked", "Under attack", table, file="artifacts/attacked.json")
    return (mine, *(s for s in SECTIONS if s.anchor in ("direction", "tokens")))

"""Training in `report.html`: curves, what was learnt from, and whether it was learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxsafety.report import page, plots, tables
from jaxsafety.report.load import Run, finite


def section(run: Run) -> str:
    """Training curves, what was learnt from, and whether it was learnt: the held-out loss."""
    dialogues, domains = _dialogues(run), _domains(run)
    held_out, curves = tables.held_out(run), plots.twice(plots.curves, run.metrics)
    if not (dialogues or domains or held_out) and curves is None:
        return ""
    values = {"dialogues": dialogues, "domains": domains, "held_out": held_out, "curves": curves}
    return page.fill(page.TEMPLATES, "training.html", **values)


def _dialogues(run: Run) -> dict[str, Any]:
    """How many dialogues were learnt from; dropped and cut ones are counted in `changed`."""
    told = run.meta.get("dialogues")
    if not isinstance(told, Mapping) or finite(told.get("used")) is None:
        return {}
    changed = [f"{told[k]} {k}" for k in ("dropped", "cut") if finite(told.get(k))]
    return {"changed": changed, **{k: told.get(k) for k in ("used", "given", "length", "long")}}


def _domains(run: Run) -> dict[str, int]:
    """What the experts learnt from, where domains are files: dialogues of each."""
    told = run.meta.get("domains")
    if not isinstance(told, Mapping):
        return {}
    facts = {name: own for name, own in told.items() if isinstance(own, Mapping)}
    used = {name: finite(own.get("used")) for name, own in facts.items()}
    return {name: int(count) for name, count in used.items() if count is not None}

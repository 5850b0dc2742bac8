"""Training in `report.html`: curves, what was learnt from, and whether it was learnt."""

from __future__ import annotations

from collections.abc import Mapping

from jaxsafety.report import page, plots, tables
from jaxsafety.report.load import Run, finite


def section(run: Run) -> str:
    """Training curves, what was learnt from, and whether it was learnt: the held-out loss."""
    curves = page.figure(plots.curves(run.metrics), "Training curves")
    said = [text for text in (_dialogues(run), _domains(run), tables.held_out(run)) if text]
    return page.paragraph(" ".join(said)) + curves if said else curves


def _dialogues(run: Run) -> str:
    """How many dialogues were learnt from; dropped and cut ones are counted."""
    told = run.meta.get("dialogues")
    if not isinstance(told, Mapping) or finite(told.get("used")) is None:
        return ""
    text = f"Learnt from {told['used']} dialogues"
    changed = [f"{told[k]} {k}" for k in ("dropped", "cut") if finite(told.get(k))]
    if changed:
        text += (
            f" of {told.get('given')}; {' and '.join(changed)}, longer than"
            f" {told.get('length')} tokens (method.long={told.get('long')})"
        )
    return text + "."


def _domains(run: Run) -> str:
    """What the experts learnt from, where domains are files: dialogues of each."""
    told = run.meta.get("domains")
    if not isinstance(told, Mapping):
        return ""
    facts = {name: own for name, own in told.items() if isinstance(own, Mapping)}
    used = {name: finite(own.get("used")) for name, own in facts.items()}
    sizes = [f"{name} {count:.0f}" for name, count in used.items() if count is not None]
    return f"Dialogues of each expert's domain: {', '.join(sizes)}." if sizes else ""

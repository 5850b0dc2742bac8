"""Sections of `report.html` about SafeSteer's inside: direction, safety tokens, KL.

Each fills a template of `templates/`, or returns "" when its artifact is missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety.methods.published import section
from jaxsafety.methods.safesteer import pictures, published
from jaxsafety.protocols import Finished, Section
from jaxsafety.report import page, plots
from jaxsafety.report.load import finite

TEMPLATES = Path(__file__).with_name("templates")


class Bar(NamedTuple):
    """A probability, how long its bar is, and where the tick stands, both in % of the rail."""

    name: str
    value: float
    width: float
    tick: float | None


class Bars(NamedTuple):
    """Base, teacher and student on one set of prompts, and the student's share of the teacher's."""

    prompts: str
    ratio: float
    bars: list[Bar]


def direction(run: Finished) -> str:
    """Heatmaps of the candidate directions."""
    found = run.artifact("direction")
    if found is None:
        return ""
    names = ("layer", "position", "coefficient", "steer", "criterion", "norm_ratio")
    tried = found.get("candidates") or []
    return page.fill(
        TEMPLATES,
        "direction.html",
        chosen=[(name.replace("_", " "), text) for name, text in _known(found, names)],
        tried=len(tried),
        passed=sum(bool(c.get("passed")) for c in tried),
        drawn=plots.twice(pictures.direction, found),
    )


def flip(run: Finished) -> str:
    """The teacher flip rate, over all validation prompts and by kind."""
    found = run.artifact("flip")
    if not found:
        return ""
    rows = []
    for name, row in found.items():
        rate = f"not known: {row['cause']}" if row.get("cause") else ""
        if row["rate"] is not None and row["interval"] is not None:
            low, high = row["interval"]
            rate = f"{row['rate']:.2f} ({low:.2f} to {high:.2f})"
        rows.append({**row, "name": name, "rate": rate})
    return page.fill(TEMPLATES, "flip.html", rows=rows)


def revoted(run: Finished) -> list[str]:
    """What the votes on the way did to S, in the order of updates."""
    first = set((run.artifact("token_set") or {}).get("ids") or ())
    votes = {int(k): v for k, v in run.artifacts("revote.").items() if k.isdigit()}
    return [
        f"after {at} updates {len(first & set(votes[at].get('ids') or ()))} of {len(first)}"
        for at in sorted(votes)
    ]


def tokens(run: Finished) -> str:
    """The safety-token set and the probability mass on it."""
    found, mass = run.artifact("token_set") or {}, run.artifact("mass") or {}
    bars, aims = _mass(mass)
    if not found and not bars:
        return ""
    return page.fill(
        TEMPLATES,
        "tokens.html",
        found=found,
        kind=str(found.get("kind", "votes")),
        setting=_known(found, ("size", "top", "horizon", "floor", "rollout")),
        drawn=plots.twice(pictures.tokens, found),
        bars=bars,
        aims=aims,
        inverse_e=1 / math.e,
        revoted=revoted(run),
    )


def _known(found: Mapping[str, Any], names: Iterable[str]) -> list[tuple[str, str]]:
    """Those of the names that an artifact has, with their values in print."""
    return [(name, page.show(found[name])) for name in names if found.get(name) is not None]


def _mass(mass: Mapping[str, Any]) -> tuple[list[Bars], list[str]]:
    """Probability mass on S per set of prompts; where the loss's fixed points would put it."""
    found = {p: finite(mass.get(f"{p}predicted")) for p in ("", "wrapped_")}
    # Runs of before the wrapped ones had a fixed point of their own: it was the same for both.
    aims = {p: found[""] if aim is None else aim for p, aim in found.items()}
    drawn = {p: bars for p, aim in aims.items() if (bars := _bars(mass, p, aim))}
    shown = dict.fromkeys(f"{aim:.3f}" for p, aim in aims.items() if aim and p in drawn)
    return list(drawn.values()), list(shown)


def _bars(mass: Mapping[str, Any], prefix: str, predicted: float | None) -> Bars | None:
    """Bars of base, teacher and student for one prompt set, or None if it was not measured."""
    values = {k: finite(mass.get(prefix + k)) for k in ("base", "teacher", "student")}
    known = {k: v for k, v in values.items() if v is not None}
    if len(known) < 3:
        return None
    aim = known["teacher"] * predicted if predicted is not None else None
    top = max(*known.values(), aim or 0.0, 1e-9)
    ticks = {"student": None if aim is None else 96 * aim / top}
    return Bars(
        prompts="wrapped attacks" if prefix else "plain harmful requests",
        ratio=known["student"] / max(known["teacher"], 1e-12),
        bars=[Bar(name, v, 96 * v / top, ticks.get(name)) for name, v in known.items()],
    )


def kl(run: Finished) -> str:
    """KL from the base by answer position."""
    found = run.artifact("position_kl")
    drawn = plots.twice(pictures.position_kl, found) if found else None
    if drawn is None or found is None:
        return ""
    answers = None if finite(found.get("n")) is None else found["n"]
    return page.fill(TEMPLATES, "kl.html", drawn=drawn, answers=answers)


SECTIONS = (
    Section("direction", "The refusal direction", direction, file="artifacts/direction.json"),
    Section("flip", "The teacher", flip, "direction", "artifacts/flip.json"),
    Section("tokens", "The safety tokens", tokens, "direction", "artifacts/token_set.json"),
    Section(
        "kl",
        "Distance from the base by position",
        kl,
        after="training",
        file="artifacts/position_kl.json",
    ),
    section("safesteer", published.differences),
)

"""Sections of `report.html` about SafeSteer's inside: direction, safety tokens, KL.

Each returns HTML, or "" when its artifact is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jaxsafety.protocols import Finished, Section
from jaxsafety.report import page, plots
from jaxsafety.report.load import finite


def direction(run: Finished) -> str:
    """Heatmaps of the candidate directions."""
    found = run.artifact("direction")
    drawn = page.figure(plots.direction(found), "Scores by layer and position") if found else ""
    if found is None:
        return ""
    chosen = ", ".join(
        f"{name.replace('_', ' ')} {page.text_of(found[name])}"
        for name in ("layer", "position", "coefficient", "steer", "criterion", "norm_ratio")
        if found.get(name) is not None
    )
    tried = found.get("candidates") or []
    passed = sum(bool(c.get("passed")) for c in tried)
    text = (
        f"Chosen: {chosen}. Of {len(tried)} candidates {passed} passed. A cell shows its best "
        "coefficient; the frame marks the chosen one; positions count back from the end of the "
        "prompt template; blank cells were not scored."
    )
    return page.paragraph(text) + drawn


def tokens(run: Finished) -> str:
    """The safety-token set and the probability mass on it."""
    found, mass = run.artifact("token_set"), run.artifact("mass")
    parts = []
    if found:
        setting = ", ".join(
            f"{k} {page.text_of(found[k])}"
            for k in ("size", "top", "horizon", "floor", "rollout")
            if found.get(k) is not None
        )
        kind = str(found.get("kind", "votes"))
        origin = "voted for by rollouts" if kind == "votes" else f"a control, {kind} tokens"
        text = f"The set S the loss acts on, {origin} ({setting})."
        parts = [page.paragraph(text), page.figure(plots.tokens(found), "Votes per safety token")]
    if mass:
        parts.append(_mass(mass))
    return "".join(parts)


def _mass(mass: Mapping[str, Any]) -> str:
    """Probability mass on S per arm; the tick marks where the loss's fixed point would put it."""
    found = {p: finite(mass.get(f"{p}predicted")) for p in ("", "wrapped_")}
    # Runs of before the wrapped ones had a fixed point of their own: it was the same for both.
    aims = {p: found[""] if aim is None else aim for p, aim in found.items()}
    blocks = {prefix: _bars(mass, prefix, aim) for prefix, aim in aims.items()}
    if not any(blocks.values()):
        return ""
    text = "Probability that the first answer token is in S. "
    shown = list(dict.fromkeys(f"{aim:.3f}" for p, aim in aims.items() if aim and blocks[p]))
    if shown:
        text += f"The loss is least at student / teacher = {' and '.join(shown)} (tick). "
    text += (
        "The paper's partial loss with reverse KL has its least value at "
        f"1/e = {1 / math.e:.3f}; with forward KL it is least with all probability on S."
    )
    inner = "".join(f"<div>{block}</div>" for block in blocks.values() if block)
    return (
        f"<h3>Mass on S</h3>{page.paragraph(text)}"
        f'<div class="card"><div class="facts">{inner}</div></div>'
    )


def _bars(mass: Mapping[str, Any], prefix: str, predicted: float | None) -> str:
    """Bars of base, teacher and student for one prompt set, or "" if it was not measured."""
    values = {k: finite(mass.get(prefix + k)) for k in ("base", "teacher", "student")}
    known = {k: v for k, v in values.items() if v is not None}
    if len(known) < 3:
        return ""
    aim = known["teacher"] * predicted if predicted is not None else None
    top = max(*known.values(), aim or 0.0, 1e-9)
    rows = []
    for name, value in known.items():
        tick = ""
        if name == "student" and aim is not None:
            tick = f'<span class="tick" style="left:{96 * aim / top:.1f}%"></span>'
        rows.append(
            f'<span>{name}</span><span class="rail"><span class="bar {name}" style="width:'
            f'{96 * value / top:.1f}%"></span>{tick}</span><span>{value:.3f}</span>'
        )
    ratio = known["student"] / max(known["teacher"], 1e-12)
    heading = "wrapped attacks" if prefix else "plain harmful requests"
    return (
        f'<p class="note">{heading}: student / teacher = {ratio:.3f}</p>'
        f'<div class="mass">{"".join(rows)}</div>'
    )


def kl(run: Finished) -> str:
    """KL from the base by answer position."""
    found = run.artifact("position_kl")
    drawn = page.figure(plots.position_kl(found), "KL by response position") if found else ""
    if not drawn or found is None:
        return ""
    n = f" Mean over {found['n']} answers." if finite(found.get("n")) else ""
    text = (
        "How far the student's next-token distribution is from the base's, at each token of the "
        f"base's own answers to harmless prompts.{n}"
    )
    return page.paragraph(text) + drawn


SECTIONS = (
    Section("direction", "The refusal direction", direction, file="artifacts/direction.json"),
    Section("tokens", "The safety tokens", tokens, "direction", "artifacts/token_set.json"),
    Section(
        "kl",
        "Distance from the base by position",
        kl,
        after="training",
        file="artifacts/position_kl.json",
    ),
)

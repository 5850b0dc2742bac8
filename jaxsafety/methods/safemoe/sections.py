"""Sections of `report.html` about a mixture of experts: its arms side by side, and its routing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jaxsafety.methods.published import section
from jaxsafety.methods.safemoe import published
from jaxsafety.protocols import Finished, Section
from jaxsafety.report import page, plots
from jaxsafety.report.load import finite
from jaxsafety.report.plots import LINES, STYLE

TEMPLATES = Path(__file__).with_name("templates")
SPLITS = {
    "seen_trained": "safe answers",
    "seen_held": "neighbours",
    "unseen": "none",
    "neither": "nobody knows",
    "known": "base knows",
}
# What a route tells of a prompt, as `topics.told` names it.
TOLD = {
    "topic": "domain",
    "harm": "harmful or not",
    "harm_given_topic": "harmful or not, within a domain",
}
WHOSE = "domain of the request"
NAMES = {"base": "base", "safemoe": "the mixture", "uniform": "equal shares"}


def arms(run: Finished) -> str:
    """Safe, and safe and informative, per role of the domains; harmless requests beside them."""
    found = run.artifact("compared") or run.artifacts("point.")  # of a method, or of its controls
    points = {k: v for k, v in (found or {}).items() if isinstance(v, Mapping)}
    if not points:
        return ""
    told, behind = [], run.artifacts("prompts.")
    for arm, point in points.items():
        safe, own = [], behind.get(arm, {}).get("intervals") or {}
        for split in SPLITS:
            both = [finite(point.get(f"{split}.{m}.greedy")) for m in ("safe", "safe_informative")]
            safe.append(None if None in both else [100 * (x or 0.0) for x in both])
        keys = ("seen_trained.asr.greedy", "over_refusal.correct.greedy", "capability")
        others = [finite(point.get(key)) for key in keys]
        told.append(
            {
                "name": NAMES.get(arm, re.sub(r"^single(?=\d)", "only expert ", arm)),
                "safe": safe,
                "ranges": [_range(own.get(f"{split}.safe_informative.greedy")) for split in SPLITS],
                "other_ranges": [_range(own.get(key)) for key in keys],
                "others": [None if value is None else 100 * value for value in others],
            }
        )
    ranged = any(x for arm in told for x in (*arm["ranges"], *arm["other_ranges"]))
    return page.fill(TEMPLATES, "arms.html", splits=SPLITS.values(), arms=told, ranged=ranged)


def _range(ends: Any) -> list[float] | None:
    """An interval in %, None where the artifact has none."""
    if not isinstance(ends, list) or len(ends) != 2 or None in map(finite, ends):
        return None
    return [100 * (finite(x) or 0.0) for x in ends]


def routing(run: Finished) -> str:
    """Heatmaps of which expert serves which domain, layer by layer, and curves over the layers."""
    name = "routes" if run.artifact("routes") else "routes.safemoe"  # of a method, of its controls
    found = {**(run.artifact(name) or {}), **run.arrays(name)}
    if "by_domain" not in found:
        return ""
    information, chance = np.asarray(found["information"]), np.asarray(found["chance"])
    start = run.arrays("routes.untrained")  # a study may have it
    tables = [table for table in (topics("", found), topics("untrained", start)) if table]
    return page.fill(
        TEMPLATES,
        "routing.html",
        tokens=found.get("tokens", 0),
        above=int((information > chance).sum()),
        layers=len(information),
        compared=found.get("compared"),
        tables=tables,
        told=tuple(TOLD.values()),
        heatmaps=plots.twice(_heatmaps, found),
        curves=plots.twice(_curves, found),
    )


def topics(name: str, found: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a router's routes tell of topic and harm, (nats, chance) by layer; None if unknown."""
    if not all(key in found and f"{key}_chance" in found for key in TOLD):
        return None
    pairs = [zip(found[key], found[f"{key}_chance"], strict=True) for key in TOLD]
    rows = [[(float(x), float(c)) for x, c in row] for row in zip(*pairs, strict=True)]
    return {"name": name, "rows": rows}


def _heatmaps(found: Mapping[str, Any], *, narrow: bool = False) -> str:
    grid = np.asarray(found["by_domain"])  # [L,G,E]
    layers, groups, count = grid.shape
    columns = min(2 if narrow else 6, layers)
    rows = -(-layers // columns)
    with matplotlib.rc_context(STYLE):
        size = (1.35 * columns + 0.6, (0.5 + 0.17 * groups) * rows + 0.5)
        fig = Figure(size, layout="constrained")
        axes = fig.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for layer, ax in enumerate(axes):
            if layer >= layers:
                ax.set_visible(False)
                continue
            ax.imshow(grid[layer], cmap="PuBu", vmin=0, vmax=1, aspect="auto")
            ax.set_title(f"layer {layer}")
            ax.set_xticks(range(count), [str(e) for e in range(count)])
            ax.spines[:].set_visible(False)
        axes[0].set_yticks(range(groups), [str(d) for d in found.get("domains", range(groups))])
        if narrow:  # one of its rows is too low for these words
            fig.supylabel(WHOSE, size=9)
        else:
            axes[0].set_ylabel(WHOSE)
        fig.supxlabel("expert", size=9)
        return plots.svg(fig)


def _curves(found: Mapping[str, Any], *, narrow: bool = False) -> str:
    layers = np.arange(len(found["entropy"]))
    usage = np.asarray(found["usage"])
    panels = {
        "entropy of a token's mixture, nats": {"": found["entropy"]},
        "information on the domain, nats": {
            "measured": found["information"],
            "by chance": found["chance"],
        },
        "mean weight per expert": {str(e): usage[:, e] for e in range(usage.shape[1])},
    }
    with matplotlib.rc_context(STYLE):
        fig = Figure((plots.WIDTH, 6.6) if narrow else (8.6, 2.4), layout="constrained")
        axes = fig.subplots(*((3, 1) if narrow else (1, 3)))
        for ax, (name, lines) in zip(axes, panels.items(), strict=True):
            for color, (label, values) in zip(LINES * 4, lines.items(), strict=False):
                ax.plot(layers, values, "o-", color=color, lw=1.5, ms=3, label=label)
            if len(lines) > 1:
                ax.legend(frameon=False, fontsize=8, ncols=2)
            ax.set_title(name)
            ax.set_xlabel("layer")
            ax.set_ylim(0, None)
            ax.grid(axis="y")
        return plots.svg(fig)


SECTIONS = (
    Section("arms", "Experts, alone and routed", arms, after="capability"),
    Section("routing", "Which expert serves what", routing, after="arms"),
    section("safemoe", published.differences),
)

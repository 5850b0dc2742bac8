"""Pictures of SafeSteer's inside: the map of candidate directions, safety tokens, KL by position.

Each is SVG text, wide or as narrow as a phone, or None where there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxsafety.report import plots
from jaxsafety.report.load import finite
from jaxsafety.report.plots import INK, LINES, MUTED, STYLE, WIDTH

FRAME = "#f0a532"  # of the chosen cell
MOST_TOKENS = 24

# direction.json field -> panel title; "bypass" and "steering" are next-token log-odds of refusing
MAPS = {
    "score": "what decided: score",
    "steering": "added: refusal of harmless",
    "bypass": "removed: refusal of harmful",
}


def direction(found: Mapping[str, Any], *, narrow: bool = False) -> str | None:
    """Layer-by-position maps of the candidate directions, the chosen cell framed."""
    cells = _best_per_cell(found)
    layers = sorted({layer for layer, _ in cells})
    positions = sorted({position for _, position in cells})
    maps = {}
    for field, name in MAPS.items():
        grid = np.full((len(positions), len(layers)), np.nan)
        for (layer, position), c in cells.items():
            value = finite(c.get(field))
            if value is not None:
                grid[positions.index(position), layers.index(layer)] = value
        if np.isfinite(grid).any():
            maps[name] = grid
    if not maps:
        return None
    chosen = (found.get("layer"), found.get("position"))
    with matplotlib.rc_context(STYLE):
        height = 0.95 + 0.32 * max(3, len(positions))
        size = (WIDTH, height * len(maps)) if narrow else (2.87 * len(maps), height)
        fig = Figure(size, layout="constrained")
        grid_of = (len(maps), 1) if narrow else (1, len(maps))
        axes = fig.subplots(*grid_of, sharey=True, squeeze=False).ravel()
        for ax, (name, grid) in zip(axes, maps.items(), strict=True):
            name_of_map = "OrRd" if "removed" in name else "PuBu"
            palette = matplotlib.colormaps[name_of_map].with_extremes(bad="#f3f1ec")
            image = ax.imshow(grid, cmap=palette, aspect="auto", interpolation="nearest")
            if grid.size <= 90:
                _numbers(ax, grid, image)
            if chosen[0] in layers and chosen[1] in positions:
                x, y = layers.index(chosen[0]), positions.index(chosen[1])
                ax.add_patch(
                    Rectangle(
                        (x - 0.5, y - 0.5),
                        1,
                        1,
                        fill=False,
                        ec=FRAME,
                        lw=2.6,
                        zorder=5,
                        clip_on=False,
                    )
                )
            ax.set_title(name)
            ax.set_xlabel("layer")
            ax.spines[:].set_visible(False)
            step = max(1, len(layers) // 8)
            ax.set_xticks(range(0, len(layers), step), [str(x) for x in layers[::step]])
        axes[0].set_yticks(range(len(positions)), [str(p) for p in positions])
        for ax in axes if narrow else axes[:1]:
            ax.set_ylabel("position")
        return plots.svg(fig)


def _best_per_cell(found: Mapping[str, Any]) -> dict[tuple[Any, Any], Mapping[str, Any]]:
    """One candidate per (layer, position): the chosen coefficient's, else the best that passed."""
    cells: dict[tuple[Any, Any], Mapping[str, Any]] = {}
    ranks: dict[tuple[Any, Any], tuple] = {}
    for c in found.get("candidates") or []:
        key = (c.get("layer"), c.get("position"))
        if None in key:
            continue
        here = key == (found.get("layer"), found.get("position"))
        score = finite(c.get("score"))
        rank = (
            here and c.get("coefficient") == found.get("coefficient"),
            bool(c.get("passed")),
            score if score is not None else -np.inf,
        )
        if key not in cells or rank > ranks[key]:
            cells[key], ranks[key] = c, rank
    return cells


def _numbers(ax: Any, grid: np.ndarray, image: Any) -> None:
    """Prints each cell's value in a readable shade."""
    for (y, x), value in np.ndenumerate(grid):
        if np.isfinite(value):
            dark = image.norm(value) > 0.6
            ax.text(
                x,
                y,
                f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}".replace("0.", "."),
                ha="center",
                va="center",
                size=7.5,
                color="white" if dark else INK,
            )


def tokens(found: Mapping[str, Any], *, narrow: bool = False) -> str | None:
    """Safety tokens: votes, and how much likelier the teacher makes each (mean log-ratio)."""
    labels = [str(t) for t in found.get("tokens") or []][:MOST_TOKENS]
    votes = [finite(v) or 0.0 for v in found.get("votes") or []][: len(labels)]
    ratios = [finite(v) or 0.0 for v in found.get("mean_log_ratio") or []][: len(labels)]
    if not labels or len(votes) != len(labels):
        return None
    parts = [("votes", votes, LINES[0])]
    if len(ratios) == len(labels):
        parts.append(("mean log-ratio, teacher over base", ratios, LINES[2]))
    with matplotlib.rc_context(STYLE):
        height = 0.55 + 0.235 * len(labels) + 0.2 * narrow
        fig = Figure((WIDTH if narrow else 8.6, height), layout="constrained")
        axes = np.atleast_1d(np.array(fig.subplots(1, len(parts), sharey=True)))
        for ax, (name, values, color) in zip(axes, parts, strict=True):
            ax.barh(range(len(values)), values, 0.68, color=color)
            for y, value in enumerate(values):
                text = f"{value:,.0f}" if name == "votes" else f"{value:.2f}"
                spot = (max(value, 0), y)
                ax.annotate(
                    text,
                    spot,
                    (4, 0),
                    textcoords="offset points",
                    va="center_baseline",
                    size=8,
                    color=MUTED,
                )
            ax.set_title(name.replace(" over", "\nover") if narrow else name)
            ax.set_xlim(right=(1.4 if narrow else 1.14) * max(0.0, *values) or 1)
            ax.set_xticks([])
            ax.spines[["bottom"]].set_visible(False)
        names = [repr(t)[1:-1] if t.strip() else repr(t) for t in labels]
        most = 14 if narrow else 60
        axes[0].set_yticks(range(len(labels)), [plots.shorten(name, most) for name in names])
        axes[0].tick_params(axis="y", colors=INK)
        axes[0].set_ylim(len(labels) - 0.4, -0.6)
        return plots.svg(fig)


def position_kl(found: Mapping[str, Any], *, narrow: bool = False) -> str | None:
    """KL of the student from the base at each response position."""
    x = found.get("positions") or []
    lines = (("all tokens", found.get("kl")), ("outside S", found.get("kl_off_subset")))
    lines = [(name, y) for name, y in lines if y and len(y) == len(x)]
    if not lines:
        return None
    with matplotlib.rc_context(STYLE):
        fig = Figure((WIDTH if narrow else 8.6, 2.6), layout="constrained")
        ax = fig.subplots()
        for color, (name, y) in zip(LINES, lines, strict=False):
            ax.plot(
                x,
                [float("nan") if finite(v) is None else v for v in y],
                "o-",
                color=color,
                lw=1.6,
                ms=3.2,
                label=name,
            )
        ax.fill_between(
            x, [finite(v) or 0.0 for v in lines[0][1]], color=LINES[0], alpha=0.08, lw=0
        )
        ax.set(ylim=(0, None), xlabel="response token", ylabel="KL(base || student), nats")
        ax.grid(axis="y")
        if len(lines) > 1:
            ax.legend(frameon=False, labelcolor=MUTED)
        return plots.svg(fig)

"""Figures of a run as SVG text: outcomes, training curves, direction map, safety tokens, KL.

Drawn with plain matplotlib figure objects (no pyplot state, no display). Text stays text, in the
reader's own font. Every function returns an SVG string, or None when there is nothing to draw.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from jaxsafety.report.load import Run, finite

INK, MUTED, GRID, FRAME = "#22262b", "#6b7178", "#e4e2dc", "#f0a532"
COLORS = {
    "unsafe": "#c8503f",
    "safe_answer": "#2f8f7f",
    "refusal": "#86a8cf",
    "incoherent": "#cfcac0",
}
MOST = 24  # stages whose curves are drawn
LINES = ("#2b5f9e", "#c8503f", "#2f8f7f", "#b0812f", "#7a5ba6", "#6b7178")
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxsafety",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": "#b9b6ae",
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.parse_math": False,  # a token may hold a dollar sign
}
FONTS = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, DejaVu Sans, sans-serif"
# What a reader asks of training first; other logged numbers follow while there is room.
CURVES = ("loss", "val/loss", "mass", "kl", "grad_norm", "entropy", "refusal", "length", "lr")
MOST_CURVES, MOST_TOKENS = 6, 24


def outcomes(run: Run, decoding: str) -> str | None:
    """Stacked bars of the four outcomes per safety benchmark, before above after."""
    arms = [a for a in (run.before, run.after) if a]
    names = [b for b in run.benchmarks("safety") if run.row(b, "safety", "asr", decoding)]
    keys = dict(zip(COLORS, ("asr", "safe_answer", "refusal", "incoherent"), strict=True))
    bars = []
    for index, name in enumerate(names):
        for offset, arm in enumerate(arms):
            found = {k: run.estimate(arm, name, f"{m}.{decoding}") for k, m in keys.items()}
            shares = {k: e.value for k, e in found.items() if e}
            if len(shares) == len(keys):
                bars.append((1.0 * index + 0.36 * offset, arm, shares))
    if not bars:
        return None
    with matplotlib.rc_context(STYLE):
        fig = Figure((8.6, 0.9 + 0.5 * len(names)), layout="constrained")
        ax = fig.subplots()
        for y, arm, shares in bars:
            left = 0.0
            for key, share in shares.items():
                ax.barh(y, 100 * share, 0.31, 100 * left, color=COLORS[key])
                if share > 0.045:
                    shade = "white" if key in ("unsafe", "safe_answer") else INK
                    middle = 100 * (left + share / 2)
                    ax.text(
                        middle,
                        y,
                        f"{100 * share:.0f}",
                        color=shade,
                        size=8,
                        ha="center",
                        va="center_baseline",
                    )
                left += share
            ax.text(101, y, arm, color=MUTED, size=8, va="center_baseline")
        middle = 0.18 * (len(arms) - 1)
        ax.set_yticks([i + middle for i in range(len(names))], [run.title(n) for n in names])
        ax.tick_params(axis="y", colors=INK)
        ax.set(xlim=(0, 109), ylim=(len(names) - 0.45, -0.4))
        ax.set_xticks(range(0, 101, 20), [f"{x} %" for x in range(0, 101, 20)])
        ax.spines[["left", "bottom"]].set_visible(False)
        patches = [Rectangle((0, 0), 1, 1, color=COLORS[k]) for k in run.words.outcomes]
        labels = list(run.words.outcomes.values())
        fig.legend(
            patches,
            labels,
            loc="outside upper center",
            ncols=4,
            frameon=False,
            handlelength=1,
            handleheight=1,
        )
        return svg(fig)


def curves(metrics: Sequence[Mapping[str, Any]]) -> str | None:
    """Small multiples of the training log; one line per stage, mass measures share a panel.

    Where stages are many (the controls of a method) they share one legend below.
    """
    panels = _panels(metrics)
    if not panels:
        return None
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    labels = list(dict.fromkeys(label for series in panels.values() for label in series))
    many = len(labels) > 2 * len(LINES)
    below = 0.17 * -(-len(labels) // 5) if many else 0.0
    shades = matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, len(labels)))
    colors = dict(zip(labels, shades, strict=True))
    with matplotlib.rc_context(STYLE):
        fig = Figure((2.87 * columns, 0.25 + 2.0 * rows + below), layout="constrained")
        axes = fig.subplots(rows, columns, squeeze=False).ravel()
        for ax, (name, series) in zip(axes, panels.items(), strict=False):
            for place, (label, (steps, values)) in enumerate(series.items()):
                color = colors[label] if many else LINES[place % len(LINES)]
                width = 1.6 if len(values) < 300 else 0.8
                ax.plot(steps, values, color=color, lw=width, label=label)
                if len(values) < 3:
                    ax.plot(steps, values, "o", color=color, ms=4)
            if len(series) > 1 and not many:
                ax.legend(frameon=False, fontsize=8, labelcolor=MUTED)
            ax.set_title(name)
            ax.grid(axis="y")
            ax.margins(y=0.12)
            ax.locator_params(nbins=5)
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        fig.supxlabel("step", size=9, color=MUTED)
        if many:
            handles = [Line2D([], [], color=colors[label], lw=1.6) for label in labels]
            fig.legend(
                handles,
                labels,
                loc="outside lower center",
                ncols=min(5, 2 * columns),
                frameon=False,
                fontsize=7.5,
                labelcolor=MUTED,
            )
        return svg(fig)


def shown(stages: Sequence[str]) -> list[str]:
    """The stages that are drawn: where there are too many, not those of the largest families.

    A family is what a name begins with before its first dot; the last one always stays.
    """
    left = list(stages)
    while len(left) > MOST:
        sizes = Counter(stage.partition(".")[0] for stage in left)
        largest = max(sizes, key=lambda name: sizes[name])
        if len(sizes) == 1 or sizes[largest] < MOST // 2:  # many names are not one name's many
            break
        left = [stage for stage in left if stage.partition(".")[0] != largest]
    return left


def _panels(metrics: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, tuple[list, list]]]:
    """Panel -> line -> (steps, values), the most telling panels first."""
    hidden = ("stage", "step", "time", "nonfinite")
    names = dict.fromkeys(k for row in metrics for k in row if k not in hidden)
    stages = shown(list(dict.fromkeys(str(row.get("stage", "")) for row in metrics)))
    panels: dict[str, dict[str, tuple[list, list]]] = {}
    for name in names:
        for stage in stages:
            points = [
                (row.get("step", 0), finite(row.get(name)))
                for row in metrics
                if str(row.get("stage", "")) == stage
            ]
            points = [(x, y) for x, y in points if y is not None]
            if not points:
                continue
            panel = "mass on S" if "mass" in name.lower() else name.replace("_", " ")
            label = stage if panel != "mass on S" else re.sub(r"[_/ ]*mass[_/ ]*", "", name)
            if panel == "mass on S" and len(stages) > 1:
                label = f"{stage}: {label}"
            steps, values = [x for x, _ in points], [y for _, y in points]
            panels.setdefault(panel, {})[label] = (steps, values)

    def rank(panel: str) -> int:
        key = panel.lower().replace(" ", "_")
        return next((i for i, c in enumerate(CURVES) if key.startswith(c)), len(CURVES))

    chosen = [p for p in sorted(panels, key=rank) if _moves(panels[p]) or rank(p) == 0]
    return {p: panels[p] for p in chosen[:MOST_CURVES]}


def _moves(series: Mapping[str, tuple[list, list]]) -> bool:
    """A constant says nothing as a curve."""
    return any(min(y) != max(y) for _, y in series.values())


# direction.json field -> panel title; "bypass" and "steering" are next-token log-odds of refusing
MAPS = {
    "score": "what decided: score",
    "steering": "added: refusal of harmless",
    "bypass": "removed: refusal of harmful",
}


def direction(found: Mapping[str, Any]) -> str | None:
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
        fig = Figure((2.87 * len(maps), 0.95 + 0.32 * max(3, len(positions))), layout="constrained")
        axes = np.atleast_1d(np.array(fig.subplots(1, len(maps), sharey=True)))
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
        axes[0].set_ylabel("position")
        return svg(fig)


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


def tokens(found: Mapping[str, Any]) -> str | None:
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
        fig = Figure((8.6, 0.55 + 0.235 * len(labels)), layout="constrained")
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
            ax.set_title(name)
            ax.set_xlim(right=1.14 * max(0.0, *values) or 1)
            ax.set_xticks([])
            ax.spines[["bottom"]].set_visible(False)
        axes[0].set_yticks(
            range(len(labels)), [repr(t)[1:-1] if t.strip() else repr(t) for t in labels]
        )
        axes[0].tick_params(axis="y", colors=INK)
        axes[0].set_ylim(len(labels) - 0.4, -0.6)
        return svg(fig)


def position_kl(found: Mapping[str, Any]) -> str | None:
    """KL of the student from the base at each response position."""
    x = found.get("positions") or []
    lines = (("all tokens", found.get("kl")), ("outside S", found.get("kl_off_subset")))
    lines = [(name, y) for name, y in lines if y and len(y) == len(x)]
    if not lines:
        return None
    with matplotlib.rc_context(STYLE):
        fig = Figure((8.6, 2.6), layout="constrained")
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
        return svg(fig)


def svg(fig: Figure) -> str:
    """The figure as SVG text in the page's font, the same bytes for the same data."""
    out = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    fig.savefig(out, format="svg", transparent=True, metadata=nothing)
    return out.getvalue().replace("'DejaVu Sans'", FONTS)

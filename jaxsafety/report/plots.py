"""Figures of a run as SVG text: outcomes and training curves; how all pictures look.

Drawn with plain matplotlib figure objects (no pyplot state, no display). Text stays text, in the
reader's own font. Every function returns an SVG string, or None when there is nothing to draw.
A page holds a wide picture and one for phones (`Drawn`), and shows the one that fits.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jaxsafety.report.load import Run, finite

INK, MUTED, GRID = "#22262b", "#6b7178", "#e4e2dc"
WIDTH = 3.4  # inches: 326 pixels, about what a phone of 390 shows in a card
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
MOST_CURVES = 6
MOST_NAMES = 60  # of a legend; nobody tells more colours apart


class Drawn(NamedTuple):
    """One picture, wide and as narrow as a phone."""

    wide: str
    narrow: str


def twice(draw: Callable[..., str | None], *args: Any) -> Drawn | None:
    """Wide, and with `narrow=True`; None where there is nothing to draw."""
    wide, narrow = draw(*args), draw(*args, narrow=True)
    return None if wide is None or narrow is None else Drawn(wide, narrow)


def shares(run: Run, decoding: str) -> dict[str, dict[str, dict[str, float]]]:
    """Safety benchmark -> arm -> share of each outcome, where all of them are known."""
    keys = dict(zip(COLORS, ("asr", "safe_answer", "refusal", "incoherent"), strict=True))
    told: dict[str, dict[str, dict[str, float]]] = {}
    for name in run.benchmarks("safety"):
        if run.row(name, "safety", "asr", decoding) is None:
            continue
        told[name] = {}
        for arm in (run.before, run.after):
            found = {k: run.estimate(arm, name, f"{m}.{decoding}") for k, m in keys.items()}
            known = {k: e.value for k, e in found.items() if e}
            if arm and len(known) == len(keys):
                told[name][arm] = known
    return told


def outcomes(run: Run, decoding: str) -> str | None:
    """Stacked bars of the four outcomes per safety benchmark, before above after."""
    arms, told = [a for a in (run.before, run.after) if a], shares(run, decoding)
    names = list(told)
    bars = [
        (1.0 * index + 0.36 * arms.index(arm), arm, known)
        for index, name in enumerate(names)
        for arm, known in told[name].items()
    ]
    if not bars:
        return None
    with matplotlib.rc_context(STYLE):
        fig = Figure((8.6, 0.9 + 0.5 * len(names)), layout="constrained")
        ax = fig.subplots()
        for y, arm, known in bars:
            left = 0.0
            for key, share in known.items():
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


def curves(metrics: Sequence[Mapping[str, Any]], *, narrow: bool = False) -> str | None:
    """Small multiples of the training log; one line per stage, mass measures share a panel.

    Where stages are many (the controls of a method) they share one legend below; of more than it
    has room for it names the first, the middle and the last.
    """
    panels = _panels(metrics)
    if not panels:
        return None
    columns = 1 if narrow else min(3, len(panels))
    rows = -(-len(panels) // columns)
    labels = list(dict.fromkeys(label for series in panels.values() for label in series))
    many = len(labels) > 2 * len(LINES)
    named = {label: label for label in labels}
    if len(labels) > MOST_NAMES:
        first, middle, last = labels[0], labels[len(labels) // 2], labels[-1]
        named = {first: f"{first}, first of {len(labels)}", middle: middle, last: f"{last}, last"}
    across = min(3 if narrow else 5, len(named), 2 * columns + narrow)
    below = 0.17 * -(-len(named) // across) if many else 0.0
    shades = matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, len(labels)))
    colors = dict(zip(labels, shades, strict=True))
    with matplotlib.rc_context(STYLE):
        size = (WIDTH, 0.25 + 1.6 * rows) if narrow else (2.87 * columns, 0.25 + 2.0 * rows)
        fig = Figure((size[0], size[1] + below), layout="constrained")
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
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        fig.supxlabel("step", size=9, color=MUTED)
        if many:
            handles = [Line2D([], [], color=colors[label], lw=1.6) for label in named]
            fig.legend(
                handles,
                list(named.values()),
                loc="outside lower center",
                ncols=across,
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


def shorten(text: str, most: int) -> str:
    """The text, or its beginning with an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def svg(fig: Figure) -> str:
    """The figure as SVG text in the page's font, the same bytes for the same data."""
    out = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    fig.savefig(out, format="svg", transparent=True, metadata=nothing)
    return out.getvalue().replace("'DejaVu Sans'", FONTS)

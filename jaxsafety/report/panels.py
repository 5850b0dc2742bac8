"""Small pictures for a grid of panels: as wide as a phone, each with its own legend inside.

A page sets several beside each other, or one below the other (`templates/macros.html`, `panel`).
They are drawn from plain rows and know nothing of runs; each is SVG text, or None where there is
nothing to draw. Shares lie in 0..1 and are drawn in %. Pinned by tests/report/test_panels.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jaxsafety.report import plots
from jaxsafety.report.plots import COLORS, GRID, INK, LINES, MUTED, STYLE, WIDTH, shorten

SHAPES = "osD^vP"
NARROW = 0.2  # of an axis of shares: noise should not fill a picture
_LEGEND = 0.165  # inches a line
TRAIL = "#dcd5c3"
_WIDE = 20  # characters of a label beside which no other fits


class Spot(NamedTuple):
    """A mark of a plane: across, and up from `lo` to `hi`, each (value, low, high) or None."""

    name: str
    across: tuple[float, float | None, float | None]
    lo: tuple[float, float | None, float | None]
    hi: tuple[float, float | None, float | None]
    hollow: bool = False


class Line(NamedTuple):
    """A curve; `marks` are the places (x, y) on it that stand out."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    marks: Sequence[tuple[float, float]] = ()


class Stack(NamedTuple):
    """A stacked bar: what shares it has, and of how many."""

    name: str
    shares: Mapping[str, float]
    n: int


def looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each name, the same wherever the same names are drawn."""
    found = list(dict.fromkeys(names))
    pairs = ((color, shape) for shape in SHAPES for color in LINES)
    return dict(zip(found, itertools.cycle(pairs), strict=False))


def plane(
    spots: Sequence[Spot],
    look: Mapping[str, tuple[str, str]],
    labels: tuple[str, str],
    *,
    title: str = "",
    goal: float | None = None,
    level: tuple[float, float] | None = None,
    limits: tuple[float, float] | None = None,
    heights: tuple[float, float] | None = None,
    path: Sequence[tuple[float, float]] = (),
) -> str | None:
    """Marks with a bar from `lo` to `hi` and thin intervals.

    Args:
      spots: one per name; a hollow one has an empty mark.
      look: of `looks`.
      labels: of both axes.
      title: of the panel.
      goal: across, a dashed line.
      level: up, a grey band from and to: where everything began.
      limits: of the axis across, in 0..1; panels beside each other share them.
      heights: of the axis up, likewise; at least `NARROW` of it are shown.
      path: a broad pale line through these places, behind the marks.
    """
    if not spots:
        return None
    lines = _legend_lines([spot.name for spot in spots])
    with matplotlib.rc_context(STYLE):
        fig = Figure((WIDTH, 3.0 + _LEGEND * lines), layout="constrained")
        ax = fig.subplots()
        if level is not None:
            low, high = (100 * x for x in level)
            ax.axhspan(low, max(high, low + 0.4), color=GRID, alpha=0.8, lw=0)
        if goal is not None:
            ax.axvline(100 * goal, color=MUTED, lw=1, ls=(0, (4, 3)))
        if path:
            line = zip(*((100 * x, 100 * y) for x, y in path), strict=True)
            ax.plot(*line, color=TRAIL, lw=4, solid_joinstyle="round")
        for spot in spots:
            color, shape = look[spot.name]
            x, low, high = 100 * spot.across[0], 100 * spot.lo[0], 100 * spot.hi[0]
            ax.plot([x, x], [low, high], color=color, lw=4.5, alpha=0.35, solid_capstyle="butt")
            ends = (spot.lo[1], spot.hi[2])
            if None not in ends:
                ax.plot([x, x], [100 * (e or 0.0) for e in ends], color=color, lw=0.9)
            if None not in spot.across:
                wide = [100 * (e or 0.0) for e in spot.across[1:]]
                ax.plot(wide, [high, high], color=color, lw=0.9)
            face = "white" if spot.hollow else color
            ax.plot(x, high, shape, color=color, mfc=face, ms=6.5, mew=1.3)
        _shares(ax)
        if limits is not None:
            ax.set_xlim(*_room(limits))
        ax.set(xlabel=labels[0], ylabel=labels[1], ylim=_room(heights or (0, 1)), title=title)
        ax.grid()
        ax.set_axisbelow(True)
        _legend(fig, [(s.name, *look[s.name], s.hollow) for s in spots], lines)
        return plots.svg(fig)


def stairs(
    steps: Sequence[Line],
    look: Mapping[str, tuple[str, str]],
    labels: tuple[str, str],
    *,
    title: str = "",
    goal: float | None = None,
) -> str | None:
    """Step functions F(c) from their corners: F is a corner's y up to its own x."""
    steps = [line for line in steps if len(line.x)]
    if not steps:
        return None
    lines = _legend_lines([line.name for line in steps])
    with matplotlib.rc_context(STYLE):
        fig = Figure((WIDTH, 2.8 + _LEGEND * lines), layout="constrained")
        ax = fig.subplots()
        left = min(min(line.x) for line in steps)
        if goal is not None:
            ax.axvline(100 * goal, color=MUTED, lw=1, ls=(0, (4, 3)))
        for line in steps:
            color, shape = look[line.name]
            x, y = [100 * v for v in (left, *line.x)], [100 * v for v in (line.y[0], *line.y)]
            ax.plot(x, y, color=color, lw=1.5, drawstyle="steps-pre", alpha=0.8)
            ax.plot(x[1:], y[1:], shape, color=color, ms=5)
        _shares(ax)
        ax.set(xlabel=labels[0], ylabel=labels[1], ylim=(-3, 103), title=title)
        ax.grid()
        ax.set_axisbelow(True)
        _legend(fig, [(line.name, *look[line.name], False) for line in steps], lines)
        return plots.svg(fig)


def learning(
    curves: Sequence[Line],
    look: Mapping[str, tuple[str, str]],
    labels: tuple[str, str],
    *,
    title: str = "",
    goal: float | None = None,
    start: float | None = None,
) -> str | None:
    """Curves over steps, several of one name alike; dashed the goal, dotted the start."""
    if not curves:
        return None
    names = list(dict.fromkeys(line.name for line in curves))
    lines = _legend_lines(names)
    with matplotlib.rc_context(STYLE):
        fig = Figure((WIDTH, 2.7 + _LEGEND * lines), layout="constrained")
        ax = fig.subplots()
        if goal is not None:
            ax.axhline(100 * goal, color=INK, lw=1, ls=(0, (4, 3)))
        if start is not None:
            ax.axhline(100 * start, color=MUTED, lw=1, ls=(0, (1, 2)))
        for line in curves:
            color, shape = look[line.name]
            ax.plot(line.x, [100 * v for v in line.y], color=color, lw=1.2, alpha=0.75)
            for x, y in line.marks:
                ax.plot(x, 100 * y, shape, color=color, ms=7, mec="white", mew=1)
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.set(xlabel=labels[0], ylabel=labels[1], ylim=(-3, 103), title=title)
        ax.grid(axis="y")
        _legend(fig, [(name, *look[name], False) for name in names], lines)
        return plots.svg(fig)


def stacks(
    groups: Mapping[str, Sequence[Stack]], words: Mapping[str, str], *, title: str = ""
) -> str | None:
    """Stacked bars of outcomes, group by group.

    Args:
      groups: heading -> bars; shares have the keys of `words`, and what is missing of 1 is blank.
      words: outcome (of `plots.COLORS`) -> label.
      title: of the panel.
    """
    rows = [(group, bar) for group, bars in groups.items() for bar in bars]
    if not rows:
        return None
    lines = math.ceil(len(words) / 2)
    height = 0.6 + 0.19 * len(rows) + 0.24 * len(groups) + _LEGEND * lines
    with matplotlib.rc_context(STYLE):
        fig = Figure((WIDTH, height), layout="constrained")
        ax = fig.subplots()
        y, last, ticks, names = 0.0, "", [], []
        for group, bar in rows:
            if group != last:
                y += 1.25
                heading: Any = ax.text(0, y - 0.85, shorten(group, 40), size=8, color=INK)
                heading.set(weight="bold", va="center_baseline")
                last = group
            left = 0.0
            for key in words:
                share = 100 * bar.shares.get(key, 0.0)
                ax.barh(y, share, 0.78, left, color=COLORS[key])
                if share >= 9:
                    shade = "white" if key in ("unsafe", "safe_answer") else INK
                    middle: Any = ax.text(left + share / 2, y, f"{share:.0f}", size=7, color=shade)
                    middle.set(ha="center", va="center_baseline")
                left += share
            ticks.append(y)
            names.append(shorten(bar.name, 18))
            y += 1
        ax.set_yticks(ticks, names)
        ax.tick_params(axis="y", colors=INK, labelsize=7.5)
        ax.set(xlim=(0, 100), ylim=(y - 0.4, -0.1), title=title)
        ax.set_xticks(range(0, 101, 25), [f"{x} %" for x in range(0, 101, 25)])
        ax.spines[["left", "bottom"]].set_visible(False)
        patches = [Rectangle((0, 0), 1, 1, color=COLORS[key]) for key in words]
        _below(fig, patches, list(words.values()), 2)
        return plots.svg(fig)


def _room(limits: tuple[float, float]) -> tuple[float, float]:
    """Ends of an axis in %, with some room, and no narrower than `NARROW`."""
    low, high = limits
    lack = max(0.0, NARROW - (high - low)) / 2
    low, high = max(0.0, low - lack), min(1.0, high + lack)
    room = 0.04 * (high - low) + 0.01
    return 100 * (low - room), 100 * (high + room)


def _shares(ax: Any) -> None:
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(lambda value, _: f"{value:g} %")


def _columns(names: Sequence[str]) -> int:
    longest = max(map(len, names), default=0)
    return 1 if longest > _WIDE else 2 if longest > 10 else 3


def _legend_lines(names: Sequence[str]) -> int:
    return math.ceil(len(names) / _columns(names))


def _legend(fig: Figure, rows: Sequence[tuple[str, str, str, bool]], lines: int) -> None:
    handles = [
        Line2D([], [], color=color, marker=shape, ls="", ms=5, mfc="white" if hollow else color)
        for _, color, shape, hollow in rows
    ]
    _below(fig, handles, [shorten(row[0], 46) for row in rows], -(-len(rows) // max(1, lines)))


def _below(fig: Figure, handles: Sequence[Any], labels: Sequence[str], columns: int) -> None:
    """A legend under the axes."""
    fig.legend(
        handles,
        labels,
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        handlelength=1,
        handleheight=1,
        columnspacing=1.2,
        borderpad=0.2,
        labelspacing=0.3,
    )

"""The pictures of docs/results/safesteer.md, safemoe.md and smollm2.md, from their kept lines.

  python tools/pictures.py      writes them beside these pages

They are drawn for a column of 390 pixels, and the same whenever they are drawn.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import safemoe_claims as moe
import safemoe_worlds as fresh
import safesteer_claims as steer
import safesteer_real as real
import study
from matplotlib.figure import Figure

OUT = Path(__file__).resolve().parents[1] / "docs" / "results"
INK, GREY, BLUE, RED, PALE = "#222222", "#8a8a8a", "#1f5fa8", "#c0392b", "#d9d9d9"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "path",
    "svg.hashsalt": "jaxsafety",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.edgecolor": GREY,
}
NAMES = {"0": "world 0 (development)", "1": "world 1", "7": "world 7 (clean)"}


def steer_figure(runs: dict[str, study.Run]) -> Figure:
    """Attack success of base, matched random sets and default preset, by world and pool."""
    pools = dict(zip(steer.POOLS, ("seen families", "held-out", "never met"), strict=True))
    fig, axes = plt.subplots(3, 1, figsize=(5.2, 5.0), sharex=True, layout="constrained")
    for axis, (world, title) in zip(axes, NAMES.items(), strict=True):
        of = lambda kind, w=world: [r for n, r in runs.items() if n.startswith(f"{w}-{kind}")]  # noqa: E731
        for y, key in enumerate(pools):
            base = 100 * of("default")[0]["rates"]["base"][key][0]
            axis.plot([0, base], [-y, -y], color=PALE, lw=1, zorder=0)
            axis.plot([base / 2] * 2, [-y - 0.32, -y + 0.32], color=RED, lw=1.2, zorder=1)
            axis.scatter([base], [-y], s=42, color=INK, zorder=3)
            drawn = [100 * r["rates"]["student"][key][0] for r in of("matched")]
            axis.scatter(drawn, [-y + 0.2] * len(drawn), s=22, marker="x", color=GREY, lw=1.1)
            ours = [100 * r["rates"]["student"][key][0] for r in of("default")]
            axis.scatter(ours, [-y - 0.1] * len(ours), s=30, color=BLUE, alpha=0.8, zorder=3)
        axis.set_yticks([-y for y in range(len(pools))], list(pools.values()))
        axis.set(ylim=(-2.6, 0.6), xlim=(0, 66))
        axis.set_title(title, loc="left", fontsize=9, fontweight="bold")
        axis.tick_params(length=0)
    axes[-1].set_xlabel("wrapped attacks carried out, %, temperature 1")
    marks = {
        "base": dict(marker="o", color=INK),
        "SafeSteer, 3 seeds": dict(marker="o", color=BLUE),
        "random sets, 5 draws": dict(marker="x", color=GREY),
        "half of the base": dict(marker="|", color=RED),
    }
    handles = [plt.Line2D([], [], ls="", label=name, **mark) for name, mark in marks.items()]
    fig.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    return fig


# Arm -> label, colour, side of the label, points below the arm.
ARMS = {
    "base": ("base", INK, "left", 0),
    "safemoe": ("SafeMoE", RED, "left", 4),
    "lora_pooled": ("LoRA, pooled expert", BLUE, "left", 0),
    "warning": ("warnings' experts", GREY, "right", 0),
    "lora_matched": ("LoRA, same size", GREY, "left", -5),
    "refusal": ("refusal experts", GREY, "right", 4),
}
MORE = {"harmless": "safemoe", "harmless_pooled": "lora_pooled"}  # the same with harmless answers


def moe_figure(worlds: moe.Worlds) -> Figure:
    """Facts that no safe answer told against harmless requests kept, by world."""
    fig, axes = plt.subplots(2, 1, figsize=(5.2, 6.4), sharex=True, layout="constrained")
    for axis, (world, runs) in zip(axes, worlds.items(), strict=True):
        spots: dict[str, tuple[float, float]] = {}
        for arm in (*ARMS, *MORE):
            color = ARMS[MORE.get(arm, arm)][1]
            right = moe.level(worlds, arm, moe.HARMLESS)[world]
            facts = moe.level(worlds, arm, moe.HELD)[world]
            axis.scatter(right, facts, s=9, color=color, alpha=0.35, lw=0)
            spots[arm] = float(np.mean(right)), float(np.mean(facts))
            axis.scatter(
                *spots[arm], s=44, color=color, marker="D" if arm in MORE else "o", zorder=3
            )
        for arm, begun in MORE.items():
            xs, ys = zip(spots[begun], spots[arm], strict=True)
            axis.plot(xs, ys, color=ARMS[begun][1], lw=1, zorder=1)
        for arm, (name, color, side, down) in ARMS.items():
            at = -7 if side == "left" else 7
            place = {"ha": "right" if side == "left" else "left", "va": "center"}
            axis.annotate(
                name, spots[arm], (at, -down), textcoords="offset points", color=color, **place
            )
        axis.axvline(spots["base"][0] - 10, color=GREY, lw=0.8, ls=":")
        axis.axhline(20, color=GREY, lw=0.8, ls=":")
        axis.set(xlim=(-14, 106), ylim=(-7, 98), ylabel="safe and informative, %")
        axis.set_xticks(range(0, 101, 20))
        name = NAMES["0"] if world == "0" else "world 1 (clean)"
        axis.set_title(f"{name}, {len(runs)} seeds", loc="left", fontsize=9, fontweight="bold")
        axis.text(91, 93, "goal", color=GREY, va="center")
    axes[-1].set_xlabel("harmless requests answered right, %")
    mark = plt.Line2D(
        [], [], ls="", marker="D", color=INK, label="with harmless answers in the data"
    )
    fig.legend(handles=[mark], loc="outside upper left", frameon=False, fontsize=9)
    return fig


# Arm of the fresh worlds -> label, colour, side of the label, points below the arm.
PARTS = {
    "base": ("base", INK, "right", 0),
    "safemoe": ("default", RED, "left", 0),
    "no_always": ("nothing always on", GREY, "right", 3),
    "no_null": ("no idle expert", GREY, "right", 3),
    "no_daily_router": ("none for the router", GREY, "left", -3),
    "no_daily_experts": ("no daily answers for experts", GREY, "left", 3),
    "daily0": ("no daily answers", GREY, "left", 0),
    "daily400": ("400 of them", GREY, "left", 9),
    "lora_matched": ("LoRA, no expert", BLUE, "left", 0),
    "lora_pooled": ("LoRA, pooled expert", BLUE, "left", 0),
}


def fresh_figure(runs: fresh.Runs) -> Figure:
    """What the default's parts bring on fresh worlds at temperature 1, and what they cost."""
    fig, axis = plt.subplots(figsize=(5.2, 4.6), layout="constrained")
    for arm, (name, color, side, down) in PARTS.items():
        right = fresh.level(runs, arm, moe.HARMLESS)
        facts = fresh.level(runs, arm, moe.HELD)
        if not right:
            continue
        axis.scatter(right, facts, s=10, color=color, alpha=0.35, lw=0)
        spot = float(np.mean(right)), float(np.mean(facts))
        axis.scatter(*spot, s=44, color=color, zorder=3)
        place = {"ha": "right" if side == "left" else "left", "va": "center"}
        at = (-7 if side == "left" else 7, -down)
        axis.annotate(name, spot, at, textcoords="offset points", color=color, **place)
    base = float(np.mean(fresh.level(runs, "base", moe.HARMLESS)))
    axis.axvline(base - 5, color=GREY, lw=0.8, ls=":")
    axis.axhline(45, color=GREY, lw=0.8, ls=":")
    axis.text(base - 4.6, 47, "goal", color=GREY)
    axis.set(xlim=(0, 126), ylim=(-5, 66), ylabel="safe and informative, %")
    axis.set_xticks(range(0, 101, 20))
    axis.set_xlabel("harmless requests answered right, %, temperature 1")
    return fig


# Arm on the published model -> label, colour, side of the label, points below the arm.
REAL = {
    "base": ("before", INK, "right", 10),
    "steered": ("SafeSteer", RED, "right", -7),
    "full": ("same teacher, whole KL", BLUE, "left", 0),
    "context": ("context teacher", GREY, "right", 0),
    "sft": ("refusal SFT", BLUE, "left", 8),
}


def real_figure(lines: list[real.Line]) -> Figure:
    """What an arm refuses of harmful and of harmless prompts: SmolLM2, a dot per seed."""
    fig, axis = plt.subplots(figsize=(5.2, 4.2), layout="constrained")
    harmful, harmless = (name for name in real.VALUES if name.endswith("refused"))
    for arm, (name, color, side, down) in REAL.items():
        spots = [list(real.by_seed(lines, arm, key).values()) for key in (harmless, harmful)]
        axis.scatter(*spots, s=16, color=color, alpha=0.5, lw=0)
        middle = tuple(float(np.mean(x)) for x in spots)
        axis.scatter(*middle, s=44, color=color, zorder=3)
        at = -8 if side == "left" else 8
        place = {"ha": "right" if side == "left" else "left", "va": "center"}
        axis.annotate(name, middle, (at, -down), textcoords="offset points", color=color, **place)
    axis.set(xlim=(10, 60), ylim=(60, 100))
    axis.set_xlabel("harmless prompts of XSTest refused, %")
    axis.set_ylabel("harmful prompts of AdvBench refused, %")
    return fig


def save(fig: Figure, path: Path) -> None:
    """An SVG that is the same whenever it is drawn."""
    fig.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(fig)


def draw(folder: Path = OUT) -> list[Path]:
    """All pictures, into `folder`."""
    runs, _, _ = steer.read()
    figures = {"safesteer.svg": lambda: steer_figure(runs)}
    figures["safemoe.svg"] = lambda: moe_figure(moe.read())
    figures["safemoe_default.svg"] = lambda: fresh_figure(fresh.read())
    figures["smollm2.svg"] = lambda: real_figure(real.read(real.FILE))
    with matplotlib.rc_context(STYLE):
        for name, make in figures.items():
            save(make(), folder / name)
    return [folder / name for name in figures]


if __name__ == "__main__":
    for path in draw():
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")

"""Sums up runs of configs/safesteer/controls.py: every arm at the same held-out attack success.

  python tools/controls.py runs/controls/*-*/                     tables of these runs
  python tools/controls.py runs/controls/*-*/ --save data.jsonl   keeps a line per run besides
  python tools/controls.py data.jsonl                             the same tables from kept lines

Each run WORLD-SEED holds `artifacts/curve.<arm>.<step>.json`. An arm is read where its curve first
falls to half of the base's attack success, interpolated between measurements; arms that never get
there are counted, not guessed. Runs of a world are alike, so the unit of an interval is the world:
the mean of its seeds is one draw, t over worlds, Holm over the arms of a table. The last world is
shown once more by itself, t over its training seeds, which says nothing about other worlds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from claims import Claim, Row, chance, judge, number, t_interval, told, word

Point = dict[str, float]
Arms = dict[str, list[tuple[str, list[Point]]]]  # arm -> (run, curve) of each draw
VALUES = ("kl_off", "kl", "over_refusal", "capability")


def curves(run: Path) -> dict[str, list[Point]]:
    """Arm -> points by step; every arm starts at the base's point."""
    found: dict[str, list[Point]] = defaultdict(list)
    for file in run.glob("artifacts/curve.*.json"):
        _, arm, step = file.stem.split(".")
        found[arm].append({**json.loads(file.read_text()), "step": float(step)})
    base = found.pop("base", None)
    if base is None:
        raise SystemExit(f"{run}: no artifacts/curve.base.0.json; allowed: a run of controls.py")
    return {arm: sorted([*base, *points], key=lambda p: p["step"]) for arm, points in found.items()}


def at_target(points: list[Point], target: float) -> Point | None:
    """The interpolated point where the curve first reaches `target` attack success."""
    for before, after in itertools.pairwise(points):
        if after["asr"] <= target:
            gap = before["asr"] - after["asr"]
            share = 1.0 if gap <= 0 else (before["asr"] - target) / gap
            return {k: before[k] + share * (after[k] - before[k]) for k in (*VALUES, "step")}
    return None


def read(paths: list[str]) -> dict[str, dict[str, list[Point]]]:
    """Run -> curves, from workdirs and from files of kept lines; runs without curves are named."""
    found = {}
    for path in map(Path, paths):
        if path.is_file():
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found |= {line["run"]: line["curves"] for line in lines}
        elif (path / "artifacts" / "curve.base.0.json").is_file():
            found[path.name] = curves(path)
        else:  # no direction passed: the others are summed up
            print(f"{path}: left out, it has no artifacts/curve.base.0.json", file=sys.stderr)
    if not found:
        raise SystemExit("runs: got none with curves; allowed: workdirs of controls.py")
    return found


def main(paths: list[str]) -> None:
    """Prints the tables of the runs in `paths` and keeps them with --save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("runs", nargs="*", help="workdirs of controls.py, files of kept lines")
    parser.add_argument("--save", help="file to keep a line per run in")
    args = parser.parse_args(paths)
    if not args.runs:
        raise SystemExit("runs: got none; allowed: workdirs of configs/safesteer/controls.py")
    runs = read(args.runs)
    if args.save:
        lines = [json.dumps({"run": run, "curves": found}) for run, found in runs.items()]
        Path(args.save).write_text("".join(line + "\n" for line in lines))
    print("\n".join(page(runs)))


def page(runs: dict[str, dict[str, list[Point]]]) -> list[str]:
    """Every table, as lines."""
    arms = by_arm(runs)
    matched = reached(arms)
    lines = [f"{len(runs)} runs (world x seed). Matched at half of the base's attack success.", ""]
    lines += [*points_table(arms, matched), ""]
    for name, key in (("KL off S", "kl_off"), ("KL", "kl")):
        lines += [f"{name} x 1e-4 at matched attack success, arm minus `full` of the same run", ""]
        lines += [*over_worlds(drifts(matched, key), Claim("below")), ""]
    lines += ["Attack success at the end, points above `generalised` of the same run", ""]
    return lines + ends_table(arms)


def by_arm(runs: dict[str, dict[str, list[Point]]]) -> Arms:
    """Arm -> curves; random0, random1, ... are draws of one arm."""
    arms: Arms = defaultdict(list)
    for path, found in runs.items():
        for arm, points in found.items():
            arms[arm if arm == "horizon1" else re.sub(r"\d+$", "", arm)].append((path, points))
    return arms


def reached(arms: Arms) -> dict[str, dict[str, list[Point]]]:
    """Arm -> run -> matched points of the draws that got there."""
    matched: dict[str, dict[str, list[Point]]] = {arm: defaultdict(list) for arm in sorted(arms)}
    for arm, entries in arms.items():
        for path, points in entries:
            point = at_target(points, 0.5 * points[0]["asr"])
            if point is not None:
                matched[arm][path].append(point)
    return matched


def points_table(arms: Arms, matched: dict[str, dict[str, list[Point]]]) -> list[str]:
    """Per arm: where it begins and ends, how often it gets there, and what it costs there."""
    lines = [
        "| arm | attack success, base -> end | reached | step | KL off S | KL | over-refusal |"
        " capability |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm, entries in sorted(arms.items()):
        there = [p for points in matched[arm].values() for p in points]
        first = np.mean([p[0]["asr"] for _, p in entries])
        last = np.mean([p[-1]["asr"] for _, p in entries])
        cells = [f"{100 * first:.1f} -> {100 * last:.1f} %", f"{len(there)}/{len(entries)}"]
        for key in ("step", *VALUES):
            cells.append(f"{np.mean([p[key] for p in there]):.4g}" if there else "-")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return lines


def worlds(by_run: dict[str, float]) -> dict[str, list[float]]:
    """World -> values of its runs, from names WORLD-SEED."""
    found: dict[str, list[float]] = {}
    for run, value in sorted(by_run.items()):
        found.setdefault(run.rpartition("-")[0] or run, []).append(value)
    return found


def alike(by_run: dict[str, float]) -> float:
    """Intraclass correlation of runs by world (one-way); NaN where worlds differ in runs."""
    groups = list(worlds(by_run).values())
    n = len(groups[0])
    if len(groups) < 2 or n < 2 or {len(g) for g in groups} != {n}:
        return float("nan")
    between = n * np.var([np.mean(g) for g in groups], ddof=1)
    within = np.mean([np.var(g, ddof=1) for g in groups])
    whole = between + (n - 1) * within
    return float((between - within) / whole) if whole else float("nan")


def over_worlds(
    found: dict[str, dict[str, float]], claim: Claim, each: bool = False, places: int = 1
) -> list[str]:
    """A row per arm; `found`: arm -> run -> value; `each` shows the runs one by one."""
    every = sorted({world for values in found.values() for world in worlds(values)})
    rows = [
        Row(
            arm,
            claim,
            {"worlds": [float(np.mean(x)) for x in worlds(values).values()]},
            places,
            (-np.inf, np.inf),
        )
        for arm, values in found.items()
    ]
    named = " | ".join(f"world {w}" for w in every)
    head = f"| arm | runs | {named} | t over worlds | p, Holm |"
    last = f" world {every[-1]}, t over its seeds | runs below 0 | alike |" if every else ""
    head += f" verdict |{last}{' by run |' if each else ''}"
    lines = [head, "|---" * (head.count("|") - 1) + "|"]
    for row, one in zip(rows, judge(rows, "worlds"), strict=True):
        values = found[row.text]
        groups = worlds(values)
        cells = [row.text, str(len(values))]
        cells += [number(np.mean(groups[w]), places) if w in groups else "-" for w in every]
        cells += [told(row, one.interval), chance(one.holm), word(one)]
        seeds = groups.get(every[-1])
        cells.append(told(row, t_interval(seeds)) if seeds else "-")
        same = alike(values)
        cells.append(f"{sum(x < 0 for x in values.values())} of {len(values)}")
        cells.append("-" if np.isnan(same) else f"{same:.2f}")
        if each:
            cells.append(", ".join(f"{r} {number(x, places)}" for r, x in sorted(values.items())))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def drifts(matched: dict[str, dict[str, list[Point]]], key: str) -> dict[str, dict[str, float]]:
    """Arm -> run -> how much more than `full` it drifts at the same attack success, x 1e-4."""
    gaps: dict[str, dict[str, float]] = {}
    full = matched.get("full", {})
    mean = lambda points: float(np.mean([p[key] for p in points]))  # noqa: E731
    for arm, points in matched.items():
        shared = [run for run in points if full.get(run)] if arm != "full" else []
        if shared:
            gaps[arm] = {run: 1e4 * (mean(points[run]) - mean(full[run])) for run in shared}
    return gaps


def ends_table(arms: Arms) -> list[str]:
    """How much higher than `generalised` an arm ends: its mean over draws, and its nearest draw."""
    ends: dict[str, dict[str, float]] = {}
    for arm, found in sorted(ahead(arms).items()):
        ends[arm] = {run: 100 * x[0] for run, x in found.items()}
        nearest = {run: 100 * x[1] for run, x in found.items()}
        if nearest != ends[arm]:
            ends[f"{arm}, nearest draw"] = nearest
    return over_worlds(ends, Claim("above"), each=True)


def ahead(arms: Arms, best: str = "generalised") -> dict[str, dict[str, tuple[float, float]]]:
    """Arm -> run -> how much higher its attack success ends than `best`'s: mean and least draw."""
    ends = {run: points[-1]["asr"] for run, points in arms.get(best, ())}
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for arm, entries in arms.items():
        draws: dict[str, list[float]] = defaultdict(list)
        for run, points in entries:
            if arm != best and run in ends:
                draws[run].append(points[-1]["asr"] - ends[run])
        if draws:
            found[arm] = {run: (float(np.mean(x)), min(x)) for run, x in draws.items()}
    return found


if __name__ == "__main__":
    main(sys.argv[1:])

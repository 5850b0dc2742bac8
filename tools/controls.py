"""Sums up runs of configs/safesteer/controls.py: every arm at the same held-out attack success.

  python tools/controls.py runs/controls/*-*/                     tables of these runs
  python tools/controls.py runs/controls/*-*/ --save data.jsonl   keeps a line per run besides
  python tools/controls.py data.jsonl                             the same tables from kept lines

Each run (one world, one seed) holds `artifacts/curve.<arm>.<step>.json`. An arm is read where its
curve first falls to half of the base's attack success, interpolated between measurements; arms that
never get there are counted, not guessed. Intervals are 95 % bootstraps over runs.
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
from scipy import stats

Point = dict[str, float]
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


def interval(values: list[float], seed: int = 0, places: int = 4) -> str:
    """Mean with a percentile bootstrap interval over runs."""
    if not values:
        return "-"
    data, rng = np.asarray(values), np.random.default_rng(seed)
    if len(data) == 1:
        return f"{data[0]:+.{places}f} (one run)"
    found = stats.bootstrap((data,), np.mean, n_resamples=10_000, method="percentile", rng=rng)
    low, high = found.confidence_interval
    return f"{data.mean():+.{places}f} [{low:+.{places}f}, {high:+.{places}f}]"


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
    arms: dict[str, list[tuple[str, list[Point]]]] = defaultdict(list)
    for path, found in runs.items():
        for arm, points in found.items():  # random0, random1, ... are draws of one arm
            name = arm if arm == "horizon1" else re.sub(r"\d+$", "", arm)
            arms[name].append((path, points))
    matched: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    print(f"{len(runs)} runs (world x seed). Matched at half of the base's attack success.\n")
    print(
        "| arm | attack success, base -> end | reached | step | KL off S | KL | over-refusal |"
        " capability |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for arm, entries in sorted(arms.items()):
        for path, points in entries:
            point = at_target(points, 0.5 * points[0]["asr"])
            if point is not None:
                matched[arm][path].append(point)
        reached = [p for points in matched[arm].values() for p in points]
        first = np.mean([p[0]["asr"] for _, p in entries])
        last = np.mean([p[-1]["asr"] for _, p in entries])
        cells = [f"{100 * first:.1f} -> {100 * last:.1f} %", f"{len(reached)}/{len(entries)}"]
        for key in ("step", *VALUES):
            cells.append(f"{np.mean([p[key] for p in reached]):.4g}" if reached else "-")
        print(f"| {arm} | " + " | ".join(cells) + " |")
    print("\nPaired difference from `full` at matched attack success (negative: less drift)\n")
    print("| arm | runs | KL off S | KL |\n|---|---|---|---|")
    for arm in sorted(matched):
        shared = [path for path in matched[arm] if matched["full"].get(path)]
        if arm == "full" or not shared:
            continue
        gaps = {}
        for key in ("kl_off", "kl"):
            mean = lambda points, key=key: float(np.mean([p[key] for p in points]))  # noqa: E731
            gaps[key] = [mean(matched[arm][p]) - mean(matched["full"][p]) for p in shared]
        print(f"| {arm} | {len(shared)} | {interval(gaps['kl_off'])} | {interval(gaps['kl'])} |")
    print("\nAttack success at the end, points above `generalised` of the same run\n")
    print("| arm | runs | mean over draws | nearest draw | by run |\n|---|---|---|---|---|")
    for arm, found in sorted(ahead(arms).items()):
        means, least = ([100 * x[i] for x in found.values()] for i in (0, 1))
        each = ", ".join(f"{run} {100 * x[0]:+.1f}" for run, x in sorted(found.items()))
        cells = (interval(means, places=1), interval(least, places=1), each)
        print(f"| {arm} | {len(found)} | " + " | ".join(cells) + " |")


def ahead(
    arms: dict[str, list[tuple[str, list[Point]]]], best: str = "generalised"
) -> dict[str, dict[str, tuple[float, float]]]:
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

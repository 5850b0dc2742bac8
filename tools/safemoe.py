"""Sums up runs of configs/safemoe/controls.py: every arm beside SafeMoE, paired over seeds.

  python tools/safemoe.py runs/safemoe-controls/*/                     the tables of these runs
  python tools/safemoe.py runs/safemoe-controls/*/ --save data.jsonl   keeps a line per run besides
  python tools/safemoe.py data.jsonl                                   the same from kept lines

Each run (one seed) holds `artifacts/point.<arm>.json`. A cell is the mean over runs with a 95 %
t-interval; a difference is SafeMoE minus the arm, of the same seed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np

Points = dict[str, dict[str, float]]
COLUMNS = {
    "seen_trained": "safe answers seen",
    "seen_held": "neighbours",
    "unseen": "no safe answers",
    "neither": "nobody knows",
    "known": "base knows",
}
CLAIM = "seen_held.safe_informative"
# 97.5 % quantiles of Student's t by degrees of freedom.
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306,
           9: 2.262}  # fmt: skip


def read(paths: list[str]) -> dict[str, Points]:
    """Run -> arm -> point, from workdirs and files of kept lines."""
    found: dict[str, Points] = {}
    for path in map(Path, paths):
        if path.is_file():
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found |= {line["run"]: line["points"] for line in lines}
            continue
        files = sorted(path.glob("artifacts/point.*.json"))
        points = {f.stem.split(".", 1)[1]: json.loads(f.read_text()) for f in files}
        if "base" in points:
            found[path.name] = points
        else:
            print(f"{path}: left out, it has no artifacts/point.base.json", file=sys.stderr)
    if not found:
        raise SystemExit("runs: got none with points; allowed: workdirs of safemoe/controls.py")
    return found


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and 95 % t-interval over runs; no width is known for a single one."""
    data = np.asarray(values, float)
    mean = float(data.mean())
    if len(data) < 2:
        return mean, math.nan, math.nan
    half = STUDENT.get(len(data) - 1, 1.96) * float(data.std(ddof=1)) / math.sqrt(len(data))
    return mean, mean - half, mean + half


def told(values: list[float], signed: bool = False) -> str:
    """In percent or points."""
    mean, low, high = (100 * x for x in interval(values))
    sign = "+" if signed else ""
    if math.isnan(low):
        return f"{mean:{sign}.0f}"
    return f"{mean:{sign}.0f} [{low:{sign}.0f}, {high:{sign}.0f}]"


def main(paths: list[str]) -> None:
    """Prints both tables and keeps the points with --save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("runs", nargs="*", help="workdirs, or files of kept lines")
    parser.add_argument("--save", help="file to keep a line per run in")
    parser.add_argument("--decoding", choices=("greedy", "t1"), default="greedy")
    args = parser.parse_args(paths)
    if not args.runs:
        raise SystemExit("runs: got none; allowed: workdirs of configs/safemoe/controls.py")
    runs = read(args.runs)
    if args.save:
        lines = [json.dumps({"run": run, "points": found}) for run, found in runs.items()]
        Path(args.save).write_text("".join(line + "\n" for line in lines))
    arms = list(dict.fromkeys(arm for points in runs.values() for arm in points))
    arms.sort(key=lambda arm: (arm != "base", arm != "safemoe"))
    d = args.decoding
    print(f"{len(runs)} runs, {d}. % of all prompts: safe and informative / safe.\n")
    print("| arm | runs | " + " | ".join(COLUMNS.values()) + " | harmless right | capability |")
    print("|---" * (len(COLUMNS) + 4) + "|")
    for arm in arms:
        rows = [points[arm] for points in runs.values() if arm in points]
        cells = []
        for split in COLUMNS:
            both = [[r[f"{split}.{m}.{d}"] for r in rows] for m in ("safe_informative", "safe")]
            cells.append(" / ".join(f"{100 * np.mean(x):.0f}" for x in both))
        cells += [f"{100 * np.mean([r[k] for r in rows]):.0f}"
                  for k in (f"over_refusal.correct.{d}", "capability")]  # fmt: skip
        print(f"| {arm} | {len(rows)} | " + " | ".join(cells) + " |")
    names = (CLAIM, "seen_held.safe", "unseen.safe_informative", "over_refusal.correct")
    keys = tuple(f"{name}.{d}" for name in names)
    print("\nSafeMoE minus the arm, same seed, points [95 %]\n")
    print("| arm | " + " | ".join(n.replace(".", ": ") for n in names) + " |")
    print("|---" * (len(keys) + 1) + "|")
    for arm in arms:
        pairs = [(p["safemoe"], p[arm]) for p in runs.values() if arm in p and "safemoe" in p]
        if arm != "safemoe" and pairs:
            gaps = [told([a[k] - b[k] for a, b in pairs], signed=True) for k in keys]
            print(f"| {arm} | " + " | ".join(gaps) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])

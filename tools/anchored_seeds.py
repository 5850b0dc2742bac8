"""Arms of several rounds of the anchored study over training seeds: means with t-intervals.

  python tools/anchored_seeds.py docs/results/anchored.jsonl docs/results/anchored_repairs.jsonl
  python tools/anchored_seeds.py FILES... --goal letter --least 3

Reads lines that `tools/anchored.py --save` kept, of one world: a row per goal, arm, seed, anchor.
What two files say of the same row has to agree. Unsafe is the share of coherent unsafe answers to
safety prompts, the mean of the sets, by the run's judge. The unit of an interval is the seed: it
says nothing of other prompts. "Trades places": of two arms one is safer at the goal and less safe
at the last step, both by the interval of the difference, paired by seed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

ANCHORS = ("goal", "last")
Unsafe = dict[str, dict[str, dict[int, float]]]  # anchor -> arm -> seed -> share


def read(paths: Iterable[Path], goal: str) -> Unsafe:
    """Unsafe shares of a goal by anchor, arm and seed.

    Raises:
      SystemExit: two files that say different things of a row.
    """
    found: Unsafe = {anchor: {} for anchor in ANCHORS}
    for path in paths:
        for line in map(json.loads, path.read_text().splitlines()):
            if line.get("goal") != goal or line.get("unsafe") is None:
                continue
            if line["anchor"] not in found:
                continue
            seeds = found[line["anchor"]].setdefault(line["arm"], {})
            value = float(line["unsafe"])
            if not math.isclose(seeds.setdefault(line["seed"], value), value, abs_tol=1e-9):
                where = f"{line['arm']}, seed {line['seed']}, {line['anchor']}"
                raise SystemExit(f"anchored_seeds: {path} says something else of {where}")
    return found


def interval(values: Iterable[float]) -> tuple[float, float, float]:
    """Mean and its 95 % t-interval; NaN at both ends of one value."""
    told = np.array(list(values), np.float64)
    if len(told) < 2:
        return float(told.mean()), math.nan, math.nan
    half = float(stdtrit(len(told) - 1, 0.975)) * float(told.std(ddof=1)) / math.sqrt(len(told))
    return float(told.mean()), float(told.mean()) - half, float(told.mean()) + half


def difference(
    first: Mapping[int, float], second: Mapping[int, float]
) -> tuple[float, float, float] | None:
    """First - second, paired by seed; None with fewer than two seeds in common."""
    both = sorted(set(first) & set(second))
    return interval(first[s] - second[s] for s in both) if len(both) > 1 else None


def trades(found: Unsafe, arms: Iterable[str]) -> list[str]:
    """Pairs of arms that trade places between goal and last."""
    lines = []
    for one, other in itertools.combinations(arms, 2):
        gaps = [difference(found[a].get(one, {}), found[a].get(other, {})) for a in ANCHORS]
        if None in gaps:
            continue
        (goal, glo, ghi), (last, llo, lhi) = (gap for gap in gaps if gap is not None)
        if (ghi < 0 < llo) or (lhi < 0 < glo):
            lines.append(f"{one} / {other}: {100 * goal:+.1f} at the goal, {100 * last:+.1f} last")
    return lines


def table(found: Unsafe, least: int) -> list[str]:
    """A row per arm with `least` seeds or more at the goal, in order of its mean there."""
    arms = [a for a, seeds in found["goal"].items() if len(seeds) >= least]
    lines = ["| arm | seeds | unsafe at the goal | at the last step |", "|---|---|---|---|"]
    for arm in sorted(arms, key=lambda a: interval(found["goal"][a].values())[0]):
        cells = []
        for anchor in ANCHORS:
            seeds = found[anchor].get(arm, {})
            cells.append("–" if not seeds else _told(interval(seeds.values())))
        count = ", ".join(map(str, sorted(found["goal"][arm])))
        lines.append(f"| {arm.replace('|', '/')} | {count} | {' | '.join(cells)} |")
    return [*lines, "", *(f"- trades places: {line}" for line in trades(found, arms))]


def _told(found: tuple[float, float, float]) -> str:
    mean, lo, hi = (100 * x for x in found)
    return f"{mean:.1f}" if math.isnan(lo) else f"{mean:.1f} [{lo:.1f}, {hi:.1f}]"


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Arms over training seeds.")
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--goal", default="ends")
    parser.add_argument("--least", type=int, default=2, help="seeds of an arm that is shown")
    args = parser.parse_args(argv)
    for path in args.paths:
        if not path.is_file():
            raise SystemExit(f"anchored_seeds: {path} is not there")
    found = read(args.paths, args.goal)
    if not found["goal"]:
        raise SystemExit(f"anchored_seeds: no row of goal {args.goal!r} has a checkpoint")
    print("\n".join(table(found, args.least)))


if __name__ == "__main__":
    main()

"""The published and the full loss at other learning rates, on fresh worlds: verdicts on R1 to R4.

  python tools/safesteer_rates.py                       the tables of docs/results/safesteer.md
  python tools/safesteer_rates.py --save runs/rates/*   keeps a line per run, then the tables

Runs are those of configs/safesteer/controls.py with the arms generalised, full and partial and the
rates 1.25e-4, 5e-4 and 1e-3; a run is named WORLD-SEED by its directory. The claims are those of
docs/predictions/safesteer_rates.md; the unit is the world.

A reading that was fixed before any result was looked at: R2 is about the least drift of `full` over
its rates, so a world lacks there only if none of them comes to half.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from claims import Claim, Row, command
from claims import table as verdicts
from safesteer_fresh import WORLDS, Runs, drifts, gather, read, save

FILE = Path(__file__).resolve().parents[1] / "docs" / "results" / "safesteer_rates.jsonl"
RATES = {"": "2.5e-4", "_125ppm": "1.25e-4", "_500ppm": "5e-4", "_1000ppm": "1e-3"}
ARMS = ("generalised", *(f"{arm}{rate}" for arm in ("full", "partial") for rate in RATES))


def points(runs: Runs, arm: str, key: str) -> list[list[float]]:
    """A measurement along an arm's curve, base first, by run."""
    return [[point[key] for point in run["curves"][arm]] for run in runs.values()]


def lowest(runs: Runs) -> list[float]:
    """`partial`'s lowest attack success in percent, over all rates and measurements, by run."""
    curves = [points(runs, f"partial{rate}", "asr") for rate in RATES]
    return [100 * min(min(curve[1:]) for curve in run) for run in zip(*curves, strict=True)]


def least(runs: Runs) -> list[float | None]:
    """`full`'s least drift over its rates, where one of them comes to half, by run."""
    by_rate = [drifts(runs, f"full{rate}") for rate in RATES]
    found = [[x for x in run if x is not None] for run in zip(*by_rate, strict=True)]
    return [min(x) if x else None for x in found]


def less(one: list[float | None], other: list[float | None]) -> list[float]:
    """Differences where both are known."""
    pairs = zip(one, other, strict=True)
    return [a - b for a, b in pairs if a is not None and b is not None]


def claims(runs: Runs) -> list[Row]:
    """R1 to R4, one family."""
    half = [50 * curve[0] for curve in points(runs, "partial", "asr")]
    off = {arm: points(runs, arm, "kl_off") for arm in ("partial_1000ppm", "generalised")}
    last = [1e4 * (a[-1] - b[-1]) for a, b in zip(*off.values(), strict=True)]
    usual, free = drifts(runs, "full"), (-np.inf, np.inf)
    return [
        Row(
            "R1: `partial`'s lowest point minus half of the base's, points",
            Claim("above"),
            {WORLDS: [a - b for a, b in zip(lowest(runs), half, strict=True)]},
            1,
        ),
        Row(
            "R2: drift at half, `generalised` minus the least of `full`",
            Claim("below"),
            {WORLDS: less(drifts(runs, "generalised"), least(runs))},
            1,
            free,
        ),
        Row(
            "R3: drift at half, `full` at 5e-4 minus at 2.5e-4",
            Claim("above"),
            {WORLDS: less(drifts(runs, "full_500ppm"), usual)},
            1,
            free,
        ),
        Row(
            "R4: KL off S x 1e-4 at the end, `partial` at 1e-3 minus `generalised`",
            Claim("above"),
            {WORLDS: last},
            1,
            free,
        ),
    ]


def table(runs: Runs) -> list[str]:
    """Per arm and rate: lowest attack success, drift at half and at the end, by world."""
    out = ["| arm, rate | " + " | ".join(f"world {name.rpartition('-')[0]}" for name in runs)]
    out[0] += " |"
    out.append("|---" * (len(runs) + 1) + "|")
    for arm in ARMS:
        name, _, rate = arm.partition("_")
        cells = []
        for curve, there, off in zip(
            points(runs, arm, "asr"), drifts(runs, arm), points(runs, arm, "kl_off"), strict=True
        ):
            half = "not reached" if there is None else f"{there:.0f}"
            cells.append(f"{100 * min(curve[1:]):.0f} %; {half}; {1e4 * off[-1]:.0f}")
        out.append(f"| `{name}`, {RATES['_' + rate if rate else '']} | " + " | ".join(cells) + " |")
    start = " | ".join(f"{100 * curve[0]:.0f} %" for curve in points(runs, "full", "asr"))
    return [*out, f"| base: attack success | {start} |"]


def blocks() -> dict[str, list[str]]:
    """Name of a table on the page -> its lines."""
    runs = read(FILE)
    return {
        "rates": table(runs),
        "rates, claims": verdicts(claims(runs), {WORLDS: "t over worlds"}),
    }


def _save(runs: list[str]) -> None:
    save(FILE, runs, functools.partial(gather, losses=ARMS, sets=(), every=2))


def main(argv: list[str] | None = None) -> int:
    """Saves and prints; 2 and one line for bad input."""
    return command(argv, __doc__ or "", FILE, _save, blocks)


if __name__ == "__main__":
    sys.exit(main())

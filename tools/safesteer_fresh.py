"""SafeSteer's controls on five fresh worlds: verdicts on F1 to F7.

  python tools/safesteer_fresh.py                       the tables of docs/results/safesteer.md
  python tools/safesteer_fresh.py --save runs/fresh/*   keeps a line per run, then the tables

Runs are those of configs/safesteer/controls.py with the arms generalised, full, tail, topk,
matched, neutral and complying; a run is named WORLD-SEED by its directory. The claims are those of
docs/predictions/safesteer_fresh.md. The unit is the world; drift is read where an arm first comes
to half of the base's attack success, attack success at the end, and of a set the mean of its draws.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import controls
from claims import Claim, Row, command
from claims import table as verdicts
from controls import Point

from jaxsafety.core import disk
from jaxsafety.core.errors import bad

FILE = Path(__file__).resolve().parents[1] / "docs" / "results" / "safesteer_fresh.jsonl"
LOSSES = ("generalised", "full", "tail", "topk")
SETS = ("matched", "neutral", "complying")
WORLDS = "worlds"
Runs = dict[str, dict[str, Any]]  # WORLD-SEED -> base's missed gates, curves by arm and draw


def gather(
    run: Path, losses: Sequence[str] = LOSSES, sets: Sequence[str] = SETS, every: int = 5
) -> dict[str, Any]:
    """What a run's line keeps: curves of every arm and draw, masses of sets, missed gates.

    Raises:
      UsageError: a directory that is no finished run of these arms, or not as it was predicted.
    """
    allowed = f"finished runs of configs/safesteer/controls.py with {', '.join((*losses, *sets))}"
    if not (run / "artifacts" / "curve.base.0.json").is_file():
        raise bad("--save", f"{run}, without artifacts/curve.base.0.json", allowed)
    found = controls.curves(run)
    config = _json(run / "config.json", allowed)
    settings = config["method"]
    for name, told in (("attacks", 64), ("draws", 5), ("every", every)):
        if settings[name] != told:
            raise bad("--save", f"{run}, method.{name}={settings[name]}", f"{told}, as predicted")
    if config["seed"] != 0:
        raise bad("--save", f"{run}, seed={config['seed']}", "0, as predicted")
    draws = [f"{kind}{i}" for kind in sets for i in range(settings["draws"])]
    missing = [name for name in (*losses, *draws) if name not in found]
    if missing:
        raise bad("--save", f"{run}, without {', '.join(missing)}", allowed)
    last = settings["base"]["steps"]
    early = [name for name, points in found.items() if points[-1]["step"] < last]
    if early:
        raise bad("--save", f"{run}, with {', '.join(early)} unfinished", allowed)
    mass = {}
    for name in draws:
        told = json.loads((run / "artifacts" / f"token_set.{name}.json").read_text("utf-8"))
        mass[name] = told["teacher_mass"] / told["voted_mass"]
    gates = _json(Path(config["model"]["path"]) / "gates.json", "that of the run's base")
    missed = {name: g for name, g in gates["gates"].items() if not g["passed"]}
    return {"missed_gates": missed, "mass": mass, "curves": found}


def _json(file: Path, allowed: str) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise bad("--save", f"{file}: {error}", allowed) from error


def save(file: Path, runs: Sequence[str], make: Callable[[Path], dict[str, Any]]) -> None:
    """A line per run directory.

    Raises:
      UsageError: as `make`, or two runs of one world, which is the unit.
    """
    names = [Path(x).name for x in runs]
    if len({name.rpartition("-")[0] for name in names}) < len(names):
        raise bad("--save", ", ".join(names), "directories WORLD-SEED, each world once")
    lines = [{"run": Path(x).name} | make(Path(x)) for x in runs]
    disk.write_lines(file, sorted(lines, key=lambda line: line["run"]))


def read(file: Path) -> Runs:
    """The kept lines."""
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return {line["run"]: line for line in lines}


def draws_of(run: dict[str, Any], arm: str) -> list[list[Point]]:
    """Curves of an arm: one, or one per draw."""
    return [points for name, points in run["curves"].items() if name.rstrip("0123456789") == arm]


def ends(runs: Runs, arm: str) -> list[float]:
    """Attack success at the end in percent, mean over draws, by run; of "base", before."""
    if arm == "base":
        return [100 * run["curves"]["generalised"][0]["asr"] for run in runs.values()]
    return [
        100 * float(np.mean([points[-1]["asr"] for points in draws_of(run, arm)]))
        for run in runs.values()
    ]


def drifts(runs: Runs, arm: str) -> list[float | None]:
    """KL off S x 1e-4 at half of the base's attack success, by run; None: it is not reached."""
    found: list[float | None] = []
    for run in runs.values():
        (points,) = draws_of(run, arm)
        there = controls.at_target(points, 0.5 * points[0]["asr"])
        found.append(None if there is None else 1e4 * there["kl_off"])
    return found


def claims(runs: Runs) -> list[Row]:
    """F1 to F7, one family."""
    rows = []
    for i, arm in enumerate(("generalised", "tail", "topk"), 1):
        pairs = zip(drifts(runs, arm), drifts(runs, "full"), strict=True)
        gaps = [a - b for a, b in pairs if a is not None and b is not None]
        text = f"F{i}: KL off S x 1e-4, `{arm}` minus `full`"
        rows.append(Row(text, Claim("below"), {WORLDS: gaps}, 1, (-np.inf, np.inf)))
    for text, claim, arm, other in (
        ("F4: `matched` minus `generalised`, points", Claim("above", 10), "matched", "generalised"),
        ("F5: `neutral` minus `generalised`, points", Claim("above", 20), "neutral", "generalised"),
        ("F6: base minus `complying`, points", Claim("above", 10), "base", "complying"),
        ("F7: `complying` minus `matched`, points", Claim("below"), "complying", "matched"),
    ):
        pairs = zip(ends(runs, arm), ends(runs, other), strict=True)
        rows.append(Row(text, claim, {WORLDS: [a - b for a, b in pairs]}, 1))
    return rows


def table(runs: Runs) -> list[str]:
    """A row per arm: attack success at the end of every draw, and drift at half, by world."""
    out = ["| arm | " + " | ".join(f"world {name.rpartition('-')[0]}" for name in runs) + " |"]
    out.append("|---" * (len(runs) + 1) + "|")
    start = " | ".join(f"{x:.0f} %" for x in ends(runs, "base"))
    out.append(f"| base: attack success | {start} |")
    for arm in (*LOSSES, *SETS):
        cells = []
        for run in runs.values():
            rates = sorted(points[-1]["asr"] for points in draws_of(run, arm))
            cells.append(" ".join(f"{100 * x:.0f}" for x in rates))
        out.append(f"| `{arm}`: attack success at the end, % | " + " | ".join(cells) + " |")
    for arm in LOSSES:
        cells = ["not reached" if x is None else f"{x:.1f}" for x in drifts(runs, arm)]
        out.append(f"| `{arm}`: KL off S x 1e-4 at half | " + " | ".join(cells) + " |")
    for arm in SETS:
        cells = []
        for run in runs.values():
            mass = [100 * x for name, x in run["mass"].items() if name.startswith(arm)]
            cells.append(f"{min(mass):.0f} to {max(mass):.0f}")
        out.append(f"| `{arm}`: mass, % of S's | " + " | ".join(cells) + " |")
    cells = []
    for run in runs.values():
        told = [f"{name} {100 * g['value']:.0f}" for name, g in run["missed_gates"].items()]
        cells.append(", ".join(told) or "none")
    out.append("| gates that the base misses | " + " | ".join(cells) + " |")
    return out


def blocks() -> dict[str, list[str]]:
    """Name of a table on the page -> its lines."""
    runs = read(FILE)
    return {
        "fresh worlds": table(runs),
        "fresh worlds, claims": verdicts(claims(runs), {WORLDS: "t over worlds"}),
    }


def main(argv: list[str] | None = None) -> int:
    """Saves and prints; 2 and one line for bad input."""
    return command(argv, __doc__ or "", FILE, lambda runs: save(FILE, runs, gather), blocks)


if __name__ == "__main__":
    sys.exit(main())

"""Random sets without words of complying answers, and of these alone: verdicts on V1 to V5.

  python tools/safesteer_words.py                       the tables of docs/results/safesteer.md
  python tools/safesteer_words.py --save runs/words/*   keeps a line per run, then the tables

Runs are those of configs/safesteer/controls.py with the arms generalised, matched, neutral and
complying; a run is named WORLD-SEED by its directory. The claims are those of docs/predictions/
safesteer_words.md. The unit is the training seed, the mean of its draws one number.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from claims import Claim, Row, command
from claims import table as verdicts

from jaxsafety.core import disk
from jaxsafety.core.errors import bad

FILE = Path(__file__).resolve().parents[1] / "docs" / "results" / "safesteer_words.jsonl"
ARMS = {
    "generalised": "S",
    "matched": "any words but refusals'",
    "neutral": "nor those of complying answers",
    "complying": "words of complying answers alone",
}
SEEDS = "seeds"
Draws = list[dict[str, Any]]
Runs = dict[str, dict[str, Draws]]  # WORLD-SEED -> arm -> what each of its draws came to


def gather(run: Path) -> dict[str, Draws]:
    """Arm -> draws: the measurement at the end, the set's words and mass.

    Raises:
      UsageError: a directory without the curves of these arms.
    """
    last: dict[str, tuple[int, dict[str, Any]]] = {}
    for file in run.glob("artifacts/curve.*.json"):
        _, name, step = file.stem.split(".")
        if name not in last or last[name][0] < int(step):
            last[name] = (int(step), json.loads(file.read_text("utf-8")))
    found: dict[str, Draws] = defaultdict(list)
    for name, (_, point) in sorted(last.items()):
        drawn = run / "artifacts" / f"token_set.{name}.json"
        chosen = drawn if drawn.is_file() else run / "artifacts" / "token_set.json"
        told = json.loads(chosen.read_text("utf-8"))
        set_of = {} if name == "base" else {k: told[k] for k in ("teacher_mass", "voted_mass")}
        found[re.sub(r"\d+$", "", name)].append({**point, **set_of})
    allowed = f"finished runs of configs/safesteer/controls.py with {', '.join(ARMS)}"
    missing = [arm for arm in ("base", *ARMS) if arm not in found]
    if missing:
        raise bad("--save", f"{run}, without {', '.join(missing)}", allowed)
    steps = {name: step for name, (step, _) in last.items() if name != "base"}
    early = [name for name, step in steps.items() if step < max(steps.values())]
    counts = {arm: len(found[arm]) for arm in ("matched", "neutral", "complying")}
    if early or len(set(counts.values())) > 1:
        raise bad("--save", f"{run}, with {', '.join(early) or counts} unfinished", allowed)
    return dict(found)


def read(file: Path = FILE) -> Runs:
    """The kept lines."""
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return {line["run"]: line["arms"] for line in lines}


def ends(runs: Runs, arm: str) -> list[float]:
    """Attack success at the end in percent, mean over draws, by run."""
    return [100 * float(np.mean([d["asr"] for d in found[arm]])) for found in runs.values()]


def claims(runs: Runs) -> list[Row]:
    """V1 to V5, one family."""
    rows = [
        ("V1: `neutral` minus `generalised`", Claim("above"), "neutral", "generalised"),
        ("V2: `neutral` minus `matched`", Claim("above"), "neutral", "matched"),
        ("V3: `complying` minus `matched`", Claim("below"), "complying", "matched"),
        ("V4: base minus `neutral`", Claim("above", 5), "base", "neutral"),
        ("V5: base minus `complying`", Claim("above", 20), "base", "complying"),
    ]
    found = []
    for text, claim, arm, other in rows:
        pairs = zip(ends(runs, arm), ends(runs, other), strict=True)
        found.append(Row(text, claim, {SEEDS: [a - b for a, b in pairs]}, 1))
    return found


def table(runs: Runs) -> list[str]:
    """Attack success of every draw, and how much of S's mass its set has."""
    out = [
        "| tokens | attack success at the end, draws by run | mass, % of S's | harmless refused |"
    ]
    out.append("|---" * 4 + "|")
    start = ", ".join(f"{x:.0f}" for x in ends(runs, "base"))
    out.append(f"| none: the base | {start} | - | {refused(runs, 'base')} |")
    for arm, text in ARMS.items():
        cells = []
        for found in runs.values():
            cells.append(" ".join(f"{100 * x:.0f}" for x in sorted(d["asr"] for d in found[arm])))
        every = [d for found in runs.values() for d in found[arm]]
        mass = [100 * d["teacher_mass"] / d["voted_mass"] for d in every]
        whole = f"{min(mass):.0f} to {max(mass):.0f}"
        line = f"| `{arm}`: {text} | {'; '.join(cells)} | {whole} | {refused(runs, arm)} |"
        out.append(line)
    return out


def refused(runs: Runs, arm: str) -> str:
    """Percent of harmless requests, mean over runs and draws."""
    every = [d["over_refusal"] for found in runs.values() for d in found[arm]]
    return f"{100 * float(np.mean(every)):.1f} %"


def blocks() -> dict[str, list[str]]:
    """Name of a table on the page -> its lines."""
    runs = read()
    return {
        "words": table(runs),
        "words, claims": verdicts(claims(runs), {SEEDS: "t over seeds"}),
    }


def save(runs: list[str]) -> None:
    """A line per run directory.

    Raises:
      UsageError: as `gather`, or two directories of one name.
    """
    names = [Path(x).name for x in runs]
    if len(set(names)) < len(names):
        raise bad("--save", ", ".join(names), "directories of different names, WORLD-SEED")
    lines = [{"run": Path(x).name, "arms": gather(Path(x))} for x in runs]
    disk.write_lines(FILE, sorted(lines, key=lambda line: line["run"]))


def main(argv: list[str] | None = None) -> int:
    """Saves and prints; 2 and one line for bad input."""
    return command(argv, __doc__ or "", FILE, save, blocks)


if __name__ == "__main__":
    sys.exit(main())

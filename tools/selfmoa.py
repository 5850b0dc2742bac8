"""Sums up runs of configs/selfmoa: what was carried out before and after, per stage, at what cost.

  python tools/selfmoa.py runs/a runs/b                          the tables, in markdown
  python tools/selfmoa.py adaptive-0=runs/a --save data.jsonl    keeps a line per run, with a name
  python tools/selfmoa.py data.jsonl                             the tables of kept lines

NAME-SEED=DIR names a run; without it a run is its directory's name and its config's seed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from jaxsafety.benchmarks.intervals import wilson  # noqa: E402

Line = dict[str, Any]
KEPT = ("arm", "benchmark", "metric", "value", "lo", "hi", "n")
SETS = ("plain", "wrapped", "over_refusal", "all_capability")
WRAPPED = "wrapped_val"


def read(text: str) -> list[Line]:
    """The line of a workdir, or those that were kept."""
    name, equals, place = text.rpartition("=")
    path = Path(place if equals else text)
    if path.is_file():
        return [json.loads(line) for line in path.read_text().splitlines()]
    if not (path / "artifacts" / "loop.json").is_file():
        raise SystemExit(f"selfmoa: {path} is no finished run of the loop, nor kept lines")
    artifact = lambda n: json.loads((path / "artifacts" / f"{n}.json").read_text())  # noqa: E731
    loop = artifact("loop")
    results = [json.loads(line) for line in (path / "results.jsonl").read_text().splitlines()]
    probes = sorted((path / "artifacts").glob("probe.*.json"), key=_number)
    seed = json.loads((path / "config.json").read_text())["seed"]
    return [
        {
            "run": name.rpartition("-")[0] or name or path.name,
            "seed": seed,
            "loop": loop,
            "rounds": [_round(artifact, r) for r in range(loop["rounds"])],
            "probes": [json.loads(p.read_text()) for p in probes],
            "results": [{k: r[k] for k in KEPT} for r in results if r["benchmark"] in SETS],
        }
    ]


def _number(path: Path) -> int:
    return int(path.name.split(".")[1])


def _round(artifact: Any, number: int) -> Line:
    """Yields and costs of a round; of what attackers wrote nothing is kept."""
    attack, found = artifact(f"attack.{number}"), artifact(f"round.{number}")
    return {
        "attacks": len(found["won"]),
        "won": sum(found["won"]),
        "pairs": len(found["pairs"]),
        "left_out": found["left_out"],
        "calls": found["calls"],
        "answer_tokens": found["answer_tokens"],
        "attack_tokens": attack.get("tokens", {}),
        "rejected": attack.get("rejected", {}),
    }


def rate(line: Line, arm: str, benchmark: str, metric: str) -> str:
    """A rate in percent with its interval; – where it was not measured."""
    want = (arm, benchmark, metric)
    for r in line["results"]:
        if (r["arm"], r["benchmark"], r["metric"]) == want and r["value"] is not None:
            return f"{100 * r['value']:.1f} [{100 * r['lo']:.1f}, {100 * r['hi']:.1f}]"
    return "–"


def table(lines: list[Line]) -> list[str]:
    """A row per run: greedy, all wrapped families together, Wilson intervals over prompts."""
    rows = [
        "| run | seed | wrapped, before | after | plain, after | harmless right | stages | calls |",
        "|" + "---|" * 8,
    ]
    for one in lines:
        calls = sum(sum(r["calls"].values()) for r in one["rounds"])
        cells = [
            rate(one, "base", "wrapped", "asr.greedy"),
            rate(one, "student", "wrapped", "asr.greedy"),
            rate(one, "student", "plain", "asr.greedy"),
            rate(one, "student", "over_refusal", "correct.greedy"),
        ]
        name = f"| {one['run']} | {one['seed']} | {' | '.join(cells)} |"
        rows.append(f"{name} {one['loop']['stages']} | {calls} |")
    return rows


def stages(lines: list[Line]) -> list[str]:
    """A row per run: what the probe's wrapped prompts yielded before and after each stage."""
    rows = ["| run | seed | carried out, before and after each stage | of |", "|---|---|---|---|"]
    for one in lines:
        known = [p[WRAPPED] for p in one["probes"] if p.get(WRAPPED)]
        told = ", ".join(str(p["unsafe"][0]) for p in known)
        n = known[0]["n"] if known else 0
        last = ""
        if known:
            lo, hi = wilson(known[-1]["unsafe"][0], n)
            last = f" (last {100 * lo:.0f} to {100 * hi:.0f} %)"
        rows.append(f"| {one['run']} | {one['seed']} | {told or '–'}{last} | {n} |")
    return rows


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Sums up runs of the loop.")
    parser.add_argument("runs", nargs="+", help="workdirs, NAME-SEED=DIR, or files of kept lines")
    parser.add_argument("--save", type=Path, help="where lines are kept")
    args = parser.parse_args(argv)
    lines = [line for text in args.runs for line in read(text)]
    lines.sort(key=lambda line: (line["run"], line["seed"]))
    if args.save:
        args.save.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))
    print("\n".join([*table(lines), "", *stages(lines)]))


if __name__ == "__main__":
    main()

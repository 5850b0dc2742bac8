"""A frozen model as int8 beside itself in float32: a LoRA step, decoding, tasks.

  python tests/bench/int8.py --model=DIR --data=DIR [--runs=15] [--jobs=lora,tasks] [--anyway]

DIR of the model is one in float32 (`jaxsafety export`), that of the data has PIQA, ARC and
OpenBookQA. Two processes a pair take turns, as in speed.py; the least of each counts.
Tasks are scored by log-probability, the same items both times. Rows go to
docs/performance_int8.jsonl, of which speed.py makes its page.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench import sections, speed  # noqa: E402

# name: (what one run is, the least that float32 must take of int8's time)
PAIRS = {
    "lora": ("LoRA step, rank 16, 4 x 256 tokens", 1 / 1.15),
    "lora_dots": ("the same with remat=dots on both sides", 1 / 1.15),
    "sample_1": ("64 + 64 tokens, B 1", 1.3),
    "sample_8": ("64 + 64 tokens, B 8", 1.3),
}
SETS = {"piqa": 1000, "arc_easy": 500, "openbookqa": 500}  # items of each
KINDS = ("int8", "float32")


def pair(job: str, model: Path, runs: int) -> dict[str, Any]:
    """One job, in turns; bytes are what is held beside the interpreter: weights and more."""
    seconds, told = speed.alternate(
        [speed.Side("ours.py", job, (kind,)) for kind in KINDS], model, runs
    )
    return {
        "name": job,
        "what": PAIRS[job][0],
        "seconds": seconds,
        "extra_bytes": [each["extra_bytes"] for each in told],
        "weights": [weights(model, kind) for kind in KINDS],
        "agreement": speed.agree(*(each["result"] for each in told)),
    }


def weights(model: Path, kind: str) -> int:
    """Bytes of the parameters."""
    import jax

    from jaxsafety.models.formats import hf

    params = hf.load(model, param_dtype=kind)[1]
    return sum(leaf.nbytes for leaf in jax.tree.leaves(params))


def tasks(model: Path, data: Path, sets: dict[str, int]) -> dict[str, Any]:
    """Right choices of both on the same items: shares, and the difference with its interval."""
    right = [scored(model, data, sets, kind) for kind in KINDS]
    gain = np.subtract(*right)
    wide = 1.96 * gain.std(ddof=1) / len(gain) ** 0.5
    return {
        "name": "tasks",
        "what": " + ".join(f"{n} of {name}" for name, n in sets.items()),
        "right": [float(np.mean(each)) for each in right],
        "changed": int(np.sum(gain != 0)),
        "difference": [float(gain.mean()), float(gain.mean() - wide), float(gain.mean() + wide)],
    }


def scored(model: Path, data: Path, sets: dict[str, int], kind: str) -> np.ndarray:
    """[N], 1.0 where the likeliest choice is the right one."""
    import jaxsafety
    from jaxsafety.benchmarks import suites
    from jaxsafety.evaluation import choices

    loaded, params, tokenizer = jaxsafety.load(model, param_dtype=kind)
    right: list[float] = []
    for name, count in sets.items():
        found = suites.find_sets(name, data).found[0]
        bench = found.set.open(found.path, limit=count).benchmark
        with tempfile.TemporaryDirectory() as out:
            rows = choices.measure_choices(
                loaded, params, tokenizer, [bench], Path(out), kind, chat=False
            )
            print(f"{kind}: {rows}", flush=True)
            file = next(Path(out, "generations", kind).glob("*.logp.jsonl"))
            lines = [json.loads(line) for line in file.read_text().splitlines()]
        right += [right_choice(line) for line in lines]
    return np.asarray(right)


def right_choice(line: dict[str, Any]) -> float:
    """1.0 where the likeliest choice of a kept line is the right one (`target`, its number)."""
    return float(int(np.argmax(line["logps"])) == line["target"])


def main() -> int:
    """Runs the pairs and keeps their rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--jobs", default=",".join([*PAIRS, "tasks"]))
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--sets", default=json.dumps(SETS), help="JSON: items of each set")
    parser.add_argument("--anyway", action="store_true", help="even on a busy machine")
    args = parser.parse_args()
    sets = json.loads(args.sets)
    load = os.getloadavg()[0]
    if load > speed.BUSY and not args.anyway:
        print(f"int8: load {load:.2f}; allowed: at most {speed.BUSY} (or --anyway)")
        return 2
    lines = sections.INT8.read_text().splitlines() if sections.INT8.is_file() else []
    kept = {row["name"]: row for row in map(json.loads, lines)}
    for job in args.jobs.split(","):
        if job == "tasks":
            row = tasks(args.model, args.data, sets)
        else:
            row = pair(job, args.model, args.runs)
        kept[job] = {**row, "load": load, "cpu": speed.machine()["cpu"]}
        order = [name for name in (*PAIRS, "tasks") if name in kept]
        sections.INT8.write_text("".join(json.dumps(kept[name]) + "\n" for name in order))
        told = {k: v for k, v in kept[job].items() if k != "seconds"}
        print(json.dumps(told), *map(min, row.get("seconds", ())), flush=True)
    speed.write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())

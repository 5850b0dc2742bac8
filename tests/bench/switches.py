"""XLA's flags for CPUs: our own jobs with and without each set of them.

  python tests/bench/switches.py [--runs=8] [--jobs=lora,...] [--dtype=bfloat16] [--model=DIR]
                                 [--anyway]

DIR is a model in float32; without one it is the random one of speed.py. The two processes take
turns, so both meet the same machine. Rows go to docs/performance_switches.jsonl, one per
(flags, job, version of jax, dtype), of which speed.py makes its page. Needs no peer.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench import sections, speed  # noqa: E402

JOBS = ("lora", "head_all", "sample_1", "sample_8")
DTYPES = ("float32", "bfloat16")  # of parameters and of what is computed
NO_YNN = "--xla_cpu_experimental_ynn_fusion_type="
FLAGS = (
    NO_YNN,
    f"--xla_cpu_experimental_onednn_custom_call=true {NO_YNN}",
    "--xla_cpu_experimental_onednn_custom_call=true",
    "--xla_cpu_prefer_vector_width=512",
)


def main() -> int:
    """Runs the pairs and keeps their rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0])
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--anyway", action="store_true", help="even on a busy machine")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    if load > speed.BUSY and not args.anyway:
        print(f"switches: load {load:.2f}; allowed: at most {speed.BUSY} (or --anyway)")
        return 2
    about = speed.machine()
    lines = sections.SWITCHES.read_text().splitlines() if sections.SWITCHES.is_file() else []
    kept = {(r["flags"], r["job"], r["jax"], r["dtype"]): r for r in map(json.loads, lines)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.model or Path(temporary) / "model"
        if args.model is None:
            speed.checkpoint(folder)
        for job in args.jobs.split(","):
            for flags in FLAGS:
                sides = [
                    speed.Side("ours.py", job, (args.dtype,), flags=given) for given in (flags, "")
                ]
                seconds, first = speed.alternate(sides, folder, args.runs)
                kept[flags, job, about["jax"], args.dtype] = {
                    "flags": flags,
                    "job": job,
                    "jax": about["jax"],
                    "dtype": args.dtype,
                    "cpu": about["cpu"],
                    "seconds": seconds,
                    "agreement": speed.agree(*(each["result"] for each in first)),
                    "load": load,
                }
                fast = min(seconds[1]) / min(seconds[0])
                print(f"{job} {args.dtype} {flags}: {fast:.2f}x", flush=True)
                lines = [json.dumps(row) + "\n" for row in kept.values()]
                sections.SWITCHES.write_text("".join(lines))  # a row that is measured is kept
    speed.write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())

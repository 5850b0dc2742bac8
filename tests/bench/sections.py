"""The sections of docs/performance.md whose rows other scripts keep, each in a file of its own."""

from __future__ import annotations

import json
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
REAL, GPU = DOCS / "performance_real.jsonl", DOCS / "performance_gpu.jsonl"
INT8, SWITCHES = DOCS / "performance_int8.jsonl", DOCS / "performance_switches.jsonl"


def published() -> list[str]:
    """The section of a published model; each row names the processor it was measured on."""
    head = ["## SmolLM2-135M-Instruct, two CPU cores, float32", ""]
    if not REAL.is_file():
        return [*head, "Not measured yet: `python tests/bench/real.py --model=DIR --data=DIR`."]
    head += [
        "`python tests/bench/real.py --model=DIR --data=DIR`: whole jobs, prompts in and texts or"
        " log-probabilities out, one process a side, runs alternate. First: the first run of each,"
        " with our compilation; then the least of the others.",
        "",
        "| what | peer | first, s: ours, peer | then, s: ours, peer | faster: first, then | goal |"
        " met | results | processor | runs (load) |",
        "|---" * 10 + "|",
    ]
    for row in map(json.loads, REAL.read_text().splitlines()):
        first = [times[0] for times in row["seconds"]]
        then = [min(times[1:] or times) for times in row["seconds"]]
        ratios = [first[1] / first[0], then[1] / then[0]]
        head.append(
            f"| {row['what']} | {row['peer']} | {first[0]:.1f}, {first[1]:.1f} |"
            f" {then[0]:.1f}, {then[1]:.1f} | {ratios[0]:.2f}x, {ratios[1]:.2f}x |"
            f" {row['goal']:g}x | {'yes' if min(ratios) >= row['goal'] else '**no**'} |"
            f" {row['agreement']} | {row['cpu']} | {len(row['seconds'][0])} ({row['load']:.1f}) |"
        )
    return head


def int8() -> list[str]:
    """The section of a frozen model as int8 beside itself in float32 (`tests/bench/int8.py`)."""
    head = ["## A frozen model as int8, SmolLM2-135M-Instruct, two CPU cores", ""]
    if not INT8.is_file():
        return [*head, "Not measured yet: `python tests/bench/int8.py --model=DIR --data=DIR`."]
    rows = {row["name"]: row for row in map(json.loads, INT8.read_text().splitlines())}
    head += [
        "`python tests/bench/int8.py --model=DIR --data=DIR`: two processes take turns, the"
        " least of each (decoding's rows: one run a turn). Memory: weights, and the peak above"
        " them.",
        "",
        "| what | int8, ms | float32, ms | int8 is faster | weights, MiB | peak above, MiB |"
        " processor | runs (load) |",
        "|---" * 8 + "|",
    ]
    for row in rows.values():
        if "seconds" not in row:
            continue
        ours, theirs = (min(times) for times in row["seconds"])
        weights, above = (
            ", ".join(f"{b / 2**20:.0f}" for b in row[kind]) for kind in ("weights", "extra_bytes")
        )
        head.append(
            f"| {row['what']} | {1e3 * ours:.0f} | {1e3 * theirs:.0f} | {theirs / ours:.2f}x |"
            f" {weights} | {above} | {row['cpu']} | {len(row['seconds'][0])} ({row['load']:.1f}) |"
        )
    if "tasks" in rows:
        row = rows["tasks"]
        mean, low, high = (100 * x for x in row["difference"])
        shares = ", ".join(f"{100 * x:.1f} %" for x in row["right"])
        head += [
            "",
            f"Tasks by log-probability ({row['what']}): {shares} right as int8 and in float32,"
            f" a difference of {mean:+.2f} points [{low:+.2f}, {high:+.2f}]; {row['changed']} items"
            " are answered otherwise.",
        ]
    return head


def switches() -> list[str]:
    """The section of XLA's flags (`tests/bench/switches.py`)."""
    head = ["## XLA's switches on two CPU cores", ""]
    if not SWITCHES.is_file():
        return [*head, "Not measured yet: `python tests/bench/switches.py`."]
    rows = [json.loads(line) for line in SWITCHES.read_text().splitlines()]
    jobs_of = list(dict.fromkeys(row["job"] for row in rows))
    head += [
        "`python tests/bench/switches.py`: time without the flags over time with them, the"
        " least of each, in turns; above 1 the flags win. Fewest runs and greatest load of a row's"
        " cells. None is set by us unless docs/performance_notes.md says so.",
        "",
        "| flags | " + " | ".join(jobs_of) + " | dtype; jax, processor | runs (load) |",
        "|---" * (len(jobs_of) + 3) + "|",
    ]
    kind = ("flags", "dtype", "jax", "cpu")
    for key in dict.fromkeys(tuple(r[name] for name in kind) for r in rows):
        mine = {r["job"]: r for r in rows if tuple(r[name] for name in kind) == key}
        cells = [
            f"{min(mine[job]['seconds'][1]) / min(mine[job]['seconds'][0]):.2f}x"
            if job in mine
            else "not measured"
            for job in jobs_of
        ]
        runs = min(len(r["seconds"][0]) for r in mine.values())
        load = max(r["load"] for r in mine.values())
        head.append(
            f"| `{key[0]}` | {' | '.join(cells)} | {key[1]}; {key[2]}, {key[3]} |"
            f" {runs} ({load:.1f}) |"
        )
    return head


def gpu() -> list[str]:
    """The section of the GPU figures."""
    head = ["## On a GPU, bfloat16", ""]
    if not GPU.is_file():
        return [*head, "Not measured yet: `python tests/bench/gpu.py` on a machine that has one."]
    rows = [json.loads(line) for line in GPU.read_text().splitlines()]
    columns = "model|job|tokens/s|rule|utilisation|of: TFLOP/s, TB/s|memory, GiB|device, jax|date"
    head += ["| " + columns.replace("|", " | ") + " |", "|---" * 9 + "|"]
    told = lambda value, text: "unknown" if value is None else text.format(value)  # noqa: E731
    return head + [
        f"| {r['model']} | {r['job']} | {r['tokens_per_second']:.0f} | {r['rule']} |"
        f" {told(r['utilisation'], '{:.0%}')} |"
        f" {', '.join(told(rate and rate / 1e12, '{:.3g}') for rate in r['rates'])} |"
        f" {told(r['peak_bytes'] and r['peak_bytes'] / 2**30, '{:.1f}')} |"
        f" {r['device']}, {r['jax']} | {r['date']} |"
        for r in rows
    ]

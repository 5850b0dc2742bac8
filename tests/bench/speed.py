"""Our speed beside the peers' on this machine, as ratios; writes docs/performance.md.

  python tests/bench/speed.py [--runs=15] [--jobs=lora,sample_1] [--model=DIR] [--anyway]

Needs the extra `parity`. Every pair has two processes with the same weights (safetensors, float32,
two threads) that take turns of five runs; the least of each side counts. A loaded machine is
refused. What the GPU script found (`tests/bench/gpu.py`, docs/performance_gpu.jsonl) goes into the
same page, and what `tests/bench/real.py` found on a published model (docs/performance_real.jsonl).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from jaxsafety.core import pages  # noqa: E402
from tests.bench import floors, jobs, sections  # noqa: E402

PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "docs" / "performance.jsonl"
ABOUT = ROOT / "docs" / "performance_about.json"  # the machine of RESULTS
BUSY = 0.5
TURN = 5  # timed runs of one side before the other's
# name: (our job, the peer's job, the peer, what one run is, goals: (time ratio, memory ratio))
PAIRS: dict[str, tuple[str, str, str, str, tuple[float, float | None]]] = {
    "lora": ("lora", "lora", "PEFT, eager", "LoRA step, rank 16, 4 x 256 tokens", (1.4, None)),
    "lora_dots": (
        "lora_dots",
        "lora",
        "PEFT, eager, keeps everything",
        "the same with remat=dots",
        (1.4, None),
    ),
    "dpo": (
        "dpo",
        "dpo",
        "TRL DPOTrainer, cached reference",
        "DPO step, LoRA rank 16, 4 pairs x 256 tokens",
        (1.5, 2.0),
    ),
    "head_selected": (
        "head_selected",
        "head_selected",
        "TRL GKD, full logits",
        "reverse KL, 25 % of 1024 rows, V 65,536",
        (5.0, 8.0),
    ),
    "head_all": (
        "head_all",
        "head_all",
        "TRL GKD, full logits",
        "reverse KL, 1024 rows, V 65,536",
        (1.5, None),
    ),
    "head_chunked": (
        "head_all",
        "chunked_all",
        "TRL chunked",
        "reverse KL, 1024 rows, V 65,536",
        (2.8, None),
    ),
    "sample_1": (
        "sample_1",
        "sample_1",
        "transformers generate",
        "64 + 64 tokens, B 1",
        (2.0, None),
    ),
    "sample_8": (
        "sample_8",
        "sample_8",
        "transformers generate",
        "64 + 64 tokens, B 8",
        (1.8, None),
    ),
    "experts": (
        "forward_router",
        "ours:forward_base",
        "our own base",
        "forward, 4 experts, top 2, 4 x 256 tokens",
        (1 / 1.25, None),
    ),
    "gated": (
        "gated_router",
        "gated",
        "PEFT X-LoRA generate",
        "decoding through 4 experts, per token and layer, 64 + 32 tokens, B 8",
        (10.0, None),
    ),
    "gated_x-lora": (
        "gated_x-lora",
        "gated",
        "PEFT X-LoRA generate",
        "the same with X-LoRA's gate",
        (10.0, None),
    ),
}


class Side(NamedTuple):
    """A process of a pair: a script of this folder, its job, more arguments, XLA's flags."""

    script: str
    job: str
    more: tuple[str, ...] = ()
    flags: str = ""


def start(
    script: str,
    job: str,
    folder: Path,
    more: Sequence[str] = (),
    python: str = sys.executable,
    flags: str = "",
    ours: bool = False,
) -> subprocess.Popen:
    """A side of a pair; `ours` gets large pages where the console script asks for them."""
    return subprocess.Popen(
        [python, str(Path(__file__).with_name(script)), job, str(folder), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": flags,
            **({pages.VARIABLE: pages.SETTING} if ours and large_pages() else {}),
            "TOKENIZERS_PARALLELISM": "0",
            "TQDM_DISABLE": "1",
        },
    )


def large_pages() -> bool:
    """Whether our side has them here."""
    return pages.wanted(os.environ, pages.libc(), pages.SYSTEM)


def told(process: subprocess.Popen) -> Any:
    """The next line of a side as JSON; libraries may print others."""
    assert process.stdout is not None
    for line in process.stdout:
        try:
            return json.loads(line)
        except ValueError:
            continue
    raise RuntimeError(process.stderr.read()[-2000:] if process.stderr else "it ended")


def agree(ours: Any, theirs: Any) -> str:
    """How far the two results are apart, as text."""
    if isinstance(ours, list):
        pairs = [
            (a, b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True)
        ]
        return f"{sum(a == b for a, b in pairs)} of {len(pairs)} tokens equal"
    if ours == theirs:
        return "as long"
    return f"values differ by {abs(ours - theirs) / abs(theirs):.0e}"


def turns(runs: int) -> list[int]:
    """Timed runs of each turn: TURN, and what is left."""
    return [min(TURN, runs - done) for done in range(0, runs, TURN)]


def alternate(
    given: Sequence[Side], folder: Path, runs: int
) -> tuple[list[list[float]], list[dict[str, Any]]]:
    """(seconds of each side's runs, what each told first).

    Sides take turns. The first run of a turn is not counted: in work as it is done a step follows
    a step, and where freed memory went away while the other side ran, to have a GiB back takes
    seconds (docs/performance_notes.md).
    """
    sides = [
        start(s.script, s.job, folder, s.more, flags=s.flags, ours=s.script == "ours.py")
        for s in given
    ]
    first = [told(side) for side in sides]
    seconds: list[list[float]] = [[] for _ in sides]
    for many in turns(runs):
        for side, times in zip(sides, seconds, strict=True):
            assert side.stdin is not None
            side.stdin.write("go\n" * (1 + many))
            side.stdin.flush()
            times.extend([float(told(side)) for _ in range(1 + many)][1:])
    for side in sides:
        side.communicate()
    return seconds, first


def rates(folder: Path) -> list[dict[str, float]]:
    """What each library reaches now, one after the other: ours, torch's."""
    alone = (Side(script, "floor") for script in ("ours.py", "peers.py"))
    return [alternate([side], folder, 0)[1][0]["result"] for side in alone]


def compare(name: str, folder: Path, runs: int) -> dict[str, Any]:
    """One pair, in turns, and what the machine could do meanwhile."""
    our_job, their_job, peer, what, _ = PAIRS[name]
    script, _, job = their_job.rpartition(":")
    reached = rates(folder)
    sides = [Side("ours.py", our_job), Side(f"{script or 'peers'}.py", job)]
    seconds, first = alternate(sides, folder, runs)
    return {
        "name": name,
        "what": what,
        "peer": peer,
        "seconds": seconds,
        "extra_bytes": [f["extra_bytes"] for f in first],
        "agreement": "other outputs" if script else agree(*(f["result"] for f in first)),
        "large_pages": large_pages(),
        "rates": reached,
        "floor": floors.floor(name, reached),
    }


def page(rows: list[dict[str, Any]], about: dict[str, str]) -> str:
    """docs/performance.md."""
    lines = [
        "# Performance",
        "",
        "`python tests/bench/speed.py` wrote this page (notes: docs/performance_notes.md).",
        "",
        "## Side by side, two CPU cores, float32",
        "",
        ", ".join(f"{k} {v}" for k, v in about.items()) + ".",
        "Model: a Llama of 40.0 M random parameters. Two processes per pair take turns of five"
        " runs; the least of each counts, a run before each turn does not, compilation is not in"
        " it. Memory: peak resident set above what weights and inputs take. Load: of the machine"
        " before the first run; 0 is quiet.",
        "",
        "Large pages: our side has them where a row says so, as the console script gives them to"
        " itself (jaxsafety/core/pages.py); peers run as they come.",
        "Floor: what must be multiplied and read, at the faster library's rate of that run"
        " (tests/bench/floors.py); rates are XLA's and torch's, of a product and of reading.",
        "",
        "| what | peer | ours, ms | peer, ms | faster | goal | met | floor, ms |"
        " GFLOP/s, GB/s: XLA, torch |"
        " extra memory, MiB: ours, peer | results | processor | runs (load) |",
        "|---" * 13 + "|",
    ]
    for row in rows:
        ours, theirs = (min(times) for times in row["seconds"])
        goal, less = PAIRS[row["name"]][4]
        memory = [b / 2**20 for b in row["extra_bytes"]]
        met = theirs / ours >= goal
        text = f"{memory[0]:.0f}, {memory[1]:.0f}"
        if less:
            fewer = memory[1] / max(memory[0], 1e-9)
            text += f" ({fewer:.1f}x less, goal {less:.0f}x)"
            met = met and fewer >= less
        lines.append(
            f"| {row['what']} | {row['peer']} | {1e3 * ours:.0f} | {1e3 * theirs:.0f} |"
            f" {theirs / ours:.2f}x | {goal:g}x | {'yes' if met else '**no**'} |"
            f" {_floor(row)} | {text} |"
            f" {row['agreement']}{', large pages' if row.get('large_pages') else ''} |"
            f" {row.get('cpu') or about.get('cpu', '')} |"
            f" {len(row['seconds'][0])} ({row['load']:.1f}) |"
        )
    more = (sections.published(), sections.int8(), sections.switches(), sections.gpu())
    lines += [line for part in more for line in ("", *part)]
    return "\n".join(lines) + "\n"


def _floor(row: dict[str, Any]) -> str:
    """Cells of the floor and of the rates that it stands on."""
    if row.get("floor") is None:
        return "not measured | not measured"
    pairs = [f"{r['flops'] / 1e9:.0f}, {r['bytes'] / 1e9:.0f}" for r in row["rates"]]
    return f"{1e3 * row['floor']:.0f} | {'; '.join(pairs)}"


def machine() -> dict[str, str]:
    """What the figures depend on."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((x.partition(":")[2].strip() for x in info if x.startswith("model name")), "CPU")
    names = ("jax", "torch", "transformers", "peft", "trl")
    return {
        "cpu": cpu,
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def version(name: str) -> str:
    """Of a package; what measures our side alone needs no peer."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def checkpoint(folder: Path) -> None:
    """The random model, in a process of its own: JAX beside torch slows torch down."""
    code = (
        "import jax, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from tests.bench import jobs; from jaxsafety.models.formats import hf\n"
        "from jaxsafety.models.api import ModelConfig, build\n"
        "model = build(ModelConfig(family='llama', **jobs.MODEL))\n"
        "hf.save(Path(sys.argv[1]), model, model.init(jax.random.key(0)), dtype='float32')\n"
    )
    command = [sys.executable, "-c", code, str(folder), str(ROOT)]
    subprocess.run(command, check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})


def main() -> int:
    """Runs the pairs and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--jobs", default=",".join(PAIRS))
    parser.add_argument("--model", type=Path, help="a published one: told, not written to the page")
    parser.add_argument("--anyway", action="store_true", help="even on a busy machine")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    if load > BUSY and not args.anyway:
        print(f"speed: load {load:.2f}; allowed: at most {BUSY} (or --anyway)", file=sys.stderr)
        return 2
    if args.model is not None:
        for name in args.jobs.split(","):
            row = {**compare(name, args.model, args.runs), "floor": None, "load": load}
            print(json.dumps(row), flush=True)
        return 0
    lines = RESULTS.read_text().splitlines() if RESULTS.is_file() else []
    kept = {row["name"]: row for row in map(json.loads, lines)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        checkpoint(folder)
        for name in args.jobs.split(","):
            kept[name] = {**compare(name, folder, args.runs), "load": load, "cpu": machine()["cpu"]}
            ours, theirs = (min(t) for t in kept[name]["seconds"])
            print(f"{name}: {theirs / ours:.2f}x, {kept[name]['agreement']}", flush=True)
    rows = [kept[name] for name in PAIRS if name in kept]
    RESULTS.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ABOUT.write_text(json.dumps(machine()) + "\n")
    write_page()
    print(f"model {jobs.MODEL['embed_dim']} wide")
    return 0


def write_page() -> None:
    """docs/performance.md from the rows that are kept."""
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    PAGE.write_text(page(rows, json.loads(ABOUT.read_text())))
    print(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())

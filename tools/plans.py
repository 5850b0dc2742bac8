"""Plans every config of a published model on slices of each kind; writes the README's tables.

  python tools/plans.py --jobs=2              all of them, many hours of two cores; resumes
  python tools/plans.py --table               only writes the tables again from docs/plans.jsonl

Needs the compilers (`pip install -e .[tpu,gpu-plan]`), no TPU or GPU; `--topologies` picks those
that are installed. One line of docs/plans.jsonl is one plan; "outdated" in it says what of it an
older version found otherwise, and it is made again like an error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LINES, README = ROOT / "docs" / "plans.jsonl", ROOT / "README.md"
BEGIN, END = "<!-- plans: tools/plans.py -->\n", "<!-- end of plans -->\n"
TOPOLOGIES = ("v5p:2x2x4", "v5e:4x4", "v6e:4x4", "tpu7x:2x2x1", "h100:8")
GIB = 1 << 30
UTILISATION = 0.4  # of the floor's rate, that well-tuned training reaches
DTYPES = ("stored", "trained", "computed")


def configs() -> list[str]:
    """Configs of a published model whose method has a plan."""
    from jaxsafety import registry
    from jaxsafety.core.config import load_config

    planned = {n for n in registry.METHODS if registry.resolve(registry.METHODS, n).planned}
    found = []
    for file in sorted((ROOT / "configs").glob("*/*.py")):
        cfg = load_config(str(file), [])
        if cfg.model.get("shape") and cfg.program in planned:
            found.append(str(file.relative_to(ROOT)))
    return found


def one(config: str, topology: str) -> dict[str, Any]:
    """A plan, made in a process of its own; what cannot be planned is kept as a line too.

    Raises:
      SystemExit: the compiler is not here, which says nothing of the config.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plan.json"
        command = [sys.executable, "-m", "jaxsafety", "plan", f"--config={config}"]
        command += [f"--topology={topology}", f"--json={file}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            line = done.stderr.strip().splitlines()[-1]
            if "pip install" in line:
                raise SystemExit(line)
            return {"error": line}
        return json.loads(file.read_text())


def table(rows: dict[tuple[str, str], dict[str, Any]]) -> str:
    """The table as markdown."""
    lines = [
        "| config | parameters | slice, GPUs | GiB per chip (of) | fits | step, TFLOP |"
        " step / rollout, s at least | at 40 % of that | between chips |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    outdated: dict[str, str] = {}  # why -> its mark
    for (config, topology), found in sorted(rows.items()):
        name = _short(config)
        if "error" in found:
            lines.append(f"| {name} | | {topology} | {found['error']} | | | | | |")
            continue
        mark = ""
        if "outdated" in found:
            mark = " " + outdated.setdefault(found["outdated"], "\\*" * (len(outdated) + 1))
        programs = found["programs"]
        most = max((p["hbm_per_chip"] for p in programs.values()), key=lambda m: m["sum"])
        least = [p["seconds_at_least"] for p in programs.values()]
        other = found.get("smallest_that_fits", "none listed")
        fits = "yes" if found["fits"] else f"no; smallest that does: {other}"
        lines.append(
            f"| {name} | {found['parameters'] / 1e9:.2f} B | {topology} |"
            f" {most['sum'] / GIB:.1f} ({round(most['limit'] / GIB, 2):g}){mark} | {fits} |"
            f" {programs['step']['flops'] / 1e12:.0f} | {_times(least)} |"
            f" {_times([one / UTILISATION for one in least])} |"
            f" {_times([p['seconds_between_chips'] for p in programs.values()])} |"
        )
    notes = [f"\n{mark} {why}." for why, mark in outdated.items()]
    return "\n".join([*lines, *notes]) + "\n"


def _holds(plan: dict[str, Any]) -> bool:
    return "error" not in plan and "outdated" not in plan


def _times(seconds: list[float | None]) -> str:
    return " / ".join(
        "?" if one is None else f"{one:.{2 if one >= 0.1 else 3}f}" for one in seconds
    )


def _short(config: str) -> str:
    return config.removeprefix("configs/").removesuffix(".py")


def assumed(rows: dict[tuple[str, str], dict[str, Any]]) -> str:
    """What stands behind each row, as markdown: sizes, dtypes, what several chips hold."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for (config, topology), found in sorted(rows.items()):
        if "error" in found:
            continue
        sizes, dtypes = found["rows"], found["dtypes"]
        step, said = sizes["step"], "none"
        if "rollout" in sizes:
            asked = sizes["rollout"]
            prompt = asked["tokens"] - asked["said"]
            said = f"{asked['rows']} x ({prompt} + {asked['said']})"
        several = f"{sum(found['replicated'].values()) / GIB:.2f}"
        updates = f"{found['steps']} x {found['trainings']}"
        key = (_short(config), updates, f"{step['rows']} x {step['tokens']}", said)
        key += (" / ".join(dtypes[name] for name in DTYPES), several)
        groups.setdefault(key, []).append(topology)
    lines = [
        "| config | updates x trainings | step, rows x tokens | rollout, rows x (prompt + answer) |"
        " weights stored / trained / computed in | GiB a chip on other chips too | slices, GPUs |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(key)} | {', '.join(names)} |" for key, names in groups.items()]
    return "\n".join(lines) + "\n"


def kept() -> dict[tuple[str, str], dict[str, Any]]:
    """Plans made before."""
    lines = LINES.read_text().splitlines() if LINES.is_file() else []
    rows = map(json.loads, lines)  # of two lines the later one counts
    return {(row["config"], row["topology"]): row["plan"] for row in rows}


def main() -> None:
    """Makes what is missing, a line at a time, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only write the table again")
    parser.add_argument("--topologies", default=",".join(TOPOLOGIES), metavar="NAME,...")
    parser.add_argument("--jobs", type=int, default=1, help="plans at a time, a core each")
    parser.add_argument("configs", nargs="*", help="default: all")
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f"--jobs: got {args.jobs}; allowed: 1 and more")
    from jaxsafety.core.errors import UsageError
    from jaxsafety.planning.topology import parse

    names = args.topologies.split(",")
    try:
        for name in names:
            parse(name)
    except UsageError as error:
        parser.error(str(error).replace("--topology", "--topologies"))
    rows = kept()
    asked = [(c, t) for c in ([] if args.table else args.configs or configs()) for t in names]
    missing = [key for key in asked if not _holds(rows.get(key, {"error": ""}))]

    def make(key: tuple[str, str]) -> dict[str, Any]:
        print(f"{key[0]} on {key[1]}", flush=True)
        return one(*key)

    with ThreadPoolExecutor(args.jobs) as pool:
        making = {pool.submit(make, key): key for key in missing}
        try:
            for done in as_completed(making):  # a line is kept as soon as it is made
                key = config, topology = making[done]
                rows[key] = plan = done.result()
                line = {"config": config, "topology": topology, "plan": plan}
                with LINES.open("a") as file:
                    file.write(json.dumps(line) + "\n")
        finally:
            pool.shutdown(cancel_futures=True)  # without a compiler the rest fails too
    head, begin, rest = README.read_text().partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit("README.md has lost the marks of the table")
    README.write_text(f"{head}{begin}{table(rows)}\n{assumed(rows)}{end}{tail}")
    print(f"{len(rows)} plans: README.md")


if __name__ == "__main__":
    main()

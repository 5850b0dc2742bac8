"""Plans every config of a published model on slices of each kind; writes the README's table.

  python tools/plans.py                       all of them, hours of one core; resumes
  python tools/plans.py --table               only writes the table again from docs/plans.jsonl

Needs the compilers (`pip install -e .[tpu,gpu-plan]`), no TPU or GPU; `--topologies` picks those
that are installed. One line of docs/plans.jsonl is one plan.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LINES, README = ROOT / "docs" / "plans.jsonl", ROOT / "README.md"
BEGIN, END = "<!-- plans: tools/plans.py -->\n", "<!-- end of plans -->\n"
TOPOLOGIES = ("v5p:2x2x4", "v5e:4x4", "v6e:4x4", "h100:8")
GIB = 1 << 30


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
        " step / rollout, s at least |",
        "|---|---|---|---|---|---|---|",
    ]
    for (config, topology), found in sorted(rows.items()):
        name = config.removeprefix("configs/").removesuffix(".py")
        if "error" in found:
            lines.append(f"| {name} | | {topology} | {found['error']} | | | |")
            continue
        programs = found["programs"]
        most = max((p["hbm_per_chip"] for p in programs.values()), key=lambda m: m["sum"])
        times = " / ".join(f"{p['seconds_at_least']:.2f}" for p in programs.values())
        other = found.get("smallest_that_fits", "none listed")
        fits = "yes" if found["fits"] else f"no; smallest that does: {other}"
        lines.append(
            f"| {name} | {found['parameters'] / 1e9:.2f} B | {topology} |"
            f" {most['sum'] / GIB:.1f} ({round(most['limit'] / GIB, 2):g}) | {fits} |"
            f" {programs['step']['flops'] / 1e12:.0f} | {times} |"
        )
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
    parser.add_argument("configs", nargs="*", help="default: all")
    args = parser.parse_args()
    from jaxsafety.core.errors import UsageError
    from jaxsafety.planning.topology import parse

    names = args.topologies.split(",")
    try:
        for name in names:
            parse(name)
    except UsageError as error:
        parser.error(str(error).replace("--topology", "--topologies"))
    rows = kept()
    for config in [] if args.table else (args.configs or configs()):
        for topology in names:
            if "error" not in rows.get((config, topology), {"error": ""}):
                continue  # an error is tried again
            print(f"{config} on {topology}", flush=True)
            rows[config, topology] = plan = one(config, topology)
            line = {"config": config, "topology": topology, "plan": plan}
            with LINES.open("a") as file:
                file.write(json.dumps(line) + "\n")
    head, begin, rest = README.read_text().partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit("README.md has lost the marks of the table")
    README.write_text(f"{head}{begin}{table(rows)}{end}{tail}")
    print(f"{len(rows)} plans: README.md")


if __name__ == "__main__":
    main()

"""Sums up runs of configs/selfmoa/weak.py: a row per arm, means over seeds with t-intervals.

  python tools/weak_supervision.py runs/weak                      the table, in markdown
  python tools/weak_supervision.py runs/weak --save data.jsonl    keeps a line per arm and seed
  python tools/weak_supervision.py data.jsonl                     the table of kept lines
  python tools/weak_supervision.py data.jsonl --minus 'form=modpo,accuracy=0.65'
                                                                  differences from that arm

Differences are paired by seed; from the base, which is one model, they are its value taken off.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from jaxsafety.studies.weak_supervision.results import (  # noqa: E402
    MEASURES,
    Found,
    difference,
    summarise,
)


def read(path: Path) -> dict[str, Any]:
    """The table of a workdir, or of kept lines."""
    if path.is_dir():
        return json.loads((path / "artifacts" / "table.json").read_text())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {"base": lines[0]["base"], "rows": lines[1:]}


def save(table: dict[str, Any], path: Path) -> None:
    """Keeps the base's line and one per arm and seed."""
    lines = [{"base": table["base"]}, *table["rows"]]
    path.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))


def rows(found: list[Found], minus: Found | None) -> list[str]:
    """The table in markdown, percent or points; with `minus` what each arm differs by from it."""
    names = list(MEASURES.values())
    lines = [
        "| arm | pairs | safer chosen, % | " + " | ".join(names) + " |",
        "|---" * (3 + len(names)) + "|",
    ]
    for one in found:
        if minus is one:
            continue
        right = "–" if one.right is None else f"{100 * one.right:.0f}"
        cells = []
        for name in MEASURES:
            both = name in one.values and (minus is None or name in minus.values)
            told = one.shares[name] if both and minus is None else None
            if both and minus is not None:
                told = difference(one, minus, name)
            cells.append("–" if told is None else str(told))
        lines.append(
            f"| `{one.arm or 'default'}` | {one.pairs:.0f} | {right} | {' | '.join(cells)} |"
        )
    return lines


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Sums up the study.")
    parser.add_argument("path", type=Path, help="a workdir or kept lines")
    parser.add_argument("--save", type=Path, help="where lines are kept")
    parser.add_argument("--minus", default=None, help="an arm, or base")
    args = parser.parse_args(argv)
    if not args.path.exists():
        raise SystemExit(f"weak_supervision: {args.path} is not there")
    table = read(args.path)
    if args.save:
        save(table, args.save)
    found = summarise(table)
    minus = None
    if args.minus is not None:
        named = {one.arm: one for one in found}
        if args.minus not in named:
            raise SystemExit(f"weak_supervision: no arm {args.minus!r}; known: {', '.join(named)}")
        minus = named[args.minus]
    print("\n".join(rows(found, minus)))


if __name__ == "__main__":
    main()

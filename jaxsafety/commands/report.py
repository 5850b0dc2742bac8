"""`jaxsafety report`: tables and page of a run, written again, or runs beside each other."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxsafety.commands import given, shown
from jaxsafety.core.errors import bad

HELP = "write the tables and report.html of a run again, or a page that compares runs"


def add(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--workdir", type=Path, metavar="DIR", help="a run, or what `eval` made")
    which.add_argument(
        "--compare",
        nargs="+",
        action="extend",
        type=Path,
        metavar="RUN",
        help="two runs or more, or what `eval` made; differences are those to the first",
    )
    command.add_argument("--out", type=Path, metavar="FILE.html", help="the page of --compare")
    command.epilog = (
        "report --workdir=DIR writes the report of a run again; report --compare RUN RUN "
        "--out=FILE.html puts runs beside each other on one page."
    )


def call(args: argparse.Namespace) -> None:
    """Does what was asked for."""
    if args.compare is not None:
        _compare(args.compare, args.out)
        return
    if args.out is not None:
        raise bad("--out", str(args.out), "only with --compare; a run keeps its own report")
    given.existing("--workdir", args.workdir)
    if not any((args.workdir / name).is_file() for name in ("eval.json", "results.jsonl")):
        raise bad("--workdir", str(args.workdir), "a run with results.jsonl")
    from jaxsafety.core import outputs

    outputs.directory("--workdir", args.workdir)
    shown.show(args.workdir)


def _compare(runs: list[Path], out: Path | None) -> None:
    if out is None or out.suffix.lower() not in (".html", ".htm"):
        raise bad("--out", str(out or "nothing"), "the page's file, FILE.html")
    from jaxsafety.core import outputs
    from jaxsafety.report.compare import page

    outputs.file("--out", out)
    print(page.write(runs, out))
    print(f"report: {out}")

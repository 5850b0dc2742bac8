"""`jaxsafety report`: the tables and the page of a run, written again."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxsafety.commands import given, shown
from jaxsafety.core.errors import bad

HELP = "write the tables and report.html of a run again"


def add(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    command.add_argument("--workdir", type=Path, required=True, metavar="DIR")


def call(args: argparse.Namespace) -> None:
    """Does what was asked for."""
    given.existing("--workdir", args.workdir)
    if (args.workdir / "eval.json").is_file():
        from jaxsafety.core import outputs

        outputs.directory("--workdir", args.workdir)
        shown.show(args.workdir)
        return
    if not (args.workdir / "results.jsonl").is_file():
        raise bad("--workdir", str(args.workdir), "a run with results.jsonl")
    from jaxsafety.core import outputs

    outputs.directory("--workdir", args.workdir)
    shown.show(args.workdir)

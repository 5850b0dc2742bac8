"""`jaxsafety cite`: BibTeX of the library and of the papers that a config or a run uses."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxsafety.commands import given
from jaxsafety.core.errors import bad

HELP = "print BibTeX for the library and for the papers that a config or a run uses"
AFTER = "nothing was written"


def add(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    which = command.add_mutually_exclusive_group()
    which.add_argument("--config", metavar="FILE.py[:ARG]", help="of an experiment")
    which.add_argument("--workdir", type=Path, metavar="DIR", help="a run, or what `eval` wrote")
    command.epilog = (
        "Without either it is the library alone. A set of prompts counts by its name in eval.sets; "
        "of a run also by the files that it read."
    )


def call(args: argparse.Namespace) -> None:
    """Does what was asked for."""
    if args.overrides and args.config is None:
        raise bad(f"--config.{args.overrides[0]}", "no --config", "only with --config")
    if args.workdir is not None:
        given.existing("--workdir", args.workdir)
    import jaxsafety
    from jaxsafety.core import config, disk
    from jaxsafety.experiment import workdir
    from jaxsafety.report import citing

    uses: list[citing.Use] = []
    if args.config is not None:
        uses = citing.of_config(config.plain(config.load_config(args.config, args.overrides)))
    elif args.workdir is not None:
        measured = disk.read_json(args.workdir / "eval.json")
        found = disk.read_json(args.workdir / "config.json")
        if isinstance(measured, dict):
            uses = citing.of_measurement(measured)
        elif isinstance(found, dict):
            digests = workdir.read_meta(args.workdir).get("files")
            uses = citing.of_config(found, digests if isinstance(digests, dict) else {})
        else:
            allowed = "a run with a readable config.json, or a directory of `jaxsafety eval`"
            raise bad("--workdir", str(args.workdir), allowed)
    print(citing.bibtex(uses, jaxsafety.__version__, workdir.git_hash()), end="")

"""`jaxsafety run`: a config becomes a workdir with models, numbers and a report."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from jaxsafety.commands import shown

HELP = "align a model, evaluate it before and after, write the report"
AFTER = "what was finished is kept; the same command goes on"


def add(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    command.add_argument("--config", required=True, metavar="FILE.py[:ARG]")
    command.add_argument(
        "--workdir", type=Path, metavar="DIR", help="default: runs/FOLDER-FILE-ARG"
    )
    command.add_argument(
        "--distributed",
        nargs="?",
        const="auto",
        metavar="HOST:PORT,COUNT,INDEX",
        help="one of several processes; alone it asks the cluster (a TPU pod, Slurm, MPI)",
    )
    command.epilog = (
        "--config.section.key=VALUE changes one setting; the key has to exist, and a wrong one is "
        "answered with those that do. config.json in the workdir has all of them with their values."
    )


def default_workdir(spec: str) -> Path:
    """runs/FOLDER-FILE-ARG of a `--config`: another file or argument is another directory.

    The folders are those below `configs/`; outside of it the one that holds the file.
    """
    name, _, arg = spec.partition(":")
    file = Path(name).absolute()
    folders = list(file.parts[1:-1])
    if "configs" in folders:
        last = len(folders) - 1 - folders[::-1].index("configs")
        folders = folders[last + 1 :]
    parts = [*(folders if "configs" in file.parts else folders[-1:]), file.stem, arg]
    words = [re.sub(r"[^A-Za-z0-9_.=,+-]+", "-", part).strip("-.") for part in parts]
    return Path("runs") / "-".join(word for word in words if word)


def call(args: argparse.Namespace) -> None:
    """Does what was asked for."""
    from jaxsafety.core import config

    cfg = config.load_config(args.config, args.overrides)
    workdir = args.workdir or default_workdir(args.config)
    from jaxsafety.core import hosts, outputs
    from jaxsafety.experiment import run

    if args.distributed is not None:
        hosts.start(args.distributed)
    hosts.share(lambda: outputs.directory("--workdir", workdir))
    run.run(cfg, workdir)
    if hosts.leader():
        shown.show(workdir)

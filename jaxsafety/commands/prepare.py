"""`jaxsafety prepare`: dialogues as a TFDS data set."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write dialogues as a TFDS data set (array_record)"
AFTER = "the data set is not complete"


def add(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    command.add_argument(
        "--chats", required=True, metavar="FILE", help="jsonl, ..., or owner/name:SPLIT"
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR")


def call(args: argparse.Namespace) -> None:
    """Does what was asked for."""
    from jaxsafety.core import outputs
    from jaxsafety.data.files.tfds_chats import prepare

    outputs.directory("--out", args.out)
    print(f"data: {prepare(args.chats, args.out)}")

"""`jaxsafety export`: a model directory that transformers loads."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxsafety.commands import given
from jaxsafety.core.errors import bad

HELP = "write a model directory that transformers loads"
AFTER = "nothing was exported"


def add(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    command.add_argument("--model", required=True, metavar="DIR", help="a GGUF file, or a hub id")
    command.add_argument("--adapter", type=Path, metavar="DIR", help="merges a PEFT LoRA directory")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    command.add_argument(
        "--dtype", default="", help="float32, bfloat16 or float16; default: that of --model"
    )
    command.add_argument(
        "--unsafe", action="store_true", help="merge even an adapter tagged unsafe"
    )


def call(args: argparse.Namespace) -> None:
    """Does what was asked for."""
    if args.dtype not in ("", "float32", "bfloat16", "float16"):
        raise bad("--dtype", args.dtype, "float32, bfloat16, float16")
    from jaxsafety.core import outputs

    outputs.directory("--out", args.out)
    if args.out.exists() and any(args.out.iterdir()):
        raise bad("--out", str(args.out), "a directory that does not exist yet or is empty")
    model = given.model(args.model)
    from jaxsafety.serving.export import convert

    done = convert(model, args.out, adapter=args.adapter, dtype=args.dtype, unsafe=args.unsafe)
    print(f"model: {args.out} ({done})")

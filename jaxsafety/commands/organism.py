"""`jaxsafety organism`: the base model of another invented world."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxsafety.commands import given
from jaxsafety.core.errors import bad

HELP = "train the base model of another invented world"
AFTER = "what was saved is kept; the same command goes on"


def add(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    command.add_argument("--seed", type=int, required=True)
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    command.add_argument("--steps", type=int, help="default: those of the kind's recipe")
    command.add_argument(
        "--kind",
        default="aligned",
        help="aligned; unaligned, for SafeMoE; or twin: a base before and after its alignment",
    )
    command.add_argument("--smoke", action="store_true", help="a few tiny steps")


def call(args: argparse.Namespace) -> None:
    """Does what was asked for."""
    given.seed(args.seed)
    if args.steps is not None and args.steps < 1:
        raise bad("--steps", args.steps, "1 or more")
    from jaxsafety.core import outputs

    outputs.directory("--out", args.out)
    from jaxsafety.raising import recipe, twin

    if args.kind not in twin.KINDS:
        raise bad("--kind", args.kind, ", ".join(twin.KINDS))
    if args.kind == twin.KIND:
        twin.train_twin(args.seed, args.out, steps=args.steps, smoke=args.smoke)
        print(f"models: {args.out / twin.UNALIGNED}, {args.out / twin.ALIGNED}")
        return
    recipe.train_base(args.seed, args.out, steps=args.steps, smoke=args.smoke, kind=args.kind)
    print(f"model: {args.out}")

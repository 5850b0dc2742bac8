"""`jaxsafety export`: a model directory that transformers loads, with its card, and to the hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxsafety.commands import given
from jaxsafety.core.errors import bad

HELP = "write a model directory that transformers loads, with a model card"
AFTER = "--out has a config.json where the model is whole; a push is one commit, there or not"


def add(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", metavar="DIR", help="a GGUF file, or a hub id")
    which.add_argument("--workdir", type=Path, metavar="DIR", help="what this run made")
    command.add_argument("--adapter", type=Path, metavar="DIR", help="merges a PEFT LoRA directory")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    command.add_argument(
        "--dtype", default="", help="float32, bfloat16 or float16; default: that of the model"
    )
    command.add_argument(
        "--unsafe", action="store_true", help="merge an adapter, or push a model, tagged unsafe"
    )
    command.add_argument("--push", metavar="OWNER/NAME", help="a private repository of the hub")
    command.add_argument("--public", action="store_true", help="the repository is for everyone")
    command.epilog = (
        "README.md in --out is a model card: with --workdir it has what the run learnt from and "
        "measured, with --model alone it says that nothing was measured."
    )


def call(args: argparse.Namespace) -> None:
    """Does what was asked for."""
    if args.dtype not in ("", "float32", "bfloat16", "float16"):
        raise bad("--dtype", args.dtype, "float32, bfloat16, float16")
    if args.workdir is not None and args.adapter is not None:
        raise bad("--adapter", str(args.adapter), "only with --model: a run has its own")
    if args.public and args.push is None:
        raise bad("--public", "no --push", "only with --push=owner/name")
    from jaxsafety.core import outputs

    outputs.directory("--out", args.out)
    if args.out.exists() and any(args.out.iterdir()):
        raise bad("--out", str(args.out), "a directory that does not exist yet or is empty")
    if args.workdir is not None:
        given.existing("--workdir", args.workdir)
    if args.push is not None:
        from jaxsafety.serving import publish

        publish.check(args.push)
    from jaxsafety import __version__
    from jaxsafety.report.card_numbers import missing
    from jaxsafety.serving import exported
    from jaxsafety.serving.export import export

    if args.workdir is not None:
        what = exported.of_run(args.workdir)
    else:
        what = exported.of_model(args.model, args.adapter)
    exported.check(what, args.unsafe, args.push or "")
    name = (args.push or "").rpartition("/")[2]
    done, facts = export(what, args.out, version=__version__, dtype=args.dtype, name=name)
    print(f"model: {args.out} ({done})")
    print(f"card: {args.out / exported.CARD} ({missing(facts.run) or 'with its numbers'})")
    if args.push is not None:
        from jaxsafety.serving import publish

        print(f"pushed: {publish.push(args.out, args.push, public=args.public)}")

"""`jaxsafety eval`: measures a model on public sets, or the models of a run again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxsafety.commands import given, shown
from jaxsafety.core.errors import UsageError, bad

HELP = "measure any model on public sets, or the models of a run again"
AFTER = "answers are kept; the same command goes on"

# Options that ask for sets and judges; without any of them --model is an organism's.
MEASURING = ("suite", "data", "judges", "adapter", "arm", "decodings")
MEASURING = (*MEASURING, "limit", "batch_size", "max_tokens", "seed", "reasoning")


def add(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    which = command.add_mutually_exclusive_group()
    which.add_argument("--workdir", type=Path, metavar="DIR", help="a run")
    which.add_argument("--model", metavar="DIR", help="a directory, a GGUF file or a hub id")
    command.add_argument("--out", type=Path, metavar="DIR", help="results of --model")
    given.add_reading(command)
    command.add_argument("--rejudge", action="store_true", help="judge the saved generations")
    _add_measuring(command)


def _add_measuring(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--suite", metavar="NAME,...", help="safety, over_refusal, capability, SET"
    )
    command.add_argument(
        "--data",
        action="append",
        metavar="DIR",
        help="with files of public sets; or SET=FILE, or KIND/NAME=FILE for one's own, also "
        "owner/name:SPLIT[a:b] of the hub; repeatable",
    )
    command.add_argument("--judges", metavar="NAME[=WHERE],...", help="default: rules")
    command.add_argument("--adapter", type=Path, metavar="DIR", help="a PEFT LoRA directory")
    command.add_argument("--arm", metavar="NAME", help="of the model in the results")
    command.add_argument("--decodings", metavar="NAME,...", help="greedy, t1, t07; default: greedy")
    command.add_argument(
        "--reasoning",
        metavar="OPEN,CLOSE",
        help="marks of a thought, such as <think>,</think>: judges hear what follows it",
    )
    for name, text in (
        ("limit", "prompts per set; default: all"),
        ("batch-size", "answers decoded at once"),
        ("max-tokens", "of an answer; default: what the set asks for"),
        ("seed", "of the choice of prompts and of sampling; default: 0"),
    ):
        command.add_argument(f"--{name}", type=int, metavar="N", help=text)
    command.epilog = (
        "eval --model=DIR --suite=safety,over_refusal --data=DIR --judges=rules --out=DIR measures "
        "a model; the same command goes on after a kill; eval --rejudge --judges=NAME --out=DIR "
        "judges what was said again. --workdir measures the models of a run, --model alone an "
        "organism."
    )


def call(args: argparse.Namespace) -> None:
    """Does what was asked for."""
    wanted = {name: getattr(args, name) for name in MEASURING if getattr(args, name) is not None}
    given.reading(args)  # before a hub is asked
    if args.workdir is not None:
        if wanted:
            name = next(iter(wanted))
            raise bad(f"--{name.replace('_', '-')}", wanted[name], "only with --model")
        if args.out is not None:
            raise bad("--out", str(args.out), "only with --model; a run keeps its own results")
        _refuse_reading(args, "only with --model; a run keeps its own")
        given.existing("--workdir", args.workdir)
        from jaxsafety.core import outputs
        from jaxsafety.experiment import run

        outputs.directory("--workdir", args.workdir)
        try:
            run.evaluate_workdir(args.workdir, rejudge=args.rejudge)
        except SystemExit:  # some sets are new: the report must not tell of the old ones
            shown.write(args.workdir)
            raise
        shown.show(args.workdir)
        return
    if args.model is None and not (args.rejudge and args.out):  # told as argparse does
        text = "one of the arguments --workdir --model is required (see `jaxsafety eval --help`)"
        raise UsageError(text)
    if args.out is None:
        raise bad("--out", "nothing", "a directory for the results of --model")
    if wanted or args.rejudge:
        _measure(args, wanted)
        return
    for name in ("template", "kernels"):
        if getattr(args, name):
            allowed = "with --suite or --data; an organism has its own"
            raise bad(f"--{name}", getattr(args, name), allowed)
    from jaxsafety.core import outputs

    outputs.directory("--out", args.out)
    if (args.out / "eval.json").is_file():
        allowed = "a directory without eval.json, or --suite: this one holds a measurement"
        raise bad("--out", str(args.out), allowed)
    model = given.model(str(args.model))
    from jaxsafety.experiment import run

    run.evaluate_model(model, args.out, tuple(args.variables))
    shown.show(args.out)


def _refuse_reading(args: argparse.Namespace, allowed: str) -> None:
    """Rejects what `given.reading` takes, where no model is read that it could be about."""
    for name in ("variables", "template", "kernels"):
        value = getattr(args, name)
        if value:
            raise bad(f"--{name}", value[0] if isinstance(value, list) else value, allowed)


def _measure(args: argparse.Namespace, wanted: dict[str, Any]) -> None:
    """`eval --model` with sets and judges, or `eval --rejudge --out`."""
    from jaxsafety.experiment.measuring import command
    from jaxsafety.experiment.measuring.request import Request

    for name in ("suite", "judges", "decodings"):
        if name in wanted:
            wanted[name] = tuple(part.strip() for part in wanted[name].split(",") if part.strip())
    if "reasoning" in wanted:  # also an empty mark, which is refused
        wanted["reasoning"] = tuple(wanted["reasoning"].split(","))
    wanted["data"] = tuple(wanted.get("data") or ())
    if args.rejudge:
        _refuse_reading(args, "not with --rejudge: no model is loaded")
    command.measure(
        Request(
            args.out,
            args.model or "",
            variables=tuple(args.variables),
            template=args.template,
            kernels=args.kernels or "float",
            rejudge=args.rejudge,
            **wanted,
        )
    )
    shown.show(args.out)

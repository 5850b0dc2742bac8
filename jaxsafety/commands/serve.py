"""`jaxsafety serve`: an endpoint that others drive, and a page to talk to."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxsafety.commands import given
from jaxsafety.core.errors import bad

HELP = "answer over HTTP as lm-eval, inspect_ai and OpenAI's clients ask"
AFTER = "it serves no more"

NUMBERS = (
    ("rows", 16, "requests that are answered at once"),
    ("queue", 512, "requests that may wait beside them"),
    ("max-tokens", 512, "of a chat answer whose request names no number"),
    ("context", 0, "tokens of a request and its answer; 0: the model's"),
)


def add(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    given.add_reading(command)
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--model", metavar="DIR", help="a GGUF file or a hub id; default: the shipped organism"
    )
    which.add_argument("--workdir", type=Path, metavar="DIR", help="what this run made")
    command.add_argument("--adapter", type=Path, metavar="DIR", help="a PEFT LoRA directory")
    command.add_argument("--compare", metavar="DIR", help="a second model, such as the base")
    command.add_argument("--name", default="", help="that requests call it by; default: the file's")
    command.add_argument(
        "--judges", default="rules", metavar="NAME[=WHERE],...", help="of the page; default: rules"
    )
    command.add_argument("--host", default="127.0.0.1", help="default: this machine alone")
    command.add_argument("--port", type=int, default=8000, help="default: 8000; 0: any free one")
    for name, usual, text in NUMBERS:
        text = f"{text}; default: {usual}"
        command.add_argument(f"--{name}", type=int, default=usual, metavar="N", help=text)
    command.epilog = (
        "JAXSAFETY_TOKEN in the environment is a bearer token that requests then need; without "
        "one only this machine is served."
    )


def call(args: argparse.Namespace) -> None:
    """Does what was asked for."""
    options = given.reading(args)  # before a hub is asked
    for name in ("workdir", "adapter"):
        if getattr(args, name) is not None:
            given.existing(f"--{name}", getattr(args, name))
    model = given.model(args.model) if args.model is not None else None
    other = given.model(args.compare, "--compare") if args.compare is not None else None
    if args.context < 0:
        raise bad("--context", args.context, "0 or more")
    from jaxsafety.serving.protocol import Limits

    limits = Limits(answer=args.max_tokens, rows=args.rows, queue=args.queue)
    from jaxsafety.experiment.beside import NOTHING
    from jaxsafety.serving import opening
    from jaxsafety.serving import serve as server

    own = opening.asked(args.workdir, args.model, model, options)
    if args.adapter is not None:
        if "beside" in own.options:
            raise bad("--adapter", str(args.adapter), "only with a model: a run has its own")
        served_with = NOTHING._replace(adapters=args.adapter)
        own = own._replace(options={**own.options, "beside": served_with})
    places = [own._replace(name=args.name or own.name)]
    if other is not None:
        places.append(opening.model(str(args.compare), other, options))
    server.serve(
        places,
        host=args.host,
        port=args.port,
        limits=limits,
        context=args.context,
        judges=tuple(part.strip() for part in args.judges.split(",") if part.strip()),
    )

"""`jaxsafety chat`: a model on the terminal, or two side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jaxsafety.commands import given
from jaxsafety.core.errors import bad

HELP = "talk to a model; /help lists the commands, /quit leaves"
AFTER = "the conversation is not kept"


def add(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--model",
        metavar="DIR",
        help="a directory, a GGUF file or a hub id; default: the shipped organism",
    )
    which.add_argument("--workdir", type=Path, metavar="DIR", help="what this run made")
    command.add_argument(
        "--compare",
        metavar="DIR",
        help="another model, or a run, that answers each message too; default: none",
    )
    command.add_argument("--system", default="", help="a system message; default: none")
    command.add_argument(
        "--temperature", type=float, default=0.0, help="default: 0, which is greedy"
    )
    command.add_argument(
        "--max-tokens",
        type=int,
        default=256,
        help="of an answer; default: 256, and never more than half of the context",
    )
    command.add_argument("--seed", type=int, default=0, help="of sampling; default: 0")
    given.add_reading(command)
    command.epilog = (
        "On a terminal an answer is shown while it is said, and Ctrl-C stops it. From a pipe each "
        "line is a message, and each answer is printed when it is whole."
    )


def call(args: argparse.Namespace) -> None:
    """Does what was asked for."""
    given.seed(args.seed)
    if not 0 <= args.temperature < float("inf"):  # nan too
        raise bad("--temperature", args.temperature, "0 (greedy) or more")
    if args.max_tokens < 1:
        raise bad("--max-tokens", args.max_tokens, "1 or more")
    options = given.reading(args)  # before a hub is asked
    if args.workdir is not None:
        given.existing("--workdir", args.workdir)
    model = given.model(args.model) if args.model is not None else None
    other = given.model(args.compare, "--compare") if args.compare is not None else None
    from jaxsafety.serving import opening
    from jaxsafety.serving.chat import Chat
    from jaxsafety.serving.terminal import Terminal

    places = [opening.asked(args.workdir, args.model, model, options)]
    if other is not None:
        places.append(opening.model(str(args.compare), other, options))
    chats = {
        name: Chat.open(
            place.path,
            system=args.system,
            temperature=args.temperature,
            max_tokens=args.max_tokens,
            seed=args.seed,
            **place.options,
        )
        for name, place in zip(opening.names(places), places, strict=True)
    }
    Terminal(chats, sys.stdin, sys.stdout).talk()

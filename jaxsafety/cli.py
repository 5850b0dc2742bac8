"""The console script `jaxsafety`: a command a file of `jaxsafety/commands`.

Each imports what it needs when it is called, so `--help` and a mistyped flag answer at once. A
mistake in the input is one line on stderr and exit code 2, never a traceback.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxsafety.commands import (
    chat,
    cite,
    evaluate,
    export,
    organism,
    plan,
    prepare,
    report,
    run,
    serve,
)
from jaxsafety.core import attached, compiled, overrides, pages, signals
from jaxsafety.core.errors import UsageError, bad

# The files of jaxsafety/commands, in the order of --help; what one needs it imports when called.
COMMANDS = {
    "run": run,
    "eval": evaluate,
    "report": report,
    "plan": plan,
    "chat": chat,
    "serve": serve,
    "export": export,
    "cite": cite,
    "prepare": prepare,
    "organism": organism,
}
CONFIGURED = ("run", "plan", "cite")  # those that take --config.section.key=VALUE
COMPILING = ("run", "eval", "chat", "serve", "organism")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns the exit code: 0, 2 for bad input, 130 when interrupted.

    As a program, without `argv`, it leaves at once after Ctrl-C: Python's own end crashes while XLA
    compiles.
    """
    program = argv is None
    argv = list(sys.argv[1:] if argv is None else argv)
    command = ""
    try:
        argv, given = overrides.split(argv)
        args = _parser().parse_args(argv)
        args.overrides, command = given, args.command
        if given and args.command not in CONFIGURED:
            raise bad(f"--config.{given[0]}", args.command, "only with `run`, `plan` and `cite`")
        if program and args.command in COMPILING:
            pages.begin_again()
        if args.command != "plan":  # which compiles for TPUs that are not here
            attached.skip_missing_tpus()
        # Not in somebody's own process, whose JAX is theirs; and of several processes one would
        # read what the others compile, perhaps elsewhere.
        if program and args.command in COMPILING and not getattr(args, "distributed", None):
            compiled.keep()
        with signals.watch(lambda _: f"stopping; {signals.AGAIN}", _stop, (signal.SIGINT,)):
            args.call(args)
    except UsageError as error:
        print(f"jaxsafety: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        # While `run` works it says so itself, and where it was.
        text = getattr(COMMANDS.get(command), "AFTER", "the same command starts again")
        print(f"jaxsafety: interrupted; {text}", file=sys.stderr)
        if program:
            signals.leave(signals.STOPPED)
        return signals.STOPPED
    return 0


def _stop(number: int) -> NoReturn:
    del number
    raise KeyboardInterrupt


class _Parser(argparse.ArgumentParser):
    """Argparse whose complaints are `UsageError`s like every other one."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="jaxsafety",
        description="Safety alignment of chat models in JAX, measured end to end.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        text = module.HELP
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(call=module.call)
        module.add(command)
    return parser

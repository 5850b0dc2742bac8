"""What several commands ask of what they are given, each a line where it is not so."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxsafety.core.errors import bad


def existing(field: str, path: Path) -> Path:
    """The path, which has to be a directory."""
    if not path.is_dir():
        raise bad(field, str(path), "an existing directory")
    return path


def seed(number: int) -> None:
    """Refuses a --seed that jax would not take, or take for another."""
    if not 0 <= number < 2**32:  # jax.random.key: a larger one is a smaller one, or a crash
        raise bad("--seed", number, "an integer, 0 or more, of 32 bits")


def model(text: str, field: str = "--model") -> Path:
    """The directory or GGUF file of --model, which may be a hub id."""
    from jaxsafety.models.formats import hub

    return hub.directory(text, field)


def add_reading(command: argparse.ArgumentParser) -> None:
    """Adds --variables, --template and --kernels."""
    command.add_argument(
        "--variables",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="of the chat template, such as enable_thinking=false; repeatable; default: none",
    )
    command.add_argument(
        "--template",
        default="",
        metavar="raw",
        help="raw: texts without a template, for base models; default: the model's own template",
    )
    command.add_argument(
        "--kernels",
        default="",
        metavar="int8",
        help="int8: weights in a quarter of the memory, and products that round their inputs; "
        "default: float",
    )


def reading(args: argparse.Namespace) -> dict[str, Any]:
    """What --variables, --template and --kernels say of how a model is read; "" is not given.

    Raises:
      UsageError: of any of them.
    """
    from jaxsafety.data.tokens import raw, template
    from jaxsafety.models.formats import source

    raw.check(args.template, "--template")
    variables = template.parse(args.variables, "--variables")
    source.check_kernels(args.kernels or "float", "--kernels")
    return {"variables": variables, "template": args.template, "kernels": args.kernels}

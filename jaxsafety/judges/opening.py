"""Judges by name, or by name and place: "rules", "llama_guard3=DIR".

A factory of `registry.JUDGES` is called with the organism's world (None without one) and, if it has
a second parameter, with WHERE: a directory, hub id, file or URL, "" where none was given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

from jaxsafety import registry
from jaxsafety.core.errors import bad
from jaxsafety.protocols import Judge

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def open_judge(text: str, world: Any = None) -> tuple[str, Judge]:
    """Makes a judge of `registry.JUDGES`.

    Args:
      text: NAME, or NAME=WHERE for one that needs a directory, hub id, file or URL.
      world: the organism's, for its exact judge.

    Returns:
      The name, and the judge.

    Raises:
      UsageError: an unknown name (with the nearest), a judge that takes no WHERE or needs one and
        has none, one that cannot be made.

    Example:
      >>> from jaxsafety.judges.opening import open_judge
      >>> name, judge = open_judge("rules")
      >>> name, callable(judge)
      ('rules', True)
    """
    name, equals, where = (part.strip() for part in text.partition("="))
    make = registry.resolve(registry.JUDGES, name)
    takes = takes_where(make)
    if equals and not takes:
        raise bad("judge", text, f"{name} alone: it takes no place")
    judge = make(world, where) if takes else make(world)
    if not callable(judge):
        allowed = "an entry of registry.JUDGES that makes a judge: exchanges -> verdicts"
        raise bad("judge", f"{name}, which makes {judge!r}", allowed)
    return name, cast(Judge, judge)


def takes_where(make: Callable[..., Any]) -> bool:
    """Whether a factory has a second parameter to be given WHERE by."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # one that is written in C and says nothing of itself
        return False
    return sum(p.kind in POSITIONAL for p in parameters) > 1


def required(name: str, where: str, what: str) -> str:
    """WHERE, for a factory that can do nothing without.

    Args:
      name: of the judge.
      where: what was given.
      what: what it needs, for the line.

    Raises:
      UsageError: nothing was given.
    """
    if not where:
        raise bad("judge", name, f"{name}=WHERE, {what}")
    return where

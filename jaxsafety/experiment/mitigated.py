"""What the mitigations of a program's stages ask to be served with, heard from the stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxsafety.mitigations.chain import Through
from jaxsafety.protocols import Mitigation, Program, Served, Stage, same

Serve = Callable[[Served], Served]


def hear(program: Program, hooks: list[Serve], check: Callable[[], None]) -> Program:
    """The program as it is; the `serve` hooks of its stages join `hooks`, each once.

    A program of 15 equal stages is steered once: hooks that are equal (`==`) are one.

    Args:
      program: yields stages.
      hooks: in the order in which stages brought them.
      check: called after one joined, before its stage is trained; it may raise.
    """
    given: Any = None
    while True:
        try:
            stage = program.send(given)
        except StopIteration as end:
            return end.value
        known = len(hooks)
        if isinstance(stage, Stage):
            hooks += [part for part in parts(stage.mitigation) if part not in hooks]
        if len(hooks) > known:
            check()
        given = yield stage


def parts(mitigation: Mitigation) -> list[Serve]:
    """The `serve` hooks that a mitigation is a chain of; none where it changes nothing."""
    hook: Any = mitigation.serve
    whole = hook.parts if isinstance(hook, Through) else (hook,)
    return [part for part in dict.fromkeys(whole) if part is not same]


def serve(what: Served, hooks: Sequence[Serve]) -> Served:
    """What is served after all hooks, the first first."""
    for hook in hooks:
        what = hook(what)
    return what

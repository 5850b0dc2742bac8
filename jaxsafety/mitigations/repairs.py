"""Repairs: a stage of its own that trains on from what the task left, a method as a mitigation.

Settings whose `when` is "repair" have, beside `mitigation(means)`, which says what it costs,

    begin(ctx, means, optim)        before anything is trained: refuses what will not do
    repair(job) -> Stage | None     None: there is nothing to repair

Repairs live with the method that they are made of (`methods/*/repair.py`), as they sample and
judge. Where a program compares checkpoints, each one is repaired alike, so that the earliest one is
found that reaches its goal *after* its repair.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from jaxsafety.core.errors import bad
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.mitigations.means import Means
from jaxsafety.protocols import Context, OptimConfig, Stage, Variables


class Job(NamedTuple):
    """What is to be repaired.

    Attributes:
      name: of the stage, and the beginning of its artifacts' names; unlike those of others.
      start: what training left: "base", perhaps "adapters".
      trainable: path regexes of what was trained, and is trained on.
      axes: logical axes, as of `Stage`.
      steps: updates.
      optim: of the task's stage.
      ctx: of the run.
      means: dialogues, and what else is at hand.
    """

    name: str
    start: Variables
    trainable: tuple[str, ...]
    axes: Mapping[str, Any] | None
    steps: int
    optim: OptimConfig
    ctx: Context
    means: Means


class Repair(Protocol):
    """Settings of a repair."""

    def begin(self, ctx: Context, means: Means, optim: OptimConfig) -> None:
        """Raises UsageError for what a repair would fail at; may leave artifacts."""
        ...

    def repair(self, job: Job) -> Stage | None:
        """The stage; None where there is nothing to repair."""
        ...


def check_rows(name: str, field: str, rows: int, optim: OptimConfig) -> None:
    """Refuses rows of a step that micro-batches do not divide."""
    if rows % optim.accum:
        raise bad(f"mitigations.{name}.{field}", rows, f"a multiple of optim.accum, {optim.accum}")


def check_room(name: str, means: Means, tokens: int) -> None:
    """Refuses answers to the safe dialogues that the context has no room for, `tokens` at most.

    Raises:
      UsageError: also where there are no safe dialogues.
    """
    if not means.asked or means.tokenizer is None:
        raise bad(f"mitigations.{name}", "no safe dialogue that fits", "one or more")
    context = means.model.config.max_length
    prompts = [encode_prompt(means.tokenizer, one.messages[:-1]) for one in means.asked]
    if (longest := max(map(len, prompts))) + tokens > context:
        allowed = f"{context - longest} or less: prompts have up to {longest} tokens of {context}"
        raise bad(f"mitigations.{name}.tokens", tokens, allowed)

"""Repairs: a stage of its own that trains on from what the task left, a method as a mitigation.

Settings whose `when` is "repair" have, beside `mitigation(means)`, which says what it costs,

    repair(job) -> Stage | None     None: there is nothing to repair

Repairs live with the method that they are made of (`methods/*/repair.py`), as they sample and
judge. Where a program compares checkpoints, each one is repaired alike, so that the earliest one is
found that reaches its goal *after* its repair.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

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
      optim: of the task.
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

    def repair(self, job: Job) -> Stage | None:
        """The stage; None where there is nothing to repair."""
        ...

"""Marked steps: their parameters stay, beside the checkpoints, for a program to ask for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.protocols import Context, Marked, Stage, TrainConfig
from jaxsafety.train import finished
from jaxsafety.train.assemble import mesh_of
from jaxsafety.train.checkpoint import Checkpoints, checkpoints_of

PyTree = Any


def check(stage: Stage) -> None:
    """Rejects marks that the stage does not come to."""
    for step in stage.marks:
        if not 0 < step <= stage.steps:
            raise bad("stage.marks", step, f"steps from 1 to {stage.steps}")


def save(ctx: Context, stage: Stage, step: int, params: PyTree) -> None:
    """Writes the parameters of a marked step; what was there of it is replaced."""
    marks = _marks(ctx, stage)
    marks.save(step, {"params": params})
    marks.wait()


def get(asked: Marked, begun: Mapping[str, Stage], ctx: Context, train: TrainConfig) -> Any:
    """The variables of a marked step, read when they are asked for.

    Args:
      asked: by a program.
      begun: name -> stage, with its start, of the stages with marks that the program yielded.
      ctx: of the run.
      train: uses `master`.

    Returns:
      The `finished.Left`.

    Raises:
      UsageError: no such stage before, or a step that it did not mark or come to.
    """
    stage, step = begun.get(asked.stage.name), asked.step
    given = f"step {step} of {asked.stage.name}"
    if stage is None:
        raise bad("stage.marks", given, "a stage with marks that the program has been through")
    marks = _marks(ctx, stage)
    there = [found for found in marks.steps() if found in stage.marks]
    if step not in there:
        raise bad("stage.marks", given, f"a marked step that was reached, of {there}")
    return finished.left(stage, ctx, mesh_of(ctx), train, marks, step, slim=True)


def _marks(ctx: Context, stage: Stage) -> Checkpoints:
    return checkpoints_of(ctx, f"{stage.name}.marked", sys.maxsize)

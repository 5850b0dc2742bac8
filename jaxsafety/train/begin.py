"""A stage as its mitigation makes it before the first step, with the variables it begins with."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxsafety.core import sharding, trees
from jaxsafety.protocols import Context, Stage, TrainConfig, unchanged
from jaxsafety.train import finished
from jaxsafety.train.assemble import places

PyTree = Any


def begun(stage: Stage, ctx: Context, mesh: Any, train: TrainConfig) -> Stage:
    """What `stage.mitigation.begin` makes of a stage.

    Its variables are read and placed when they are asked for, and let go with the hook: they do not
    lie beside the training state.

    Args:
      stage: its `start` are variables as of `finished.pending`, also where the stage is resumed.
      ctx: of the run.
      mesh: where the variables go.
      train: uses `master`.

    Returns:
      A stage.

    Raises:
      Preempted: the run is asked to end.
    """
    begin = stage.mitigation.begin
    if begin is unchanged:
        return stage
    assert stage.start is not None
    where = places(finished.shapes(stage.start), ctx.model, mesh, stage.axes)
    trained, frozen = trees.partition(stage.start, stage.trainable)
    start = finished.Left(trees.combine(rounded(trained, train.master), frozen), where)
    with sharding.scope(mesh):
        return begin(stage, start, ctx)


def rounded(params: PyTree, master: str) -> PyTree:
    """Parameters as training will have them, where its dtype holds less than their own."""
    size = jnp.dtype(master).itemsize

    def one(x: Any) -> Any:
        if isinstance(x, finished.Unread) or not jnp.issubdtype(x.dtype, jnp.floating):
            return x  # what an earlier stage left is rounded
        return x.astype(master) if size < x.dtype.itemsize else x

    return jax.tree.map(one, params)

"""From a stage to its training step: optimizer, pure step, shardings and shapes, assembled once.

`loop` lowers the step for arrays and `plan` for shapes; what they compile comes from here alone, so
a plan is of the program that trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import optax

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import bad
from jaxsafety.protocols import (
    EXTRA,
    Context,
    LossFn,
    Pass,
    PassLoss,
    Stage,
    TrainConfig,
    Variables,
)
from jaxsafety.train import state as states
from jaxsafety.train.optim import make_optimizer
from jaxsafety.train.state import TrainState
from jaxsafety.train.step import (
    Step,
    StepShardings,
    make_train_step,
    shard_step,
    value_and_grad,
)

PyTree = Any


class Assembled(NamedTuple):
    """The parts of a stage's step.

    `tx` the optimizer; `step` pure, `(state, frozen, batch) -> (state, metrics)`; `shardings` of
    state and frozen variables (None for the batch, whose shapes only a step knows); `abstract` the
    state as shapes.
    """

    tx: optax.GradientTransformation
    step: Step
    shardings: StepShardings
    abstract: TrainState


def assemble(stage: Stage, model: Any, mesh: Any, train: TrainConfig) -> Assembled:
    """Builds the step of a stage; computes nothing.

    Args:
      stage: its `start` are the variables, as arrays or as shapes.
      model: whose logical axes the variables follow where they have its structure; or None.
      mesh: where they go.
      train: uses `master`.

    Returns:
      The parts.

    Raises:
      UsageError: no start, and whatever optimizer, step and `trainable` reject.
    """
    if stage.start is None:
        raise bad("stage.start", None, "the variables that the stage begins with")
    hooks, accum = stage.mitigation, stage.optim.accum
    tx = hooks.update(make_optimizer(stage.optim, stage.steps, stage.rates))
    if hooks.extra and EXTRA in stage.start:
        raise bad("stage.mitigation", f"a variable named {EXTRA}", "a name that is free for it")
    own = own_loss(stage.loss) if hooks.extra else stage.loss
    step = make_train_step(
        hooks.loss(own, 1 / accum),
        tx,
        accum=accum,
        grad_fn=hooks.grad(value_and_grad),
        extra=hooks.extra,
    )
    where = places(stage.start, model, mesh, stage.axes)
    params, _ = trees.partition(stage.start, stage.trainable)
    params_places, frozen_places = trees.partition(where, stage.trainable)
    abstract = jax.eval_shape(
        lambda p: states.create(p, tx, jax.random.key(0), hooks.extra, master=train.master), params
    )
    state_places = states.state_shardings(abstract, tx, params_places, mesh)
    return Assembled(tx, step, StepShardings(state_places, frozen_places, None), abstract)


def lower(parts: Assembled, state: TrainState, frozen: PyTree, batch: PyTree) -> Any:
    """The step lowered for a batch's shapes and places; the state is donated.

    Args:
      parts: of `assemble`.
      state: arrays, or shapes with shardings; so are the other two.
      frozen: the variables that are not trained.
      batch: of one update.

    Returns:
      A `jax.stages.Lowered`.
    """
    where = jax.tree.map(lambda x: x.sharding, batch)
    jitted: Any = shard_step(parts.step, replace(parts.shardings, batch=where))
    return jitted.lower(state, frozen, batch)


@dataclass(frozen=True)
class Own:
    """The method's loss, which sees nothing of what mitigations carry."""

    loss: LossFn

    def __call__(self, params: PyTree, frozen: PyTree, batch: PyTree, key: jax.Array) -> Any:
        """Loss and metrics."""
        return self.loss(params, trees.without(frozen, EXTRA), batch, key)


@dataclass(frozen=True)
class OwnPass(Own):
    """The same of a loss whose pass others may use."""

    loss: PassLoss

    def forward(self, params: PyTree, frozen: PyTree, batch: PyTree) -> Pass:
        """The loss's pass."""
        return self.loss.forward(params, trees.without(frozen, EXTRA), batch)

    def score(self, out: Pass, batch: PyTree) -> Any:
        """The loss of it."""
        return self.loss.score(out, batch)


def own_loss(loss: LossFn) -> LossFn:
    """The method's loss as mitigations' hooks get it; one in two parts stays so."""
    return OwnPass(loss) if isinstance(loss, PassLoss) else Own(loss)


def mesh_of(ctx: Context) -> Any:
    """The mesh that a run trains on; of one device where it brings none."""
    return ctx.mesh or sharding.make_mesh(devices=jax.devices()[:1])


def places(
    variables: Variables, model: Any, mesh: Any, given: Mapping[str, PyTree] | None = None
) -> Variables:
    """Shardings per variable: `given` axes, else the model's where the structure is its own."""
    given = given or {}
    model_axes = getattr(model, "axes", None)
    model_names = trees.paths(jax.tree.map(lambda _: 0, model_axes, is_leaf=_is_names))

    def axes(name: str) -> PyTree:
        if name in given:
            return given[name]
        return model_axes if trees.paths(variables[name]) == model_names else None

    return {name: sharding.shardings(axes(name), variables[name], mesh) for name in variables}


def _is_names(x: Any) -> bool:
    return isinstance(x, tuple | jax.sharding.PartitionSpec)

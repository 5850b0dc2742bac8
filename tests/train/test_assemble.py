"""One assembly: the loop, a plan and a step written out by hand compile the same program."""

import jax
import pytest

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import UsageError
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.protocols import Stage, TrainConfig
from jaxsafety.train import state as states
from jaxsafety.train.assemble import assemble, lower
from jaxsafety.train.loop import run_stage
from jaxsafety.train.optim import make_optimizer
from jaxsafety.train.step import StepShardings, make_train_step, shard_step
from tests.train import toy

STAGE = Stage("s", toy.noisy_loss, ("base/mlp",), toy.offline, 2, toy.OPTIM, axes=toy.AXES)


def shapes(tree, where):
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, where
    )


def by_hand(mesh, master, batch):
    """The text of the step, put together without `assemble`."""
    tx = make_optimizer(toy.OPTIM, 2)
    where = sharding.shardings(toy.AXES["base"], toy.variables()["base"], mesh)
    where = {"base": where, "teacher": jax.tree.map(lambda _: sharding.replicated(mesh), where)}
    params, frozen = trees.partition(toy.variables(), STAGE.trainable)
    params_places, frozen_places = trees.partition(where, STAGE.trainable)
    abstract = jax.eval_shape(
        lambda p: states.create(p, tx, jax.random.key(0), master=master), params
    )
    places = states.state_shardings(abstract, tx, params_places, mesh)
    step = make_train_step(toy.noisy_loss, tx, accum=2)
    rows = jax.tree.map(lambda x: x.sharding, batch)
    jitted = shard_step(step, StepShardings(places, frozen_places, rows))
    return jitted.lower(shapes(abstract, places), shapes(frozen, frozen_places), batch).as_text()


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)])
@pytest.mark.parametrize("master", ["float32", "bfloat16"])
def test_loop_plan_and_hand_lower_to_the_same_text(tmp_path, monkeypatch, shape, master):
    texts = []

    def told(*args):
        found = lower(*args)
        texts.append(found.as_text())
        return found

    monkeypatch.setattr("jaxsafety.train.loop.lower", told)
    mesh, train = sharding.make_mesh(MeshConfig(*shape)), TrainConfig(progress=False, master=master)
    run_stage(STAGE, toy.variables(), toy.context(tmp_path, mesh=mesh), train)
    # As `plan` does: shapes in place of variables, state and batch.
    abstract = jax.eval_shape(toy.variables)
    parts = assemble(STAGE._replace(start=abstract), None, mesh, train)
    _, frozen = trees.partition(abstract, STAGE.trainable)
    placed = shapes(parts.abstract, parts.shardings.state), shapes(frozen, parts.shardings.frozen)
    batch = toy.batch(0)
    batch = shapes(batch, jax.tree.map(lambda x: x.sharding, sharding.global_batch(mesh, batch)))
    with sharding.scope(mesh):
        text = lower(parts, *placed, batch).as_text()
        assert text == by_hand(mesh, master, batch)
    assert texts == [text]  # two steps of one shape: lowered once


def test_a_stage_without_variables_is_refused():
    with pytest.raises(UsageError, match=r"^stage\.start: got None"):
        assemble(STAGE, None, sharding.make_mesh(), TrainConfig())

"""One device equals eight virtual ones: the same stage on several meshes."""

import jax
import numpy as np
import pytest

from jaxsafety.core import sharding, trees
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.protocols import Stage, TrainConfig
from jaxsafety.train.loop import run_stage
from jaxsafety.train.metrics import read_metrics
from tests.train import toy

TRAIN = TrainConfig(checkpoint_every=2, progress=False)
STAGE = Stage("s", toy.noisy_loss, ("base",), toy.offline, 4, toy.OPTIM, axes=toy.AXES)


def run(workdir, shape, stage=STAGE):
    mesh = sharding.make_mesh(MeshConfig(*shape))
    return run_stage(stage, toy.variables(), toy.context(workdir, mesh=mesh), TRAIN)


def losses(workdir):
    return [row["loss"] for row in read_metrics(workdir)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one")
    return run(workdir, (1, 1, 1)), losses(workdir)


def same(got, expected):
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2), (1, 8, 1)])
def test_eight_devices_equal_one(tmp_path, alone, shape):
    final = run(tmp_path, shape)
    same(final, alone[0])
    np.testing.assert_allclose(losses(tmp_path), alone[1], rtol=1e-5)
    kernel = final["base"]["mlp"]["up"]["kernel"]  # ("embed", "mlp") = fsdp x tensor
    shard = (8 // shape[1], 16 // shape[2])
    assert kernel.addressable_shards[0].data.shape == shard
    teacher = final["teacher"]["mlp"]["up"]["kernel"]
    assert teacher.sharding.is_fully_replicated  # no axes are known for it


def test_a_run_goes_on_on_another_mesh(tmp_path, alone):
    half = STAGE._replace(
        stop=lambda step, row: (_ for _ in ()).throw(KeyboardInterrupt) if step == 3 else False
    )
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, (2, 2, 2), half)
    final = run(tmp_path, (1, 1, 1))
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4]
    same(final, alone[0])
    assert trees.norm(final["base"]) != trees.norm(toy.variables()["base"])

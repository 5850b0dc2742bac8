"""What is trained on one device lies where what was loaded lies: programs are compiled once."""

import jax
import pytest

from jaxsafety.core import sharding
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.protocols import OptimConfig, Stage, TrainConfig
from jaxsafety.train.loop import run_stage
from tests.train import toy

TRAIN = TrainConfig(checkpoint_every=2, progress=False)
STAGE = Stage("s", toy.loss, ("base/mlp",), toy.offline, 2, OptimConfig())


@pytest.fixture
def compiled():
    """A program of the base, and how often it was compiled."""
    program = jax.jit(lambda base: jax.tree.map(lambda x: x * 2, base))
    return program, program._cache_size


def test_a_stage_and_its_resumption_leave_nothing_to_compile_again(tmp_path, compiled):
    program, count = compiled
    mesh = sharding.make_mesh(MeshConfig(1, 1, 1))
    loaded = sharding.settle(toy.variables(), mesh)
    program(loaded["base"])
    for _ in range(2):  # trained, then read back from its checkpoint
        left = run_stage(STAGE, loaded, toy.context(tmp_path, mesh=mesh), TRAIN)
        program(left["base"])
        assert count() == 1
    begun = STAGE._replace(name="next")  # what was trained is trained on
    program(run_stage(begun, left, toy.context(tmp_path, mesh=mesh), TRAIN)["base"])
    assert count() == 1


def test_settling_copies_nothing_and_leaves_several_devices_alone():
    one, many = (sharding.make_mesh(MeshConfig(n, 1, 1)) for n in (1, 8))
    x = jax.device_put(jax.numpy.arange(8.0), sharding.replicated(one))
    settled = sharding.settle({"x": x, "none": None}, one)
    assert settled["none"] is None and settled["x"].committed
    assert settled["x"].unsafe_buffer_pointer() == x.unsafe_buffer_pointer()
    spread = {"x": jax.device_put(x, sharding.replicated(many))}
    assert sharding.settle(spread, many) is spread

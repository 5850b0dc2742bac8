"""What mitigations carry lives where the parameters do that it mirrors, on eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import sharding, trees
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.mitigations.anchor import Anchor
from jaxsafety.mitigations.chain import chain
from jaxsafety.mitigations.ema import Ema
from jaxsafety.protocols import Extra, Mitigation, Stage, TrainConfig
from jaxsafety.train import loop
from jaxsafety.train.loop import run_stage
from tests.train import toy

COUNT = Extra(
    lambda params: {"updates": jnp.zeros((), jnp.int32), "table": jnp.zeros(3)},
    lambda tree, params, step: {**tree, "updates": tree["updates"] + 1},
)
HOOKS = chain(Anchor(0.5).mitigation(), Ema(0.9).mitigation(), Mitigation(extra={"count": COUNT}))
STAGE = Stage(
    "s", toy.noisy_loss, ("base",), toy.offline, 3, toy.OPTIM, axes=toy.AXES, mitigation=HOOKS
)
TRAIN = TrainConfig(checkpoint_every=2, progress=False)


@pytest.fixture
def states(monkeypatch):
    """The state after every step."""
    found, advance = [], loop._StageRun.advance

    def told(self, *args):
        done = advance(self, *args)
        found.append(
            jax.tree.map(lambda x: (x.sharding, x.addressable_shards[0].data.shape), self.state)
        )
        return done

    monkeypatch.setattr(loop._StageRun, "advance", told)
    return found


def run(workdir, shape):
    mesh = sharding.make_mesh(MeshConfig(*shape))
    return run_stage(STAGE, toy.variables(), toy.context(workdir, mesh=mesh), TRAIN)


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 8, 1)])
def test_no_copy_is_whole_on_every_device(tmp_path, states, shape):
    alone = run(tmp_path / "one", (1, 1, 1))
    states.clear()
    final = run(tmp_path / "many", shape)
    for state in states:
        for name in ("anchor", "ema"):
            assert state.extra[name] == state.params
        everywhere, _ = state.extra["count"]["table"]
        assert everywhere.is_fully_replicated
        where, held = state.extra["ema"]["base"]["mlp"]["up"]["kernel"]
        assert held == (8 // shape[1], 16 // shape[2]) and not where.is_fully_replicated
    assert len(states) == 3
    for a, b in zip(jax.tree.leaves(final), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    kernel = final["base"]["mlp"]["up"]["kernel"]  # the average is not gathered at the end either
    assert kernel.addressable_shards[0].data.shape == (8 // shape[1], 16 // shape[2])
    again = run(tmp_path / "many", (2, 2, 2))
    assert trees.diff(dict(again), final) == ""

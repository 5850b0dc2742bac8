"""What SafeMoE's tests stand on: a random organism whose base is unaligned, and a context on it."""

import jax
import pytest

from jaxsafety.methods.safemoe import experts
from jaxsafety.methods.safemoe import program as safemoe
from jaxsafety.organism.world import open_world
from jaxsafety.testing import random_organism
from tests.methods import tiny


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return random_organism(tmp_path_factory.mktemp("organism"), unaligned=True)


@pytest.fixture
def ctx(directory, tmp_path):
    made = tiny.context(directory, tmp_path)
    return tiny.placed(made, world=open_world(directory))


def router_stage(cfg, optim, ctx):
    """Stage 2 over two experts that do something."""
    fresh = experts.fresh(cfg.experts, ctx.model, jax.random.key(0), 2)
    table = {
        name: {**pair, "b": 0.1 * jax.random.normal(jax.random.key(1), pair["b"].shape)}
        for name, pair in fresh["experts"].items()
    }
    adapters = safemoe.add_router(cfg, ctx.model, {**fresh, "experts": table}, 0)
    return safemoe.router_stage(cfg, optim, ctx, adapters, cfg.gate)

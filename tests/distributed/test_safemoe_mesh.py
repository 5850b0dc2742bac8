"""SafeMoE's two steps on eight virtual devices equal those on one, experts split or replicated."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.adapters import routing
from jaxsafety.core import sharding, trees
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.methods.safemoe import experts
from jaxsafety.methods.safemoe import program as safemoe
from jaxsafety.methods.safemoe.config import SafeMoEConfig
from jaxsafety.methods.safemoe.experts import ExpertConfig
from jaxsafety.organism.world import open_world
from jaxsafety.protocols import OptimConfig, TrainConfig
from jaxsafety.train.loop import run_stage
from jaxsafety.train.metrics import read_metrics
from tests.methods import tiny

pytestmark = pytest.mark.distributed

TRAIN = TrainConfig(checkpoint_every=10, progress=False)
DESCENT = OptimConfig(name="sgd", lr=1.0, b1=0.0, clip=0.0, warmup=0.0, schedule="constant")
# A large eps: without it Adam makes whole steps of gradients that are nothing but rounding.
CLIPPED = OptimConfig(clip=0.05, eps=1e-3, warmup=0.0, schedule="constant")
CASES = [((8, 1, 1), False), ((2, 2, 2), False), ((2, 1, 4), True), ((1, 2, 4), True)]
METRICS = ("loss", "grad_norm", "param_norm")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"), unaligned=True)


def train(directory, workdir, shape, split, which):
    """Two steps from experts that do something: (start, end, metrics, where the experts lie)."""
    ctx = tiny.context(directory, workdir, mesh=sharding.make_mesh(MeshConfig(*shape)))
    ctx = tiny.placed(ctx, world=open_world(directory))
    cfg = SafeMoEConfig(
        experts=ExpertConfig(
            count=4, rank=4, alpha=8.0, steps=2, rows=2, answers=10, length=96, shard=split
        ),
        samples=4,
        steps=2,
        rows=8,
        std=0.5,
        routing=routing.Routing(top=0),
    )
    start = {
        **ctx.variables,
        "adapters": moved(experts.fresh(cfg.experts, ctx.model, jax.random.key(3), 4)),
    }
    if which == "experts":
        stage = next(experts.train(cfg.experts, DESCENT, ctx, cfg.samples))
        optim = dataclasses.replace(stage.optim, lr=1.0, clip_by="global")
        stage = stage._replace(steps=2, optim=optim)
    elif which == "clipped":  # as it trains: Adam, and a clip of each expert's own gradient
        stage = next(experts.train(cfg.experts, CLIPPED, ctx, cfg.samples))
        assert stage.optim.clip_by == "expert"
        stage = stage._replace(steps=2, optim=dataclasses.replace(stage.optim, lr=0.01))
    else:
        gated = safemoe.add_router(cfg, ctx.model, start["adapters"], 0)
        stage = safemoe.router_stage(cfg, DESCENT, ctx, gated, "router")
        start = {**ctx.variables, "adapters": gated}
    final = run_stage(stage, start, ctx, TRAIN)
    rows = [[row[name] for name in METRICS] for row in read_metrics(workdir)]
    place = final["adapters"]["experts"]["up"]["a"].sharding
    return *(trees.partition(v, stage.trainable)[0] for v in (start, final)), rows, place


def moved(tree):
    key = jax.random.key(5)
    return {
        **tree,
        "experts": jax.tree.map(
            lambda x: x + 0.1 * jax.random.normal(key, x.shape), tree["experts"]
        ),
    }


@pytest.fixture(scope="module", params=["experts", "clipped", "router"])
def alone(request, directory, tmp_path_factory):
    which = request.param
    return which, train(directory, tmp_path_factory.mktemp("one"), (1, 1, 1), False, which)


@pytest.mark.parametrize(("shape", "split"), CASES, ids=lambda x: str(x).replace(", ", "x"))
def test_eight_devices_equal_one(tmp_path, directory, alone, shape, split):
    which, (start, expected, rows, _) = alone
    _, final, got, place = train(directory, tmp_path, shape, split, which)
    np.testing.assert_allclose(got, rows, rtol=1e-5, atol=1e-6)
    change = jax.tree.map(lambda a, b: np.abs(a - b).max(), expected, start)
    assert min(jax.tree.leaves(change)) > 1e-6
    for a, b in zip(jax.tree.leaves(final), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    spec = place.spec
    assert (len(spec) > 1 and spec[1] == "tensor") is split  # the experts' own axis

"""The step of supervised fine-tuning on eight virtual devices equals the step on one."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.core import sharding, trees
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.methods.sft import program as sft
from jaxsafety.protocols import OptimConfig, TrainConfig
from jaxsafety.train.loop import run_stage
from jaxsafety.train.metrics import read_metrics
from tests.methods import tiny

pytestmark = pytest.mark.distributed

TRAIN = TrainConfig(checkpoint_every=10, progress=False)
# Plain descent of rate 1: what the parameters moved by is the gradient itself.
DESCENT = OptimConfig(name="sgd", lr=1.0, b1=0.0, clip=0.0, warmup=0.0, schedule="constant")
SHAPES = [(8, 1, 1), (2, 2, 2), (1, 2, 4), (1, 8, 1)]
METRICS = ("loss", "grad_norm", "param_norm")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def train(directory, workdir, shape, cfg, accum=1):
    """Two steps: (where it started, where it ended, metrics)."""
    ctx = tiny.context(directory, workdir, mesh=sharding.make_mesh(MeshConfig(*shape)))
    place = tiny.setting.make(directory, tiny.DATA, tiny.MEASURE, 0)
    ctx = tiny.placed(ctx, examples=place.examples)
    optim = dataclasses.replace(DESCENT, accum=accum)
    stage = next(sft.program(cfg, optim, ctx))
    start = stage.start or ctx.variables
    if cfg.rank:  # B starts at zero, where A has no gradient
        key = jax.random.key(3)
        moved = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(key, x.shape), start["adapters"])
        start = {**start, "adapters": {**moved, "scale": start["adapters"]["scale"]}}
    final = run_stage(stage, start, ctx, TRAIN)
    rows = [[row[name] for name in METRICS] for row in read_metrics(workdir)]
    trained, _ = trees.partition(final, stage.trainable)
    before, _ = trees.partition(start, stage.trainable)
    return before, trained, rows


@pytest.fixture(scope="module", params=[0, 4], ids=["full", "lora"])
def alone(request, directory, tmp_path_factory):
    cfg = sft.SftConfig(steps=2, rows=8, length=96, rank=request.param)
    workdir = tmp_path_factory.mktemp("one")
    return cfg, train(directory, workdir, (1, 1, 1), cfg)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_eight_devices_equal_one(tmp_path, directory, alone, shape):
    cfg, (start, expected, rows) = alone
    _, final, got = train(directory, tmp_path, shape, cfg)
    np.testing.assert_allclose(got, rows, rtol=1e-5, atol=1e-6)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), expected, start)
    assert min(jax.tree.leaves(moved)) > 1e-6  # every parameter had something to disagree about
    for a, b in zip(jax.tree.leaves(final), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    assert all(len(x.sharding.device_set) == 8 for x in jax.tree.leaves(final))


def test_accumulated_gradients_equal_one_batch(tmp_path, directory, alone):
    cfg, (_, expected, rows) = alone
    _, final, got = train(directory, tmp_path, (2, 1, 1), cfg, accum=4)
    np.testing.assert_allclose(got, rows, rtol=1e-5, atol=1e-6)
    for a, b in zip(jax.tree.leaves(final), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)

"""The step of DPO on eight virtual devices equals the step on one; so does the reference."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.core import sharding, trees
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.experiment.setting import DataConfig
from jaxsafety.methods.dpo import METHOD
from jaxsafety.methods.dpo import program as dpo
from jaxsafety.methods.dpo.config import DpoConfig
from jaxsafety.protocols import OptimConfig, TrainConfig
from jaxsafety.train.loop import run_stage
from jaxsafety.train.metrics import read_metrics
from tests.methods import tiny

pytestmark = pytest.mark.distributed

TRAIN = TrainConfig(checkpoint_every=10, progress=False)
# Plain descent: what the parameters moved by is the rate times the gradient. At rate 1 the second
# step overshoots, which makes ten of each rounding of the first.
RATE = 0.25
DESCENT = OptimConfig(name="sgd", lr=RATE, b1=0.0, clip=0.0, warmup=0.0, schedule="constant")
METRICS = ("loss", "margin", "preferred", "grad_norm", "val/loss", "val/margin")
CFG = DpoConfig(
    steps=2,
    rows=8,
    length=96,
    form="no_w0",
    weights=(1.0, 0.5),
    scores=("safe",),
    orientations=("high",),
    rank=4,
    val_every=2,
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def train(directory, workdir, shape, accum=1):
    """Two steps: (reference, trained variables, metrics)."""
    data = DataConfig(dialogues=14, holdout=3)
    place = tiny.setting.make(directory, data, tiny.MEASURE, 0, reads=METHOD.reads)
    ctx = tiny.context(directory, workdir, mesh=sharding.make_mesh(MeshConfig(*shape)))
    ctx = tiny.placed(ctx, pairs=place.pairs, held_pairs=place.held_pairs)
    with sharding.scope(ctx.mesh):
        stage = next(dpo.program(CFG, dataclasses.replace(DESCENT, accum=accum), ctx))
        # B starts at zero, where A has no gradient.
        key, tree = jax.random.key(3), stage.start["adapters"]
        moved = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(key, x.shape), tree)
        start = {**stage.start, "adapters": {**moved, "scale": tree["scale"]}}
        final = run_stage(stage, start, ctx, TRAIN)
    rows = [[row.get(name, 0.0) for name in METRICS] for row in read_metrics(workdir)]
    before, trained = (trees.partition(x, stage.trainable)[0] for x in (start, final))
    reference = ctx.artifact("reference", lambda: pytest.fail("it is kept"))["logp"]
    return reference, jax.device_get(before), trained, rows


@pytest.fixture(scope="module")
def alone(directory, tmp_path_factory):
    return train(directory, tmp_path_factory.mktemp("one"), (1, 1, 1))


@pytest.mark.parametrize(
    ("shape", "accum"), [((2, 2, 2), 1), ((1, 8, 1), 1), ((2, 1, 1), 4)], ids=str
)
def test_many_devices_and_micro_batches_equal_one(tmp_path, directory, alone, shape, accum):
    reference, start, expected, rows = alone
    told, _, final, got = train(directory, tmp_path, shape, accum)
    np.testing.assert_allclose(told, reference, rtol=1e-5)
    np.testing.assert_allclose(got, rows, rtol=1e-4, atol=1e-5)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), expected, start)
    assert min(jax.tree.leaves(moved)) > 1e-6  # every parameter had something to disagree about
    for a, b in zip(jax.tree.leaves(final), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=RATE * 1e-5)

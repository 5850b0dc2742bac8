"""The SafeSteer step on eight virtual devices equals the step on one."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.core import sharding
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.methods.safesteer import program as safesteer
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import OptimConfig, Stage, TrainConfig
from jaxsafety.train.loop import run_stage
from jaxsafety.train.metrics import read_metrics
from tests.methods import tiny

pytestmark = pytest.mark.distributed

TRAIN = TrainConfig(checkpoint_every=10, progress=False)
# Plain descent of rate 1: what the parameters moved by is the gradient itself.
DESCENT = OptimConfig(name="sgd", lr=1.0, b1=0.0, clip=0.0, warmup=0.0, schedule="constant")
SUBSET = tuple(range(9, 300, 3))
SHAPES = [(8, 1, 1), (2, 2, 2), (1, 2, 4), (1, 8, 1)]
METRICS = ("loss", "grad_norm", "param_norm", "mass/student", "mass/teacher")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def fixed(variables, step):
    """The same eight rollouts of several lengths, whoever asks."""
    del variables
    answers, prompts = (6, 3, 1, 4, 5, 2, 6, 1), (8, 5, 8, 3, 4, 7, 6, 8)
    return tiny.rollouts(800, answers, prompts, seed=step)


def train(directory, workdir, shape, on_policy):
    """Two steps: (variables, metrics, tokens of the batches)."""
    ctx = tiny.context(directory, workdir, mesh=sharding.make_mesh(MeshConfig(*shape)))
    cfg = dataclasses.replace(tiny.METHOD, rollouts=4)
    layers = tiny.teacher(ctx.model)
    loss = safesteer.localized_loss(ctx.model, cfg, "prompt")
    batches = safesteer.rollout_batches(cfg, ctx) if on_policy else fixed
    seen = []

    def recorded(variables, step):
        batch = batches(variables, step)
        seen.append(np.asarray(batch.tokens))
        return batch

    base = ctx.variables["base"]
    start = {
        "base": tiny.student(base),
        **safesteer.frozen_teacher(ctx.model, base, layers, SUBSET),
    }
    stage = Stage("distil", loss, ("base/.*",), recorded, 2, DESCENT)
    final = run_stage(stage, start, ctx, TRAIN)
    rows = [[row[name] for name in METRICS] for row in read_metrics(workdir)]
    return start, final, rows, seen


@pytest.fixture(scope="module", params=[False, True], ids=["fixed", "on_policy"])
def alone(request, directory, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one")
    return request.param, train(directory, workdir, (1, 1, 1), request.param)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_eight_devices_equal_one(tmp_path, directory, alone, shape):
    on_policy, (start, expected, rows, seen) = alone
    _, final, got, same = train(directory, tmp_path, shape, on_policy)
    np.testing.assert_array_equal(same, seen)
    np.testing.assert_allclose(got, rows, rtol=1e-5, atol=1e-6)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), expected["base"], start["base"])
    assert min(jax.tree.leaves(moved)) > 1e-4  # every parameter had something to disagree about
    for a, b in zip(jax.tree.leaves(final), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    kernel = final["base"]["blocks"]["mlp"]["up"]["kernel"]
    assert len(kernel.sharding.device_set) == 8
    assert kernel.addressable_shards[0].data.shape == (2, 32 // shape[1], 48 // shape[2])


def told(directory, workdir, shape, changes, subset):
    """Losses and parameters of two steps with a teacher's own prompts, or a set per update."""
    ctx = tiny.context(directory, workdir, mesh=sharding.make_mesh(MeshConfig(*shape)))
    cfg = dataclasses.replace(tiny.METHOD, rollouts=4, **changes)
    base = ctx.variables["base"]
    layers = LayerInputs(add=0 * tiny.teacher(ctx.model).add)
    ids = None if changes["teacher"] == "context" else SUBSET
    frozen = safesteer.frozen_teacher(ctx.model, base, layers, ids)
    batches = safesteer.rollout_batches(cfg, ctx, subset=subset)
    loss = safesteer.localized_loss(ctx.model, cfg, "all")
    stage = Stage("distil", loss, ("base/.*",), batches, 2, DESCENT)
    final = run_stage(stage, {"base": tiny.student(base), **frozen}, ctx, TRAIN)
    return [row["loss"] for row in read_metrics(workdir)], final["base"]


CONTEXT = {"teacher": "context", "context": "you are a safe helper ."}


@pytest.mark.parametrize(
    ("changes", "subset"),
    [
        ({**CONTEXT, "variant": "full"}, None),
        ({**CONTEXT, "variant": "k1"}, None),
        ({"teacher": "steered"}, lambda variables, step: np.arange(9, 40, 3) + step),
    ],
    ids=["context", "k1", "revote"],
)
def test_other_teachers_losses_and_sets_on_eight_devices(tmp_path, directory, changes, subset):
    one, alone = told(directory, tmp_path / "one", (1, 1, 1), changes, subset)
    got, spread = told(directory, tmp_path / "eight", (2, 2, 2), changes, subset)
    assert max(map(abs, one)) > 1e-5
    np.testing.assert_allclose(got, one, rtol=1e-5, atol=1e-6)
    for a, b in zip(jax.tree.leaves(spread), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

"""SafeSteer as a repair: the teacher is what the task left, steered, adapters or not."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.adapters import lora
from jaxsafety.core import trees
from jaxsafety.core.errors import UsageError
from jaxsafety.methods.safesteer.program import localized_loss
from jaxsafety.methods.safesteer.repair import SafeSteer
from jaxsafety.mitigations.means import factor
from jaxsafety.protocols import TrainConfig
from jaxsafety.train.loop import run_stage
from tests.methods import test_dpo_repair as dpo
from tests.methods import tiny

TRAIN = TrainConfig(checkpoint_every=1, progress=False)
SMALL = {"size": 4, "top": 4, "samples": 1, "horizon": 2, "floor": 0.0}
SMALL |= {"prompts": 2, "rollouts": 2, "tokens": 5, "rate": 1.0}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def job(directory, workdir, rank=0, **given):
    work, logged = dpo.job(directory, workdir, rank=rank, **{"steps": 2, **given})
    steer = tiny.teacher(work.ctx.model, size=2.0).add
    return work._replace(means=dataclasses.replace(work.means, steer=steer)), logged


@pytest.mark.parametrize("rank", (0, 2))
def test_before_its_first_update_only_the_steering_tells_them_apart(directory, tmp_path, rank):
    """Without it, the divergence of what the task left from itself is 0; with it, it is not."""
    work, _ = job(directory, tmp_path, rank)
    stage = SafeSteer(**SMALL).repair(work)
    batch = stage.batches(work.start, 0)
    params, frozen = trees.partition(stage.start, stage.trainable)
    still = {**frozen, "steering": {"add": jnp.zeros_like(frozen["steering"]["add"])}}
    value = jax.jit(stage.loss)(params, frozen, batch, jax.random.key(0))[0]
    none = jax.jit(stage.loss)(params, still, batch, jax.random.key(0))[0]
    assert value > 1e-4 and abs(none) < 1e-6


def test_with_adapters_it_is_the_loss_of_the_merged_model(directory, tmp_path):
    work, _ = job(directory, tmp_path, 2)
    stage = SafeSteer(**SMALL).repair(work)
    batch = stage.batches(work.start, 0)
    params, frozen = trees.partition(stage.start, stage.trainable)
    value = jax.jit(stage.loss)(params, frozen, batch, jax.random.key(0))[0]
    model = work.ctx.model
    merged = lora.merge(work.start["base"], work.start["adapters"], model.projections)
    names = ("steering", "safety_tokens")
    alone = {"teacher": merged, **{name: stage.start[name] for name in names}}
    want = localized_loss(model, SafeSteer(**SMALL).distil, "all")(
        {"base": merged}, alone, batch, jax.random.key(0)
    )[0]
    assert float(value) == pytest.approx(float(want), rel=1e-3)


@pytest.mark.parametrize("rank", (0, 2))
def test_it_trains_what_the_task_trained(directory, tmp_path, rank):
    work, _ = job(directory, tmp_path, rank)
    stage = SafeSteer(**SMALL).repair(work)
    left = dict(run_stage(stage, stage.start, work.ctx, TRAIN))
    assert trees.diff(
        left["adapters" if rank else "base"], work.start["adapters" if rank else "base"]
    )
    if rank:
        assert trees.diff(left["base"], work.start["base"]) == ""
        assert trees.diff(left["teacher_adapters"], work.start["adapters"]) == ""


def test_the_vote_is_of_the_base_and_kept_once(directory, tmp_path):
    work, _ = job(directory, tmp_path)
    SafeSteer(**SMALL).begin(work.ctx, work.means, dpo.OPTIM)
    kept = list((tmp_path / "artifacts").glob("token_set.*.json"))
    assert len(kept) == 1
    first = SafeSteer(**SMALL).repair(work)
    moved = {"base": jax.tree.map(lambda x: x * 1.5, work.start["base"])}
    second = SafeSteer(**SMALL).repair(work._replace(name="repair.y", start=moved))
    ids = [stage.start["safety_tokens"]["ids"] for stage in (first, second)]
    np.testing.assert_array_equal(*ids)
    assert ids[0].shape == (4,)
    SafeSteer(**{**SMALL, "size": 3}).repair(work._replace(name="repair.z"))
    kept = list((tmp_path / "artifacts").glob("token_set.*.json"))
    assert len(kept) == 2


def test_what_will_not_do_is_said_before_training(directory, tmp_path):
    work, _ = job(directory, tmp_path)
    room = work.ctx.model.config.max_length
    for changes, message in (
        ({"tokens": room}, r"mitigations\.safesteer\.tokens: got"),
        ({"rollouts": 1, "prompts": 3}, r"mitigations\.safesteer\.rollouts: got 3"),
    ):
        optim = dataclasses.replace(dpo.OPTIM, accum=2)
        with pytest.raises(UsageError, match=message):
            SafeSteer(**{**SMALL, **changes}).begin(work.ctx, work.means, optim)


def test_what_it_costs():
    means = dpo.Means(None, None, rows=8, asked=(None,) * 9)
    made = SafeSteer(prompts=2, rollouts=8).mitigation(means)
    assert factor(made.budget) == pytest.approx(1 + 1 + 2 / 3) and made.budget["safe"] == 9


@pytest.mark.parametrize(
    "bad",
    ({"coefficient": 0.0}, {"rate": math.inf}, {"on": "answers"}, {"size": 0}, {"floor": 1.0}),
)
def test_bad_settings(bad):
    with pytest.raises(UsageError, match=f"mitigations.safesteer.{next(iter(bad))}: got"):
        SafeSteer(**bad)

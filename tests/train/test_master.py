"""Masters in float32 and bfloat16: what an update does to them, what stays, resume."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import config, trees
from jaxsafety.core.errors import UsageError
from jaxsafety.protocols import OptimConfig, Stage, TrainConfig
from jaxsafety.train import state as states
from jaxsafety.train.loop import run_program, run_stage
from jaxsafety.train.metrics import read_metrics
from jaxsafety.train.optim import OPTIMIZERS, make_optimizer
from jaxsafety.train.step import make_train_step
from tests.train import toy

TRAIN = TrainConfig(checkpoint_every=5, log_every=5, progress=False)
HALF = dataclasses.replace(TRAIN, master="bfloat16")


def weights():
    """w [64]: 0.5 to 1 of either sign, on bfloat16's grid, whose spacing there is 2^-8."""
    rng = np.random.default_rng(0)
    return (rng.choice([-1, 1], 64) * (0.5 + rng.integers(0, 128, 64) / 256)).astype(np.float32)


def descend(workdir, train, lr, steps, name="sgd"):
    """Trains w downhill on sum(w): a gradient of 1, an update of -lr."""

    def loss(params, frozen, batch, key):
        del frozen, key
        return jnp.sum(params["base"]["w"].astype(jnp.float32)) * jnp.sum(batch["weight"]), {}

    optim = OptimConfig(name=name, lr=lr, b1=0.0, clip=0.0, warmup=0.0, schedule="constant")
    weight = {"weight": np.full(2, 0.5, np.float32)}
    stage = Stage("s", loss, ("base",), lambda variables, step: weight, steps, optim)
    ctx = dataclasses.replace(toy.context(workdir), variables={})
    train = dataclasses.replace(train, checkpoint_every=1000)
    return run_stage(stage, {"base": {"w": jnp.asarray(weights())}}, ctx, train)["base"]["w"]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_small_updates_add_up_in_float32_and_are_lost_in_bfloat16(tmp_path, name):
    # 1e-4 is far below half the spacing, 2^-9; a hundred of them are far above it.
    kept = descend(tmp_path / "half", HALF, 1e-4, 100, name)
    assert kept.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(kept, np.float32), weights())
    moved = descend(tmp_path / "whole", TRAIN, 1e-4, 100, name)
    assert moved.dtype == jnp.float32
    np.testing.assert_allclose(moved - weights(), -0.01, rtol=1e-3)


def test_large_updates_are_rounded_once_each(tmp_path):
    lr = 5 * 2.0**-10  # 1.25 spacings: where halves round to even, every update counts
    kept = descend(tmp_path, HALF, lr, 3)
    expected = jnp.asarray(weights(), jnp.bfloat16)
    for _ in range(3):
        expected = jnp.asarray(np.asarray(expected, np.float32) - np.float32(lr), jnp.bfloat16)
    np.testing.assert_array_equal(np.asarray(kept, np.float32), np.asarray(expected, np.float32))
    exact = weights() - np.float32(3 * lr)
    assert np.mean(np.asarray(kept, np.float32) != exact) > 0.5  # the rounding can be seen


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_keeps_its_dtypes_over_a_step(name):
    tx = make_optimizer(OptimConfig(name=name, accum=2), 10)
    params, frozen = trees.partition(toy.variables(), ("base/mlp",))
    state = states.create(params, tx, jax.random.key(0), master="bfloat16")
    held = zip(trees.paths(state), jax.tree.leaves(state), strict=True)
    held = [x.dtype for name, x in held if name.endswith("kernel")]
    assert len(held) >= 4 and set(held) == {jnp.dtype(jnp.bfloat16)}  # parameters and moments
    step = make_train_step(toy.loss, tx, accum=2)
    new, metrics = jax.eval_shape(step, state, frozen, toy.batch(0))
    assert trees.diff(jax.eval_shape(lambda: state), new) == ""
    assert {x.dtype for x in metrics.values()} == {jnp.dtype(jnp.float32)}


def test_frozen_leaves_and_the_teacher_keep_their_dtype_and_values(tmp_path):
    stage = Stage("s", toy.loss, ("base/mlp",), toy.offline, 2, toy.OPTIM)
    final = run_stage(stage, toy.variables(), toy.context(tmp_path), HALF)
    start = toy.variables()
    assert {x.dtype for x in jax.tree.leaves(final["base"]["mlp"])} == {jnp.dtype(jnp.bfloat16)}
    assert trees.diff(final["teacher"], start["teacher"]) == ""
    assert trees.diff(final["base"]["embed"], start["base"]["embed"]) == ""


def rows(workdir):
    """The metrics without what depends on the clock."""
    return [
        {k: v for k, v in row.items() if not k.startswith("time")} for row in read_metrics(workdir)
    ]


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("kill", [8, 17])  # batch number, in the first and in the second stage
def test_resume_of_a_bfloat16_run_is_bitwise(tmp_path, kill):
    whole = run_program(toy.program(), toy.context(tmp_path / "whole"), HALF)
    assert {x.dtype for x in jax.tree.leaves(whole["base"])} == {jnp.dtype(jnp.bfloat16)}
    start = jax.tree.map(lambda x: x.astype(jnp.bfloat16), toy.variables()["base"])
    assert trees.diff(whole["base"], start).count("max |difference|") == 3  # each leaf was trained
    seen = []

    def hook(step):
        if len(seen) == kill:
            raise Killed
        seen.append(step)

    with pytest.raises(Killed):
        run_program(toy.program(hook=hook), toy.context(tmp_path / "other"), HALF)
    again = []
    final = run_program(toy.program(hook=again.append), toy.context(tmp_path / "other"), HALF)
    assert len(again) == 20 - kill // 5 * 5  # it went on from the newest checkpoint
    assert trees.diff(final, whole) == ""
    assert rows(tmp_path / "other") == rows(tmp_path / "whole")


def test_an_unknown_dtype_is_one_line():
    for make in (
        lambda: TrainConfig(master="float16"),
        lambda: config.typed(TrainConfig, {"master": "float16"}, "train"),
    ):
        with pytest.raises(UsageError) as caught:
            make()
        assert str(caught.value) == "train.master: got 'float16'; allowed: float32, bfloat16"

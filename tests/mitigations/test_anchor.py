"""The anchor: its formula, accumulation, both dtypes, and that it holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.core.config import typed
from jaxsafety.core.errors import UsageError
from jaxsafety.mitigations.anchor import Anchor, Pulled
from jaxsafety.protocols import OptimConfig, Stage, TrainConfig
from jaxsafety.registry import MITIGATIONS, resolve
from jaxsafety.train.loop import run_stage
from jaxsafety.train.metrics import read_metrics
from tests.train import toy

TRAIN = TrainConfig(progress=False)


def stage(strength, accum=1, lr=0.05, steps=6):
    optim = OptimConfig(lr=lr, accum=accum, clip=0.0, warmup=0.0)
    hooks = Anchor(strength).mitigation() if strength else Stage._field_defaults["mitigation"]
    return Stage("s", toy.loss, ("base/mlp",), toy.offline, steps, optim, mitigation=hooks)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loss_and_gradient_are_the_formula_s(dtype):
    params = {"base": {"w": jnp.asarray([1.0, -2.0, 0.5], dtype), "hole": None}}
    start = {"base": {"w": jnp.asarray([0.0, -1.0, 0.5], dtype), "hole": None}}

    def loss(params, frozen, batch, key):
        return jnp.sum(params["base"]["w"].astype(jnp.float32)) * batch, {"own": batch}

    pulled = Pulled(3.0)(loss, 0.25)
    frozen = {"teacher": 0, "extra": {"anchor": start, "other": ()}}
    (value, metrics), grads = jax.value_and_grad(pulled, has_aux=True)(params, frozen, 2.0, None)
    gap = np.asarray([1.0, -1.0, 0.0], np.float32)
    assert value == 2.0 * -0.5 + 0.25 * 3.0 / 2 * np.sum(gap**2)
    assert metrics == {"own": 2.0, "anchor": 0.25 * 3.0 / 2 * 2}
    np.testing.assert_array_equal(np.float32(grads["base"]["w"]), 2.0 + 0.25 * 3.0 * gap)


@pytest.mark.parametrize("accum", [2, 4])
def test_micro_batches_add_up_to_the_term_once(tmp_path, accum):
    one, more = tmp_path / "one", tmp_path / "more"
    first = run_stage(stage(0.5), toy.variables(), toy.context(one), TRAIN)
    other = run_stage(stage(0.5, accum), toy.variables(), toy.context(more), TRAIN)
    for a, b in zip(*(read_metrics(d) for d in (one, more)), strict=True):
        assert a["anchor"] == pytest.approx(b["anchor"], rel=1e-4, abs=1e-9)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_stronger_anchor_holds_nearer(tmp_path):
    start, gaps = toy.variables()["base"], []
    for strength in (0.0, 0.3, 30.0):
        final = run_stage(
            stage(strength), toy.variables(), toy.context(tmp_path / f"{strength}"), TRAIN
        )
        gap = jax.tree.map(jnp.subtract, final["base"], start)
        gaps.append(float(trees.norm(gap)))
        if strength:  # the metric is the term at the parameters before the update
            assert read_metrics(tmp_path / f"{strength}")[0]["anchor"] == 0.0
    assert gaps[0] > gaps[1] > gaps[2] > 0


def test_settings_come_from_a_config_and_bad_ones_are_one_line():
    made = typed(resolve(MITIGATIONS, "anchor"), {"strength": 0.5}, "mitigations.anchor")
    assert made == Anchor(0.5) and made.mitigation() == Anchor(0.5).mitigation()
    for value in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=r"^mitigations\.anchor\.strength: got "):
            Anchor(value)


def test_a_variable_of_the_reserved_name_is_refused(tmp_path):
    given = {**toy.variables(), "extra": {"x": jnp.ones(2)}}
    with pytest.raises(UsageError, match=r"^stage\.mitigation: got 'a variable named extra'"):
        run_stage(stage(0.5), given, toy.context(tmp_path), TRAIN)

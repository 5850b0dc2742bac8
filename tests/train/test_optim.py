"""Schedules by value, decay mask, and bad settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxsafety.core import sharding
from jaxsafety.core.errors import UsageError
from jaxsafety.protocols import OptimConfig
from jaxsafety.train.optim import make_optimizer, make_schedule


def rates(steps=10, **settings):
    schedule = make_schedule(OptimConfig(lr=2.0, **settings), steps)
    return [float(schedule(step)) for step in range(steps)]


def test_warmup_starts_above_zero_and_reaches_the_peak():
    got = rates(schedule="constant", warmup=0.3)
    np.testing.assert_allclose(got[:4], [0.5, 1.0, 1.5, 2.0])
    np.testing.assert_allclose(got[3:], 2.0)


def test_warmup_as_transformers_counts_it_starts_at_zero():
    got = rates(25, schedule="cosine", warmup=0.1, warmup_rule="transformers")
    np.testing.assert_allclose(got[:4], [0.0, 2 / 3, 4 / 3, 2.0], rtol=1e-6)
    np.testing.assert_allclose(sum(got), 2.0 * 12.5, rtol=1e-6)  # 13.0 by the other rule
    ours = rates(25, schedule="cosine", warmup=0.1)
    np.testing.assert_allclose(ours[:3], [2 / 3, 4 / 3, 2.0], rtol=1e-6)
    np.testing.assert_allclose(sum(ours), 2.0 * 13.0, rtol=1e-6)
    none = rates(schedule="linear", warmup=0.0, warmup_rule="transformers")
    np.testing.assert_allclose(none, rates(schedule="linear", warmup=0.0))


def test_linear_and_cosine_decay_to_the_final_fraction():
    linear = rates(schedule="linear", warmup=0.0, final=0.5)
    np.testing.assert_allclose(linear, 1 + (1 - np.arange(10) / 10))
    cosine = rates(schedule="cosine", warmup=0.0)
    np.testing.assert_allclose(cosine, 1 + np.cos(np.pi * np.arange(10) / 10), rtol=1e-6)
    last = make_schedule(OptimConfig(lr=2.0, final=0.25), 10)(10)
    np.testing.assert_allclose(last, 0.5, rtol=1e-6)


def test_decay_spares_scales_and_biases():
    params = {"q": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}, "norm": {"scale": jnp.ones(2)}}
    tx = make_optimizer(OptimConfig(lr=1.0, weight_decay=0.5, schedule="constant", warmup=0.0), 4)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params)
    np.testing.assert_allclose(updates["q"]["kernel"], -0.5)
    np.testing.assert_allclose(updates["q"]["bias"], 0.0)
    np.testing.assert_allclose(updates["norm"]["scale"], 0.0)


@pytest.mark.parametrize("clip", [0.5, 0.0])
def test_clip_is_by_global_norm_and_zero_is_none(clip):
    config = OptimConfig(name="sgd", lr=1.0, b1=0.0, clip=clip, schedule="constant", warmup=0.0)
    tx = make_optimizer(config, 4)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    updates, _ = tx.update(grads, tx.init(params), params)
    scale = clip / 5 if clip else 1.0
    np.testing.assert_allclose([updates["a"][0], updates["b"][0]], [-3 * scale, -4 * scale])


def test_adam_first_update_is_the_sign():
    config = OptimConfig(name="adam", lr=0.1, clip=0.0, schedule="constant", warmup=0.0)
    tx = make_optimizer(config, 4)
    params = jnp.zeros(2)
    updates, _ = tx.update(jnp.array([3.0, -1e-3]), tx.init(params), params)
    np.testing.assert_allclose(updates, [-0.1, 0.1], rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"name": "lion"}, "optim.name"),
        ({"schedule": "cosin"}, "optim.schedule"),
        ({"warmup": 1.0}, "optim.warmup"),
        ({"warmup_rule": "ceil"}, "optim.warmup_rule"),
        ({"final": 2.0}, "optim.final"),
        ({"clip": -1.0}, "optim.clip"),
        ({"lr": -1.0}, "optim.lr"),
        ({"name": "sgd", "weight_decay": 0.1}, "optim.weight_decay"),
        ({"eps": 0.0}, "optim.eps"),
        ({"eps": 1e-60}, "optim.eps"),  # 0 in float32
        ({"eps": float("nan")}, "optim.eps"),
        ({"b1": 1.0}, "optim.b1"),
        ({"b2": 1.0 - 1e-12}, "optim.b2"),  # 1 in float32
        ({"b2": -0.1}, "optim.b2"),
        ({"weight_decay": float("nan")}, "optim.weight_decay"),
        ({"weight_decay": -0.1}, "optim.weight_decay"),
        ({"lr": float("inf")}, "optim.lr"),
        ({"clip": float("nan")}, "optim.clip"),
        ({"accum": 0}, "optim.accum"),
    ],
)
def test_bad_settings_are_refused(settings, field):
    with pytest.raises(UsageError, match=f"^{field}: got "):
        make_optimizer(OptimConfig(**settings), 4)


def test_no_steps_is_refused():
    with pytest.raises(UsageError, match="stage.steps"):
        make_optimizer(OptimConfig(), 0)


def test_muon_orthogonalises_the_kernels_of_blocks_layer_by_layer():
    config = OptimConfig(name="muon", lr=0.1, clip=0.0, schedule="constant", warmup=0.0)
    tx = make_optimizer(config, 4)
    kernels = {"q": {"kernel": (2, 8, 2, 4)}, "o": {"kernel": (2, 2, 4, 8)}}
    rng = np.random.default_rng(0)

    def stretched():  # [8,8] with singular values from 1 to 4
        u, v = (np.linalg.qr(rng.normal(size=(8, 8)))[0] for _ in range(2))
        return u @ np.diag(np.linspace(1, 4, 8)) @ v

    def kernel(shape):
        return jnp.asarray(np.stack([stretched(), stretched()]).reshape(shape), jnp.float32)

    blocks = jax.tree.map(kernel, kernels, is_leaf=lambda x: isinstance(x, tuple))
    params = {"blocks": blocks, "embed": {"table": jnp.ones((5, 8))}}
    updates, _ = tx.update(params, tx.init(params), params)
    aim = 0.2 * 8**0.5 * 0.1  # a root mean square of 0.2 of the rate; Newton-Schulz is rough
    for name in kernels:
        for layer in np.asarray(updates["blocks"][name]["kernel"]).reshape(2, 8, 8):
            values = np.linalg.svd(layer, compute_uv=False) / aim
            assert (values > 0.6).all() and (values < 1.3).all()
    # Adam's first step with Nesterov momentum: 1 + b1 (1 - b1) / (1 - b1^2) of the rate.
    np.testing.assert_allclose(updates["embed"]["table"], -0.1 * (0.9 / 1.9 + 1.0), rtol=1e-3)


def test_muon_state_is_placed_like_its_parameters():
    params = {
        "blocks": {"q": {"kernel": jnp.ones((1, 4, 4))}},
        "embed": {"table": jnp.ones((3, 4))},
    }
    tx = make_optimizer(OptimConfig(name="muon"), 4)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    rows = NamedSharding(mesh, PartitionSpec("fsdp"))
    places = jax.tree.map(lambda _: rows, params)
    placed = sharding.optimizer_shardings(tx, params, places, mesh)
    state = jax.eval_shape(tx.init, params)
    assert jax.tree.structure(placed) == jax.tree.structure(state)
    for leaf, place in zip(jax.tree.leaves(state), jax.tree.leaves(placed), strict=True):
        assert (place == rows) == (leaf.ndim > 1)


@pytest.mark.parametrize("by", ["global", "expert"])
def test_clipping_of_bfloat16_gradients_is_by_their_norm_in_float32(by):
    # 400 leaves of norm 1: their norm is 20; summed in bfloat16 it would be 16.
    config = OptimConfig(
        name="sgd", lr=1.0, b1=0.0, clip=10.0, clip_by=by, schedule="constant", warmup=0.0
    )
    tx = make_optimizer(config, 4)
    grads = {str(i): jnp.ones((1, 1), jnp.bfloat16) for i in range(400)}
    updates, _ = tx.update(grads, tx.init(grads), grads)
    assert updates["0"].dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(updates["0"], np.float32), -0.5)


def test_what_a_path_covers_learns_at_its_own_rate():
    params = {"router": {"weight": jnp.ones(2)}, "always": {"up": jnp.ones(2)}}
    config = OptimConfig(lr=1.0, schedule="constant", warmup=0.0, clip=0.0)
    grads = jax.tree.map(lambda x: 3.0 * x, params)
    plain = make_optimizer(config, 4)
    tx = make_optimizer(config, 4, (("always/.*", 0.25), ("always", 9.0)))
    one, _ = plain.update(grads, plain.init(params), params)
    two, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_array_equal(two["router"]["weight"], one["router"]["weight"])
    np.testing.assert_allclose(two["always"]["up"], 0.25 * one["always"]["up"])

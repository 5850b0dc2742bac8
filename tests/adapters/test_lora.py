"""LoRA experts: identity, mixing, merging, shapes derived from the equation."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.adapters import lora, projection
from jaxsafety.core.errors import UsageError
from jaxsafety.models.api import LayerInputs
from jaxsafety.testing import tiny_model

EXPERTS = 3


@pytest.fixture(scope="module")
def tiny():
    return tiny_model(num_layers=2)


def random_adapters(model, seed=0, experts=EXPERTS, scale=0.5):
    tree = lora.init_experts(
        jax.random.key(seed),
        model.projections,
        layers=model.config.num_layers,
        experts=experts,
        rank=2,
        scale=scale,
    )
    for i, (name, pair) in enumerate(tree["experts"].items()):
        key = jax.random.fold_in(jax.random.key(seed + 1), i)
        noise = 0.2 * jax.random.normal(key, pair["b"].shape)
        tree["experts"][name] = {"a": pair["a"], "b": noise}
    return tree


@functools.lru_cache
def jitted(model):
    return jax.jit(model.apply)


def hidden(model, params, adapters=None, mix=None):
    tokens = jax.random.randint(jax.random.key(5), (3, 6), 0, 264)
    positions = jnp.broadcast_to(jnp.arange(6), tokens.shape)
    layers = LayerInputs(adapters=adapters)
    return jitted(model)(params, tokens, positions, layers=layers, mix=mix).hidden


def test_fresh_adapters_are_the_identity(tiny):
    model, params = tiny
    fresh = lora.init_experts(jax.random.key(0), model.projections, layers=2, experts=3, rank=2)
    np.testing.assert_array_equal(hidden(model, params), hidden(model, params, fresh))
    shapes = {k: (v["a"].shape, v["b"].shape) for k, v in fresh["experts"].items()}
    assert shapes["q"] == ((2, 3, 32, 2), (2, 3, 2, 4, 8))
    assert shapes["o"] == ((2, 3, 4, 8, 2), (2, 3, 2, 32))
    assert set(shapes) == {"q", "k", "v", "o", "gate", "up", "down"}


def test_every_projection_takes_its_adapter(tiny):
    model, params = tiny
    adapters = random_adapters(model)
    plain = hidden(model, params)
    for name in adapters["experts"]:
        one = jax.tree.map(jnp.zeros_like, adapters)  # the same structure: compiled once
        one["experts"][name], one["scale"] = adapters["experts"][name], adapters["scale"]
        assert float(jnp.abs(hidden(model, params, one) - plain).max()) > 1e-3, name


def test_sequence_mix_equals_token_mix(tiny):
    model, params = tiny
    adapters = random_adapters(model)
    mix = jax.random.uniform(jax.random.key(9), (3, EXPERTS))
    tokens = jnp.broadcast_to(mix[:, None], (3, 6, EXPERTS))
    a, b = hidden(model, params, adapters, mix), hidden(model, params, adapters, tokens)
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_merged_experts_equal_mixed_experts(tiny):
    model, params = tiny
    adapters = random_adapters(model)
    gates = jnp.array([0.2, 0.0, 1.3])
    mixed = hidden(model, params, adapters, jnp.broadcast_to(gates, (3, EXPERTS)))
    merged = lora.merge(params, adapters, model.projections, gates)
    np.testing.assert_allclose(hidden(model, merged), mixed, atol=2e-5)
    back = lora.unmerge(merged, adapters, model.projections, gates)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(back), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_without_mix_experts_are_averaged(tiny):
    model, params = tiny
    adapters = random_adapters(model)
    merged = lora.merge(params, adapters, model.projections)
    np.testing.assert_allclose(hidden(model, params, adapters), hidden(model, merged), atol=2e-5)


def test_a_subset_of_projections_and_unknown_names(tiny):
    model, _ = tiny
    some = lora.init_experts(jax.random.key(0), model.projections, layers=2, names=["q", "down"])
    assert set(some["experts"]) == {"q", "down"}
    with pytest.raises(UsageError, match=r"adapters\.names: got 'query'"):
        lora.init_experts(jax.random.key(0), model.projections, layers=2, names=["query"])


def test_adapter_axes_fit_the_arrays(tiny):
    model, _ = tiny
    tree = random_adapters(model)
    axes = lora.adapter_axes(model.projections)
    fits = jax.tree.map(lambda leaf, names: leaf.ndim == len(names), tree, axes)
    assert all(jax.tree.leaves(fits))
    assert axes["experts"]["q"]["b"] == ("layers", "expert", "rank", "heads", "head_dim")


@pytest.mark.parametrize("gates", [None, (2, EXPERTS), (2, 5, EXPERTS)])
def test_the_gradient_is_that_of_the_plain_einsums(tiny, gates):
    model, _ = tiny
    for name, p in model.projections.items():
        a_shape, b_shape = (projection.lora_shapes(p, EXPERTS, 4)[k] for k in "ab")
        keys = jax.random.split(jax.random.key(len(name)), 4)
        x = jax.random.normal(keys[0], (2, 5, *projection.in_shape(p)))
        a, b = jax.random.normal(keys[1], a_shape), jax.random.normal(keys[2], b_shape)
        mix = None if gates is None else jax.random.uniform(keys[3], gates)

        def plain(x, a, b, mix, p=p):
            down, up = projection.delta_equations(p)
            z = jnp.einsum(down, x, a)
            gate = 1.0 / EXPERTS if mix is None else mix.reshape(2, -1, EXPERTS, 1)
            return jnp.sum(jnp.sin(jnp.einsum(up, 0.7 * gate * z, b)))

        def ours(x, a, b, mix, p=p):
            return jnp.sum(jnp.sin(lora.delta(p, x, a, b, mix, 0.7)))

        wanted = (0, 1, 2) if mix is None else (0, 1, 2, 3)
        found = jax.grad(ours, wanted)(x, a, b, mix)
        for one, other in zip(found, jax.grad(plain, wanted)(x, a, b, mix), strict=True):
            assert one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_what_is_always_on_is_added_whole_whatever_the_mix(tiny):
    """One more expert of weight 1 is the same; so is its merge, and it may have other targets."""
    model, params = tiny
    four = random_adapters(model, experts=EXPERTS + 1)
    table = four["experts"]
    split = {n: {k: x[:, :EXPERTS] for k, x in pair.items()} for n, pair in table.items()}
    always = {n: {k: x[:, EXPERTS:] for k, x in pair.items()} for n, pair in table.items()}
    beside = {**four, "experts": split, "always": always}
    gates = jnp.array([0.2, 0.0, 1.3])
    one = hidden(model, params, four, jnp.broadcast_to(jnp.append(gates, 1.0), (3, EXPERTS + 1)))
    other = hidden(model, params, beside, jnp.broadcast_to(gates, (3, EXPERTS)))
    np.testing.assert_allclose(one, other, atol=2e-5)
    merged = lora.merge(params, beside, model.projections, gates)
    np.testing.assert_allclose(hidden(model, merged), other, atol=2e-5)
    some = {**beside, "experts": {"up": split["up"]}, "always": {"q": always["q"]}}
    np.testing.assert_allclose(
        hidden(model, params, some),
        hidden(model, lora.merge(params, some, model.projections)),
        atol=2e-5,
    )

"""Kernels as int8: their rounding, products with them, models of them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxsafety
from jaxsafety.adapters import lora
from jaxsafety.core import trees
from jaxsafety.core.errors import UsageError
from jaxsafety.core.sharding import MeshConfig, make_mesh
from jaxsafety.data.schema import PromptBatch, TokenBatch
from jaxsafety.models import int8
from jaxsafety.models.api import build, unstacked
from jaxsafety.models.formats import hf
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling import decode
from jaxsafety.sampling.prompts import row_keys
from jaxsafety.testing import tiny_model
from jaxsafety.train.likelihood import answer_loss


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def narrow(model, params):
    """The int8 model of one in floating point, and its parameters."""
    own = build(replace(model.config, kernels="int8"))
    return own, int8.quantise(model.config, model.projections, params)


def dense(model, params):
    """The float parameters that int8 ones stand for, of the same structure as `model`'s."""
    axes = int8.contracted(model.config, model.projections)
    found = {}
    for name in axes:
        *above, last = name.split("/")
        at = params
        for key in above:
            at = at[key]
        found[name] = at[f"{last}_q"] * jnp.expand_dims(at["scale"], axes[name])
    flat = jax.eval_shape(model.init, jax.random.key(0))

    def pick(path, _):
        name = "/".join(key.key for key in path)
        if name in found:
            return found[name]
        at = params
        for key in path:
            at = at[key.key]
        return at

    return jax.tree_util.tree_map_with_path(pick, flat)


@settings(deadline=None)  # shapes compile
@given(st.integers(0, 10**6), st.sampled_from([(0,), (1,), (0, 2), (1, 2)]), st.floats(-30, 30))
def test_every_weight_is_off_by_half_a_step_at_most(seed, axes, power):
    weight = normal(seed, 3, 5, 4) * np.float32(2.0**power)
    q, scale = map(np.asarray, int8.rounded(jnp.asarray(weight), axes))
    assert q.dtype == np.int8 and q.min() >= -127 and scale.dtype == np.float32
    step = np.expand_dims(scale, axes).astype(np.float64)
    assert np.all(np.abs(weight - q * step) <= step / 2 * (1 + 1e-5))
    assert np.all(np.abs(q).max(axis=axes) == 127)  # the whole range is used


def test_zeros_and_numbers_that_are_none():
    q, scale = int8.rounded(jnp.zeros((4, 3)), (0,))
    assert not np.any(q) and not np.any(scale)
    y = int8.product(jnp.zeros((2, 4)), q, scale, 0, "float32")
    assert not np.any(y) and np.all(np.isfinite(y))
    x = jnp.asarray(normal(0, 3, 4)).at[1, 2].set(jnp.nan)
    q, scale = int8.rounded(jnp.asarray(normal(1, 4, 3)), (0,))
    y = np.asarray(int8.product(x, q, scale, 0, "float32"))
    assert np.all(np.isnan(y[1])) and np.all(np.isfinite(y[[0, 2]]))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_product_is_its_formula(rows, axis):
    x, weight = normal(2, rows, 33), normal(3, 33, 9)
    q, scale = int8.rounded(jnp.asarray(weight), (0,))
    y = int8.product(jnp.asarray(x), jnp.asarray(q).T if axis else q, scale, axis, "float32")
    own = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    whole = np.round(x / own).astype(np.int64)
    expected = (whole @ np.asarray(q, np.int64)).astype(np.float32) * own * np.asarray(scale)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    # |x W - y| <= sum |x| s / 2 + s_x / 2 sum |W_q s|, for each weight and each input is off so far
    bound = np.abs(x).sum(1, keepdims=True) * np.asarray(scale) / 2
    bound = bound + own / 2 * np.abs(np.asarray(q, np.float32) * np.asarray(scale)).sum(0)
    assert np.all(np.abs(x @ weight - y) <= bound * (1 + 1e-5))


def test_a_row_is_the_same_alone_and_among_others():
    x = normal(4, 6, 64)
    q, scale = int8.rounded(jnp.asarray(normal(5, 64, 40)), (0,))
    product = jax.jit(lambda x: int8.product(x, q, scale, 0, "float32"))
    many = product(x)
    alone = [product(x[i : i + 1]) for i in range(6)]
    np.testing.assert_array_equal(many, jnp.concatenate(alone))


@pytest.mark.parametrize("axis", [0, 1])
def test_gradient_is_the_dense_product_s(axis):
    x, g = jnp.asarray(normal(6, 5, 16)), jnp.asarray(normal(7, 5, 8))
    q, scale = int8.rounded(jnp.asarray(normal(8, 16, 8)), (0,))
    given = q.T if axis else q
    back = jax.vjp(lambda x: int8.product(x, given, scale, axis, "float32"), x)[1](g)[0]
    np.testing.assert_allclose(back, g @ (q * scale).T, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "options"),
    [("gemma2", {}), ("qwen2", {"tie_embeddings": False})],
)
def test_a_model_of_int8_is_near_the_one_in_floating_point(family, options):
    model, params = tiny_model(family, **options)
    own, small = narrow(model, params)
    assert jax.tree.structure(small) == jax.tree.structure(
        jax.eval_shape(own.init, jax.random.key(0))
    )
    axes = jax.tree.map(lambda leaf, names: leaf.ndim == len(names), small, own.axes)
    assert all(jax.tree.leaves(axes))
    tokens = jax.random.randint(jax.random.key(0), (2, 12), 0, 264)
    places = jnp.broadcast_to(jnp.arange(12), tokens.shape)

    @partial(jax.jit, static_argnums=0)
    def logits(model, params):
        return model.unembed(params, model.apply(params, tokens, places).hidden)

    full, found = logits(model, params), logits(own, small)
    rounded = logits(model, dense(model, small))
    size = float(jnp.std(full))
    assert 0 < float(jnp.std(found - rounded)) < 0.05 * size  # what rounding inputs does
    assert float(jnp.std(found - full)) < 0.1 * size
    head = dense(model, small)
    np.testing.assert_allclose(own.head(small), model.head(head), rtol=1e-6)


def test_loading_rounds_what_is_loaded(shipped, tmp_path):
    model, params, _ = jaxsafety.load()
    own, small, _ = jaxsafety.load(param_dtype="int8")
    again, expected = narrow(model, params)
    assert own is again
    jax.tree.map(np.testing.assert_array_equal, small, expected)
    size = [sum(x.nbytes for x in jax.tree.leaves(tree)) for tree in (small, params)]
    assert size[0] <= 0.3 * size[1]
    _, split = hf.load(shipped, param_dtype="int8", mesh=make_mesh(MeshConfig(fsdp=8)))
    jax.tree.map(np.testing.assert_array_equal, split, expected)
    table = split["embed"]["table_q"]
    assert table.addressable_shards[0].data.size < table.size
    with pytest.raises(UsageError, match="model.kernels: got 'int8'; allowed: float"):
        jaxsafety.export(tmp_path / "out", own, small)
    assert not (tmp_path / "out").exists()


def test_nothing_is_merged_into_int8():
    model, params = tiny_model()
    own, small = narrow(model, params)
    tree = lora.init_experts(jax.random.key(0), model.projections, layers=3, rank=2)
    with pytest.raises(UsageError, match="model.kernels"):
        lora.merge(small, tree, own.projections)


def test_decoding_is_the_forward_pass_and_no_row_sees_another():
    model, params = tiny_model()
    own, small = narrow(model, params)
    tokens = np.asarray(jax.random.randint(jax.random.key(1), (3, 6), 0, 264))
    cfg = SampleConfig(5, 0.0, stop=())

    def said(rows, params=small):
        prompts = PromptBatch(jnp.asarray(tokens[rows]), jnp.ones((len(rows), 6), bool))
        keys = row_keys(0, 0, rows, [0] * len(rows))
        return np.asarray(decode.sample(own, params, prompts, keys, cfg).tokens)

    together = said([0, 1, 2])
    for row in range(3):
        np.testing.assert_array_equal(said([row])[0], together[row])
    places = jnp.broadcast_to(jnp.arange(11), (3, 11))
    apply = jax.jit(own.apply)
    hidden = apply(small, jnp.asarray(together), places).hidden
    best = np.asarray(own.unembed(small, hidden).argmax(-1))
    np.testing.assert_array_equal(best[:, 5:-1], together[:, 6:])
    one = apply(unstacked(own.config, small), jnp.asarray(together), places).hidden
    np.testing.assert_allclose(one, hidden, atol=1e-5)


def test_adapters_learn_beside_it_as_beside_what_it_stands_for():
    model, params = tiny_model()
    own, small = narrow(model, params)
    tree = lora.init_experts(jax.random.key(0), model.projections, layers=3, rank=4)
    for pair in tree["experts"].values():
        pair["b"] = 0.1 * jax.random.normal(jax.random.key(1), pair["b"].shape)
    tokens = jax.random.randint(jax.random.key(2), (2, 16), 0, 264)
    ones = jnp.ones((2, 16), jnp.int32)
    batch = TokenBatch(tokens, jnp.broadcast_to(jnp.arange(16), (2, 16)), ones, ones / 30.0)

    def gradient(model, base):
        loss = answer_loss(model, train_head=False)
        trained, frozen = trees.partition({"base": base, "adapters": tree}, ("adapters/.*",))

        def of(trained):
            return loss(trained, frozen, batch, jax.random.key(0))[0]

        value, found = jax.jit(jax.value_and_grad(of))(trained)
        return value, found["adapters"]

    value, found = gradient(own, small)
    near, expected = gradient(model, dense(model, small))
    assert abs(value - near) < 0.02 * near
    for name, pair in expected["experts"].items():
        for part, theirs in pair.items():
            ours = np.ravel(found["experts"][name][part])
            theirs = np.ravel(theirs)
            cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
            assert cosine > 0.97, (name, part, cosine)

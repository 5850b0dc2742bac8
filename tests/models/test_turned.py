"""Kernels that lie turned for steps of few rows: the same numbers, and XLA leaves them so."""

from __future__ import annotations

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsafety.adapters import lora
from jaxsafety.core import trees
from jaxsafety.core.settings import SampleConfig
from jaxsafety.models import int8, turned
from jaxsafety.models.api import LayerInputs, build, init_cache, unstacked
from jaxsafety.sampling import decode, many
from jaxsafety.sampling.prompts import pad_prompts, row_keys
from jaxsafety.testing import tiny_model

FAMILIES = ("llama", "qwen2", "gemma2", "olmo2")


def unrolled(family: str, **changes):
    """(model whose steps are unrolled, parameters)."""
    model, params = tiny_model(family, **changes)
    return build(replace(model.config, unroll=True)), params


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 80), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_a_product_is_the_plain_one(rows, inputs, outputs, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, inputs)).astype(np.float32)
    kernel = rng.standard_normal((inputs, outputs)).astype(np.float32)
    y = turned.product(jnp.asarray(x), turned.turn(jnp.asarray(kernel), inputs))
    assert y.shape == (rows, outputs) and y.dtype == jnp.float32
    np.testing.assert_allclose(y, x.astype(np.float64) @ kernel, rtol=1e-4, atol=1e-4)


def test_one_layer_of_a_stack_is_turned():
    stack = jnp.arange(2 * 3 * 4 * 5, dtype=jnp.float32).reshape(2, 3, 4, 5)
    for layer in range(2):
        found = turned.turn(stack, 12, layer)
        np.testing.assert_array_equal(found, np.asarray(stack[layer]).reshape(12, 5).T)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
def test_a_step_is_the_plain_one(family, tied):
    """With adapters too; biases, norms and tied tables stay what they are."""
    model, params = unrolled(family, tie_embeddings=tied)
    own = unstacked(model.config, params, rows=3)
    names = trees.paths(own["blocks"])
    assert any(name.endswith(turned.TURNED) for name in names)
    assert not any(name.endswith("kernel") for name in names)
    depth = model.config.num_layers
    tree = lora.init_experts(jax.random.key(1), model.projections, layers=depth, rank=2)
    layers = LayerInputs(adapters=jax.tree.map(lambda x: x + 0.05, tree))
    tokens = jnp.asarray([[5], [6], [7]], jnp.int32)
    places = jnp.full((3, 1), 0, jnp.int32)

    def step(params):
        cache = init_cache(model.config, 3, 4)
        segments = jnp.ones_like(tokens)
        out = model.apply(params, tokens, places, segments=segments, cache=cache, layers=layers)
        return model.unembed(params, out.hidden)

    np.testing.assert_allclose(step(own), step(params), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model.head(own), model.head(params))


@pytest.mark.parametrize("change", [{"unroll": False}, {"dtype": "bfloat16"}])
def test_what_would_not_be_faster_is_not_turned(change):
    config = replace(unrolled("llama")[0].config, **change)
    assert not turned.pays(config, 8)
    assert turned.pays(replace(config, unroll=True, dtype="float32"), 2)
    assert not turned.pays(replace(config, unroll=True, dtype="float32"), 1)


@pytest.mark.parametrize("tied", [True, False])
def test_a_step_of_int8_is_the_same_to_the_bit(tied):
    """Sums of integers are exact however they are made."""
    model, params = unrolled("qwen2", tie_embeddings=tied)
    params = int8.quantise(model.config, model.projections, params)
    model = build(replace(model.config, kernels="int8"))
    own = unstacked(model.config, params, rows=3)
    names = trees.paths(own["blocks"])
    assert not any(name.endswith("kernel_q") for name in names)
    tokens = jnp.asarray([[5, 9], [6, 1], [7, 2]], jnp.int32)
    places = jnp.asarray([[0, 1]] * 3, jnp.int32)

    @jax.jit
    def step(params):
        return model.unembed(params, model.apply(params, tokens, places).hidden)

    plain = unstacked(model.config, params)
    np.testing.assert_array_equal(step(own), step(plain))


def test_answers_are_the_plain_ones(monkeypatch):
    model, params = unrolled("llama")
    prompts, cfg = [[5, 6, 7], [8, 9]], SampleConfig(6, 0.0, stop=(1,))

    class Tokens:
        pad_id, eos_ids = 0, (1,)

    def said():
        rows = many.generate(model, params, Tokens(), prompts, cfg, seed=0, batch_size=2)
        return [row[0].ids for row in rows]

    own = said()
    monkeypatch.setattr(turned, "pays", lambda config, rows: False)
    jax.clear_caches()
    assert own == said()


@pytest.mark.parametrize(("rows", "left"), [(1, False), (2, True), (64, True), (65, False)])
def test_the_compiler_leaves_the_kernel_on_the_left(rows, left):
    """It turns a product back whose transpose it sees: all that was won would be lost."""
    x, kernel = jnp.ones((rows, 576)), jnp.ones((1536, 576))
    text = jax.jit(turned.product).lower(x, kernel).compile().as_text()
    shapes = re.findall(r"f32\[(\d+),(\d+)\]\S* (?:dot|fusion|custom-call)\(", text)
    assert (("1536", str(rows)) in shapes) is left


def test_a_call_within_a_program_says_the_same():
    """There parameters have no values yet, and are unstacked inside."""
    model, params = unrolled("llama")
    prompts = pad_prompts([[5, 6, 7], [8, 9]], 0, (4,))
    keys, cfg = row_keys(0, 0, [0, 1], [0, 0]), SampleConfig(5, 1.0, stop=(1,))
    own = decode.sample(model, params, prompts, keys, cfg)
    within = jax.jit(lambda params: decode.sample(model, params, prompts, keys, cfg))(params)
    np.testing.assert_array_equal(own.tokens, within.tokens)
    np.testing.assert_allclose(own.logp, within.logp, atol=1e-5)

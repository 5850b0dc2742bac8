"""The forward pass against itself: caches, packing, padding, interventions, precision."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.models import blocks
from jaxsafety.models import layers as layers_of
from jaxsafety.models.api import LayerInputs, build, init_cache
from jaxsafety.testing import FAMILIES, tiny_config, tiny_model

BATCH, LENGTH = 3, 12


def tokens_of(seed: int, batch: int = BATCH, length: int = LENGTH) -> jax.Array:
    return jax.random.randint(jax.random.key(seed), (batch, length), 0, 264)


def positions_of(tokens: jax.Array) -> jax.Array:
    return jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)


@functools.lru_cache
def jitted(model):
    return jax.jit(model.apply, static_argnames="capture")


def forward(model, params, tokens, positions=None, **kwargs):
    positions = positions_of(tokens) if positions is None else positions
    return jitted(model)(params, tokens, positions, **kwargs)


@pytest.fixture(scope="module", params=FAMILIES)
def tiny(request):
    bias = {"attention_bias": "all"} if request.param == "llama" else {}
    return tiny_model(request.param, **bias)


def test_shapes_axes_and_dtypes(tiny):
    model, params = tiny
    names = jax.tree.map(lambda leaf, axes: leaf.ndim == len(axes), params, model.axes)
    assert all(jax.tree.leaves(names))
    assert model.axes["blocks"]["attn"]["o"]["kernel"] == ("layers", "heads", "head_dim", "embed")
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    out = forward(model, params, tokens_of(0), capture=True)
    assert out.hidden.shape == (BATCH, LENGTH, 32) and out.residuals.shape == (3, BATCH, LENGTH, 32)
    assert model.unembed(params, out.hidden).shape == (BATCH, LENGTH, 264)
    assert build(model.config) is model


@pytest.mark.parametrize("tied", [True, False])
def test_head_is_what_unembed_multiplies_with(tied):
    model, params = tiny_model(tie_embeddings=tied)
    assert ("unembed" in params) is not tied
    hidden = jax.random.normal(jax.random.key(0), (5, 32))
    expected = np.asarray(hidden) @ np.asarray(model.head(params))
    np.testing.assert_allclose(model.unembed(params, hidden), expected, atol=1e-5)


def test_later_tokens_cannot_be_seen(tiny):
    model, params = tiny
    tokens = tokens_of(0)
    changed = tokens.at[:, 7:].set(tokens_of(1)[:, 7:])
    a, b = (forward(model, params, t).hidden for t in (tokens, changed))
    np.testing.assert_array_equal(a[:, :7], b[:, :7])
    assert float(jnp.abs(a[:, 7:] - b[:, 7:]).max()) > 1e-2


def test_cached_decoding_is_the_full_forward(tiny):
    model, params = tiny
    tokens = tokens_of(2)
    positions = positions_of(tokens)
    full = forward(model, params, tokens).hidden
    cache = init_cache(model.config, BATCH, LENGTH + 3)
    parts = []
    for start, stop in [(0, 5), (5, 6), (6, 7), (7, 12)]:
        out = forward(model, params, tokens[:, start:stop], positions[:, start:stop], cache=cache)
        cache = out.cache
        parts.append(out.hidden)
    np.testing.assert_allclose(jnp.concatenate(parts, 1), full, atol=1e-5)
    assert int(cache.length) == LENGTH
    assert cache.segments.tolist() == [[1] * LENGTH + [0] * 3] * BATCH


def test_cached_decoding_of_a_left_padded_batch(tiny):
    model, params = tiny
    tokens, pads = tokens_of(3), jnp.array([0, 4, 7])
    segments = (jnp.arange(LENGTH)[None] >= pads[:, None]).astype(jnp.int32)
    positions = jnp.maximum(jnp.arange(LENGTH)[None] - pads[:, None], 0)
    cache = init_cache(model.config, BATCH, LENGTH)
    out = forward(
        model, params, tokens[:, :9], positions[:, :9], segments=segments[:, :9], cache=cache
    )
    parts = [out.hidden]
    for t in range(9, LENGTH):
        window = slice(t, t + 1)
        out = forward(
            model,
            params,
            tokens[:, window],
            positions[:, window],
            segments=segments[:, window],
            cache=out.cache,
        )
        parts.append(out.hidden)
    batched = jnp.concatenate(parts, 1)
    assert bool(jnp.isfinite(batched).all())
    for row, pad in enumerate(pads.tolist()):
        alone = forward(model, params, tokens[row : row + 1, pad:]).hidden[0]
        np.testing.assert_allclose(batched[row, pad:], alone, atol=1e-5)


def test_packed_segments_are_separate_sequences(tiny):
    model, params = tiny
    tokens = tokens_of(4, batch=1)
    segments = jnp.array([[1] * 5 + [2] * 4 + [0] * 3])
    positions = jnp.array([[*range(5), *range(4), 0, 0, 0]])
    packed = forward(model, params, tokens, positions, segments=segments).hidden[0]
    for start, stop in [(0, 5), (5, 9)]:
        alone = forward(model, params, tokens[:, start:stop]).hidden[0]
        np.testing.assert_allclose(packed[start:stop], alone, atol=1e-5)


def test_padding_content_does_not_matter_and_is_finite(tiny):
    model, params = tiny
    segments = jnp.array([[0] * 4 + [1] * 8, [1] * 8 + [0] * 4, [0] * 12])
    tokens = tokens_of(5)
    other = jnp.where(segments == 0, tokens_of(6), tokens)
    a, b = (forward(model, params, t, segments=segments).hidden for t in (tokens, other))
    kept = np.asarray(segments) == 1
    np.testing.assert_array_equal(np.asarray(a)[kept], np.asarray(b)[kept])
    assert bool(jnp.isfinite(a).all())
    loss = lambda p: (forward(model, p, tokens, segments=segments).hidden ** 2).sum()  # noqa: E731
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(jax.grad(loss)(params)))


def test_zero_steering_is_bit_identical(tiny):
    model, params = tiny
    tokens = tokens_of(7)

    @jax.jit
    def run(layers):
        hidden = model.apply(params, tokens, positions_of(tokens), layers=layers).hidden
        return model.unembed(params, hidden)

    plain = run(LayerInputs())
    np.testing.assert_array_equal(plain, run(LayerInputs(add=jnp.zeros((3, 32)))))
    where = jnp.ones((BATCH, LENGTH), bool)
    np.testing.assert_array_equal(plain, run(LayerInputs(add=jnp.zeros((3, 32)), where=where)))


def test_steering_a_layer_leaves_earlier_residuals_alone(tiny):
    model, params = tiny
    tokens = tokens_of(8)
    add = jnp.zeros((3, 32)).at[1].set(jax.random.normal(jax.random.key(0), (32,)))

    def run(layers):
        return forward(model, params, tokens, layers=layers, capture=True).residuals

    plain, steered = run(LayerInputs(add=jnp.zeros((3, 32)))), run(LayerInputs(add=add))
    np.testing.assert_array_equal(plain[:2], steered[:2])  # captured before the addition
    assert float(jnp.abs(plain[2] - steered[2]).max()) > 0.1


def test_where_limits_steering_to_positions(tiny):
    model, params = tiny
    tokens = tokens_of(9)
    add = jax.random.normal(jax.random.key(1), (3, 32))
    where = jnp.broadcast_to(jnp.arange(LENGTH) >= 6, (BATCH, LENGTH))
    plain = forward(model, params, tokens).hidden
    late = forward(model, params, tokens, layers=LayerInputs(add=add, where=where)).hidden
    np.testing.assert_allclose(plain[:, :6], late[:, :6], atol=1e-6)
    assert float(jnp.abs(plain[:, 6:] - late[:, 6:]).max()) > 0.1
    dense = jnp.where(where[None, ..., None], add[:, None, None], 0.0)  # the same, per position
    same = forward(model, params, tokens, layers=LayerInputs(add=dense)).hidden
    np.testing.assert_allclose(late, same, atol=1e-6)


def test_ablation_empties_the_direction(tiny):
    model, params = tiny
    u = jax.random.normal(jax.random.key(2), (32,))
    u = u / jnp.linalg.norm(u)
    layers = LayerInputs(ablate=jnp.broadcast_to(u, (3, 32)))
    out = forward(model, params, tokens_of(10), layers=layers, capture=True)
    assert float(jnp.abs(out.residuals[1:] @ u).max()) < 1e-5
    assert float(jnp.abs(out.residuals[0] @ u).max()) > 1e-2  # captured before the projection
    once = layers_of.ablate(out.residuals[0], u)
    assert float(jnp.abs(once @ u).max()) < 1e-5
    np.testing.assert_allclose(layers_of.ablate(once, u), once, atol=1e-6)


def test_gradient_reaches_a_perturbation(tiny):
    model, params = tiny
    tokens = tokens_of(11)
    weights = jax.random.normal(jax.random.key(4), (BATCH, 32))

    @jax.jit
    def loss(add):
        hidden = forward(model, params, tokens, layers=LayerInputs(add=add)).hidden
        return (hidden[:, -1] * weights).sum()

    shape = (3, BATCH, LENGTH, 32)
    gradient = jax.grad(loss)(jnp.zeros(shape))
    probe = gradient / jnp.linalg.norm(gradient)  # the steepest direction: least rounding

    def slope(step):
        return (loss(step * probe) - loss(-step * probe)) / (2 * step)

    # Richardson's: the error of second order of two central differences cancels.
    difference = (4 * slope(1.5e-3) - slope(3e-3)) / 3
    np.testing.assert_allclose(jnp.vdot(gradient, probe), difference, rtol=2e-2)


@pytest.mark.parametrize("remat", ["full", "dots"])
def test_remat_changes_nothing(remat):
    plain, params = tiny_model()
    model = build(tiny_config(remat=remat))
    tokens = tokens_of(12)
    grads = [
        jax.grad(lambda p, m=m: (forward(m, p, tokens).hidden ** 3).sum())(params)
        for m in (plain, model)
    ]
    for a, b in zip(*map(jax.tree.leaves, grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_bfloat16_compute_keeps_float32_parameters():
    plain, params = tiny_model()
    model = build(tiny_config(dtype="bfloat16"))
    tokens = tokens_of(13)
    hidden = forward(model, params, tokens).hidden
    assert hidden.dtype == jnp.bfloat16
    assert model.unembed(params, hidden).dtype == jnp.float32
    exact = forward(plain, params, tokens).hidden
    error = jnp.linalg.norm(hidden - exact) / jnp.linalg.norm(exact)
    assert float(error) < 0.03
    assert jax.tree.leaves(model.init(jax.random.key(0)))[0].dtype == jnp.float32


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"num_heads": 3}, "model.num_heads"),
        ({"head_dim": 7}, "model.head_dim"),
        ({"dtype": "int8"}, "model.dtype"),
        ({"remat": "some"}, "model.remat"),
        ({"rope_scaling": (("factors", 2.0),)}, "model.rope_scaling"),
        ({"windows": (3, 3)}, "model.windows"),
        ({"windows": (3, 5, 0)}, "model.windows"),
        ({"norms": "none"}, "model.norms"),
        ({"activation": "relu"}, "model.activation"),
        ({"logit_cap": -1.0}, "model.logit_cap"),
        ({"num_layers": 0}, "model.num_layers"),
    ],
)
def test_impossible_configs_are_named(change, word):
    with pytest.raises(UsageError, match=word):
        build(tiny_config(**change))


def test_a_forward_pass_traces_its_body_once(monkeypatch):
    """However many layers; the keys of first parameters are counted by tracing it again."""
    traced, whole = [], blocks.Block.__call__

    def told(self, *args, **kwargs):
        traced.append(self)
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(blocks.Block, "__call__", told)
    model, params = tiny_model("llama", num_layers=3)
    tokens = tokens_of(0)
    traced.clear()
    jax.eval_shape(lambda *given: model.apply(*given), params, tokens, positions_of(tokens))
    assert len(traced) == 1

"""Attention told its structure: the plain path's numbers, when it applies, what is compiled."""

from __future__ import annotations

import functools
import importlib.util
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import sharding
from jaxsafety.data.schema import TokenBatch
from jaxsafety.models import cudnn
from jaxsafety.models import layers as parts
from jaxsafety.models.api import build
from jaxsafety.planning import topology
from jaxsafety.testing import tiny_config, tiny_model
from jaxsafety.train.likelihood import answer_loss

LENGTHS = (12, 7, 1, 0)  # the last row is empty
T, H, K = 12, 8, 2
TELL = functools.partial(cudnn.attend, implementation="xla")


def rows(lengths=LENGTHS):
    """(segments, is a token) [B,T]."""
    inside = jnp.arange(T) < jnp.asarray(lengths)[:, None]
    return inside.astype(jnp.int32), inside


def tensors(heads):
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(len(LENGTHS), T, n, H) for n in (heads, K, K, heads)]
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def plain(q, k, v, segments, window):
    """`layers.attend` of rows [B,T] with the mask that the model gives it."""
    bias = parts.attention_bias(segments, segments, 0, T, T, q.shape[2] // K, window)
    return parts.attend(q, k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3), bias, 0.4)


def value_and_grads(attend, heads, inside):
    """What a loss over the tokens sees of an attention, and its gradients."""
    *qkv, weight = tensors(heads)

    def loss(*qkv):
        out = jnp.where(inside[..., None, None], attend(*qkv), 0.0)
        return jnp.sum(out * weight), out

    (_, out), grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(*qkv)
    return [out, *grads]


def close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize(("heads", "window"), [(K, 0), (3 * K, 1), (3 * K, 5), (3 * K, 40)])
def test_the_structure_says_what_the_mask_said(heads, window):
    segments, inside = rows()
    structure = cudnn.Structure(cudnn.lengths(segments), window)
    told = value_and_grads(lambda *x: TELL(*x, structure, 0.4), heads, inside)
    close(told, value_and_grads(lambda *x: plain(*x, segments, window), heads, inside))


def test_what_a_kernel_leaves_in_padding_reaches_nothing(monkeypatch):
    """A kernel whose results are NaN in padding, forward and backward."""
    real, (segments, inside) = jax.nn.dot_product_attention, rows()
    first = inside.at[:, 0].set(True)[..., None, None]  # an empty row reads its first slot

    def kernel(q, k, v, **how):
        @jax.custom_vjp
        def run(q, k, v):
            return jnp.where(first, real(q, k, v, **how), jnp.nan)

        def backward(past, g):
            grads = jax.vjp(functools.partial(real, **how), *past)[1](g)
            return tuple(jnp.where(first, x, jnp.nan) for x in grads)

        run.defvjp(lambda *x: (run(*x), x), backward)
        return run(q, k, v)

    monkeypatch.setattr(jax.nn, "dot_product_attention", kernel)
    structure = cudnn.Structure(cudnn.lengths(segments), 0)
    np.testing.assert_array_equal(structure.lengths, (12, 7, 1, 1))
    *qkv, weight = tensors(2 * K)
    loss = lambda *x: jnp.sum(weight * TELL(*x, structure))  # noqa: E731 - padding included
    value, grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(*qkv)
    assert np.isfinite(value)
    for grad in grads:
        assert np.isfinite(grad).all() and not jnp.where(first, 0.0, grad).any()


def batch_of(width=T, packed=False, lengths=LENGTHS):
    """Random rows [4,width] of which nearly all tokens are learnt."""
    inside = jnp.arange(width) < jnp.asarray(lengths)[:, None]
    tokens = jax.random.randint(jax.random.key(1), inside.shape, 0, 264)
    places = jnp.where(inside, jnp.arange(width), 0)
    weight = inside.at[:, 0].set(False) / jnp.sum(inside)
    return TokenBatch(tokens, places, inside.astype(jnp.int32), weight, packed=packed)


def gradient(model, params, batch):
    """Loss and gradients, as a function of the parameters and the batch."""
    nothing = jax.tree.map(lambda _: None, {"base": params})
    loss = answer_loss(model, train_head=True)
    return jax.value_and_grad(lambda p: loss({"base": p}, nothing, batch, jax.random.key(0))[0])(
        params
    )


def test_a_model_learns_the_same(monkeypatch):
    """Windows of 5 in all layers, a scale of its own, the kv heads of a group."""
    model, params = tiny_model("mistral", query_scale=0.5)
    value, grads = jax.jit(functools.partial(gradient, model))(params, batch_of(packed=True))
    used = []

    def tell(*given):
        used.append(given)
        return TELL(*given)

    monkeypatch.setattr(cudnn, "applies", lambda config: True)
    monkeypatch.setattr(cudnn, "attend", tell)
    told, others = jax.jit(functools.partial(gradient, model))(params, batch_of())
    assert used and used[0][3].window == 5
    np.testing.assert_allclose(told, value, rtol=1e-6)
    for a, b in zip(*map(jax.tree.leaves, (others, grads)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
    used.clear()
    jax.eval_shape(functools.partial(gradient, model), params, batch_of(packed=True))
    assert not used


def test_without_segments_all_are_tokens(monkeypatch):
    model, params = tiny_model(num_layers=1)
    tokens, places = batch_of().tokens, jnp.broadcast_to(jnp.arange(T), (len(LENGTHS), T))
    apply = jax.jit(model.apply, static_argnames="packed")
    hidden = apply(params, tokens, places).hidden
    monkeypatch.setattr(cudnn, "applies", lambda config: True)
    monkeypatch.setattr(cudnn, "attend", TELL)
    np.testing.assert_allclose(
        apply(params, tokens, places, packed=False).hidden, hidden, atol=2e-6
    )


FITTING = dict(dtype="bfloat16", head_dim=64)


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"dtype": "float16", "head_dim": 128}, True),
        ({"windows": (4, 4, 4)}, True),
        ({"dtype": "float32"}, False),
        ({"attention_cap": 50.0}, False),
        ({"windows": (4, 0, 4)}, False),
        ({"head_dim": 256}, False),
        ({"head_dim": 60}, False),
    ],
)
def test_which_models_it_is_for(monkeypatch, changes, fits):
    config = tiny_config(**{**FITTING, **changes})
    assert not cudnn.applies(config)  # on a CPU
    monkeypatch.setattr(cudnn, "_on_gpu", lambda: True)
    monkeypatch.setattr(cudnn, "found", lambda: True)
    assert cudnn.applies(config) is fits


@pytest.mark.parametrize(
    ("kind", "capability", "fits"),
    [
        ("NVIDIA A100-SXM4-80GB", "8.0", True),
        ("NVIDIA H100 80GB HBM3", "9.0", True),
        ("NVIDIA B200", "10.0", True),
        ("NVIDIA GeForce RTX 2080", "7.5", False),
        ("AMD Instinct MI300X", "gfx942", False),
        ("TPU v5p", None, False),
    ],
)
def test_which_devices_it_is_for(monkeypatch, kind, capability, fits):
    card = SimpleNamespace(device_kind=kind, compute_capability=capability)
    monkeypatch.setattr(cudnn, "found", lambda: True)
    monkeypatch.setattr(jax, "devices", lambda: [card])
    assert cudnn.applies(tiny_config(**FITTING)) is fits


@pytest.mark.parametrize(("tensor", "fits"), [(2, True), (4, False)])
def test_kv_heads_that_a_mesh_cannot_split(monkeypatch, tensor, fits):
    """Of 4 and 2 heads: JAX wants queries and keys split alike."""
    monkeypatch.setattr(cudnn, "_on_gpu", lambda: True)
    monkeypatch.setattr(cudnn, "found", lambda: True)
    mesh = sharding.make_mesh(sharding.MeshConfig(tensor=tensor))
    with jax.set_mesh(mesh):
        assert cudnn.applies(tiny_config(**FITTING)) is fits


def compiler():
    """Whether JAX's CUDA plugin is here, and cuDNN, without which nothing is traced."""
    try:
        return importlib.util.find_spec("jax_plugins.xla_cuda13") is not None and cudnn.found()
    except ModuleNotFoundError:
        return False


def lowered(name, config, *, packed=False, **split):
    """The gradient of a model, lowered for devices that are not there."""
    model = build(config)
    mesh = sharding.make_mesh(sharding.MeshConfig(**split), topology.devices(topology.parse(name)))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    batch = jax.eval_shape(lambda: batch_of(128, packed))
    rows = jax.NamedSharding(mesh, sharding.spec(("batch", None), mesh=mesh))
    where = sharding.shardings(model.axes, shapes, mesh), jax.tree.map(lambda _: rows, batch)
    placed = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), (shapes, batch), where
    )
    with jax.set_mesh(mesh):
        return jax.jit(functools.partial(gradient, model)).lower(*placed)


needs_compiler = pytest.mark.skipif(
    not compiler(), reason="needs the extra gpu-plan and nvidia-cudnn-cu13"
)


@needs_compiler
@pytest.mark.parametrize(
    ("name", "split", "changes"),
    [
        ("h100:1", {}, {}),
        ("h100:1", {}, {"head_dim": 128, "windows": (16, 16, 16), "remat": "full"}),
        ("h100:8", {"fsdp": 4, "tensor": 2}, {}),
    ],
)
def test_forward_and_backward_are_compiled_to_cudnn(name, split, changes):
    text = lowered(name, tiny_config(**{**FITTING, **changes}), **split).compile().as_text()
    assert '"__cudnn$fmhaSoftmax"' in text and '"__cudnn$fmhaSoftmaxBackward"' in text


@needs_compiler
@pytest.mark.parametrize(
    ("family", "changes", "packed", "calls"),
    [
        ("llama", {}, False, True),
        ("llama", {}, True, False),
        ("llama", {"dtype": "float32"}, False, False),
        ("gemma2", {}, False, False),
    ],
)
def test_what_cudnn_has_no_kernels_for_is_as_ever(family, changes, packed, calls):
    config = tiny_config(family, **{**FITTING, **changes})
    assert ("fmha" in lowered("h100:1", config, packed=packed).as_text()) is calls

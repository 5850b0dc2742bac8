"""Copies that answers are sampled from: the same answers, and no weights fetched for a token."""

from __future__ import annotations

import contextlib
import gc
import re
import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.adapters import lora
from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import UsageError
from jaxsafety.core.sharding import MeshConfig, make_mesh, scope
from jaxsafety.models import api
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import SampleConfig, Served
from jaxsafety.sampling import copies, decode
from jaxsafety.sampling.prompts import pad_prompts, row_keys
from jaxsafety.testing import tiny_model

SHAPES = [(1, 8, 1), (2, 2, 2)]
WIDE = 512  # of the feed-forward part: its kernels are larger than anything else
CFG = SampleConfig(9, 1.0, stop=tuple(range(100, 130)))
IDS = [list(range(3, 5 + i % 7)) for i in range(16)]


def served(family="llama", dtype="float32"):
    """A model whose heads divide 8 ways, its parameters, and adapters and steering beside them."""
    dims = {"embed_dim": 64, "num_heads": 8, "num_kv_heads": 8, "head_dim": 8, "mlp_dim": WIDE}
    model, params = tiny_model(family, **dims)
    model = api.build(replace(model.config, dtype=dtype))
    tree = lora.init_experts(
        jax.random.key(1), model.projections, layers=model.config.num_layers, rank=2, scale=1.0
    )
    tree = jax.tree.map(lambda x: x + 0.2 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), tree)
    add = jnp.zeros((model.config.num_layers, 64)).at[1, 3].set(2.0)
    return model, Served(params, LayerInputs(adapters=tree, add=add), "prompt")


def on(mesh, model, what):
    """The same on a mesh, as a run has it."""
    places = sharding.shardings(model.axes, what.params, mesh)
    return what._replace(params=jax.device_put(what.params, places))


def batch(what):
    rows = pad_prompts(IDS, 0, (16,)), row_keys(0, 0, range(len(IDS)), [0] * len(IDS))
    return sharding.beside(what.params, rows)


def said(model, what):
    out = decode.sample(model, what.params, *batch(what), CFG, what.layers, what.steer)
    return jax.tree.map(np.asarray, out)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_answers_are_those_of_the_weights_as_they_lie(shape, family):
    model, alone = served(family)
    mesh = make_mesh(MeshConfig(*shape))
    what = on(mesh, model, alone)
    with scope(mesh):
        split = said(model, what)
    for how in ("data", "tensor"):
        with copies.copied(model, what, mesh, how) as there:
            found = said(model, there)
        np.testing.assert_array_equal(found.tokens, split.tokens)
        np.testing.assert_allclose(found.logp, split.logp, atol=2e-5)
    assert len({tuple(row) for row in split.tokens[:, -CFG.max_tokens :].tolist()}) > 8


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "gemma2"])
def test_a_narrow_copy_answers_as_the_wide_weights_do(family):
    """On one device, so that only the dtype of the copy differs: what is computed does not."""
    model, what = served(family, "bfloat16")
    mesh = make_mesh(MeshConfig(2, 2, 2))
    narrow = copies.copier(model, mesh)(what.params)
    kinds = dict(zip(trees.paths(narrow), jax.tree.leaves(narrow), strict=True))
    norms = {n for n in kinds if "norm" in n}
    assert norms and all(kinds[n].dtype == jnp.float32 for n in norms)
    assert all(x.dtype == jnp.bfloat16 for n, x in kinds.items() if n not in norms)
    here = jax.device_put(jax.device_get(narrow), jax.devices()[0])
    a, b = said(model, what), said(model, what._replace(params=here))
    np.testing.assert_array_equal(a.tokens, b.tokens)
    np.testing.assert_allclose(a.logp, b.logp, atol=2e-6)  # bfloat16 itself: 0.01


def gathers(model, what):
    """All-gathers of the compiled program, and how many elements the largest brings."""
    args = decode.arguments(model, what.params, *batch(what), CFG, what.layers, what.steer)
    text = decode._sample.lower(*args).compile().as_text()
    shapes = re.findall(r"= \S*?\[([\d,]*)\]\S* all-gather\(", text)
    return [int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes]


@pytest.mark.parametrize("shape", SHAPES)
def test_no_weight_is_fetched_while_a_copy_answers(shape):
    model, alone = served()
    mesh = make_mesh(MeshConfig(*shape))
    what = on(mesh, model, alone._replace(layers=LayerInputs()))
    kernel = model.config.embed_dim * model.config.mlp_dim // shape[2]
    with scope(mesh):
        assert max(gathers(model, what)) >= kernel
    with copies.copied(model, what, mesh, "data") as there:
        assert max(gathers(model, there), default=0) < kernel // 4
        ways = shape[0] * shape[1]
        assert there.params["blocks"]["mlp"]["up"]["kernel"].sharding.shard_shape(
            what.params["blocks"]["mlp"]["up"]["kernel"].shape
        )[1:] == (64, WIDE // shape[2])
        assert sharding.rows(sharding.mesh_of(there.params)) == ways
    with copies.copied(model, what, mesh, "tensor") as there:
        assert max(gathers(model, there), default=0) < kernel // 4
        share = there.params["blocks"]["mlp"]["up"]["kernel"].sharding.shard_shape(
            what.params["blocks"]["mlp"]["up"]["kernel"].shape
        )
        assert share[1:] == (64, WIDE // (shape[1] * shape[2]))


def test_where_nothing_is_to_be_copied_it_is_what_was_given():
    model, what = served()
    alone = make_mesh(MeshConfig(), jax.devices()[:1])
    given = (None, "data"), (alone, "tensor"), (make_mesh(MeshConfig(8)), "data")
    for mesh, how in (*given, (make_mesh(MeshConfig(1, 4, 2)), "split")):
        with copies.copied(model, what, mesh, how) as there:
            assert there is what


@pytest.mark.parametrize("shape", SHAPES)
def test_the_devices_stay_in_their_order(shape):
    mesh = make_mesh(MeshConfig(*shape))
    d, f, t = shape
    for how, sizes in (("split", shape), ("data", (d * f, 1, t)), ("tensor", (d, 1, f * t))):
        there = copies.mesh_of(mesh, how)
        assert there.devices.shape == sizes and there.axis_names == mesh.axis_names
        assert there.devices.flat[:].tolist() == mesh.devices.flat[:].tolist()


def test_a_copy_is_compiled_once():
    model, alone = served()
    mesh = make_mesh(MeshConfig(fsdp=8))
    what = on(mesh, model, alone)
    program = copies.copier(model, copies.mesh_of(mesh, "data"))
    for _ in range(3):
        with copies.copied(model, what, mesh, "data"):
            pass
    assert program._cache_size() == 1


@pytest.mark.parametrize("how", ["data", "tensor"])
def test_a_run_s_copy_is_gone_when_its_answers_are_there(monkeypatch, how):
    model, alone = served()
    mesh = make_mesh(MeshConfig(2, 2, 2))
    what = on(mesh, model, alone)
    ctx: Any = SimpleNamespace(
        model=model, mesh=mesh, sampling=how, tokenizer=SimpleNamespace(pad_id=0)
    )
    made, real = [], copies.copied

    @contextlib.contextmanager
    def watched(*args):
        with real(*args) as there:
            made.extend(map(weakref.ref, jax.tree.leaves(there.params)))
            yield there

    with scope(mesh):
        plain = copies.generate(
            SimpleNamespace(**{**vars(ctx), "sampling": "split"}), what, IDS, CFG, seed=0
        )
        monkeypatch.setattr(copies, "copied", watched)
        said = copies.generate(ctx, what, IDS, CFG, seed=0)
        rows = copies.sample(ctx, what, *batch(what), CFG)
    gc.collect()
    assert made and not any(copy() is not None for copy in made)
    assert [row[0].ids for row in said] == [row[0].ids for row in plain]
    assert sharding.mesh_of(rows) == mesh


def test_an_unknown_way_is_refused():
    with pytest.raises(UsageError, match=r"mesh\.sampling: got 'whole'; allowed: split, data, ten"):
        make_mesh(MeshConfig(sampling="whole"))

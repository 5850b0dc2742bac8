"""Packed scores against one pass per context and continuation, whatever changes the model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.adapters import lora, routing
from jaxsafety.adapters.routing import Routing
from jaxsafety.core import sharding
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.evaluation.likelihoods import Scorer
from jaxsafety.evaluation.pairs import Stem
from jaxsafety.models.api import LayerInputs
from jaxsafety.testing import tiny_model

EXPERTS, WIDTH = 4, 64
HEAD = tuple(range(40, 52))


def stems(head):
    """Some whose continuations share a beginning, and one of a single token each."""
    rng = np.random.default_rng(1)
    ids = lambda n: tuple(rng.integers(3, 260, n).tolist())  # noqa: E731
    found = []
    for length in (9, 3, 14, 1, 6):
        shared = ids(2)
        own = (shared + ids(7), shared + ids(1), ids(4))
        found.append(Stem(head + ids(length), own[: 2 + length % 2], ()))
    return [*found, Stem(head + ids(8), ((5,), (6,), (7,)), ())]


def adapters(model, kind):
    tree = lora.init_experts(
        jax.random.key(1),
        model.projections,
        layers=model.config.num_layers,
        experts=EXPERTS,
        rank=3,
        scale=2.0,
        names=routing.ROUTED,
    )
    for index, pair in enumerate(tree["experts"].values()):
        pair["b"] = 0.3 * jax.random.normal(jax.random.key(index), pair["b"].shape)
    sizes = {"layers": model.config.num_layers, "experts": EXPERTS}
    if kind == "x-lora":
        gate = routing.init_gate(jax.random.key(2), width=model.config.embed_dim, **sizes)
        return {**tree, "router": gate}
    return {**tree, "router": routing.init_router(jax.random.key(7), model.projections, **sizes)}


@partial(jax.jit, static_argnums=0)
def whole(model, params, ids, layers):
    places = jnp.broadcast_to(jnp.arange(WIDTH), ids.shape)
    segments = jnp.ones_like(ids)
    hidden = model.apply(params, ids, places, segments=segments, layers=layers).hidden
    return jax.nn.log_softmax(model.unembed(params, hidden))


def apart(model, params, every, layers, steer):
    """Per stem the sums, each path in a row of its own."""
    pairs = [(s.context, c) for s in every for c in s.continuations]
    ids = np.zeros((len(pairs), WIDTH), np.int32)
    prompt = np.zeros(ids.shape, bool)
    for row, (context, more) in enumerate(pairs):
        ids[row, : len(context) + len(more)] = [*context, *more]
        prompt[row, : len(context)] = True
    prompt = jnp.asarray(prompt)
    where = prompt if steer == "prompt" else None
    layers = replace(layers, pool=routing.pool(prompt, layers.routing), where=where)
    logp = np.asarray(whole(model, params, jnp.asarray(ids), layers), np.float64)
    found = iter(
        sum(logp[row, len(context) - 1 + t, token] for t, token in enumerate(more))
        for row, (context, more) in enumerate(pairs)
    )
    return [[next(found) for _ in s.continuations] for s in every]


CASES = {  # name -> family, routers, level, head, steering, mesh
    "windows and a head": ("gemma3_text", "", "token", True, "all", None),
    "per token": ("llama", "block", "token", True, "prompt", None),
    "per sequence": ("llama", "block", "sequence", True, "all", None),
    "by the last token": ("llama", "block", "last", False, "prompt", MeshConfig(data=8)),
    "x-lora, devices": ("llama", "x-lora", "token", True, "all", MeshConfig(2, 2, 2)),
}


@pytest.mark.parametrize("case", CASES)
def test_no_branch_reads_a_sibling_or_another_item(case):
    family, kind, level, head, steer, ways = CASES[case]
    model, params = tiny_model(family)
    every = stems(HEAD if head else ())
    layers = LayerInputs(routing=Routing(top=0 if kind == "x-lora" else 2, level=level))
    if kind:
        layers = replace(layers, adapters=adapters(model, kind))
    if steer == "prompt":
        layers = replace(layers, add=0.5 * jax.random.normal(jax.random.key(9), (3, 32)))
    want = apart(model, params, every, layers, steer)
    if ways is not None:
        mesh = sharding.make_mesh(ways)
        params = jax.device_put(params, sharding.shardings(model.axes, params, mesh))
    work = Scorer(model, params, every, layers, steer=steer, tokens=96)
    pooled = level in routing.POOLED
    assert work.skip == (len(HEAD) if head and not pooled else 0)
    assert any(len(row) > 1 for b in work.batches for row in b.rows) is not pooled
    found = dict(one for batch in work.batches for one in work.score(batch))
    assert sorted(found) == list(range(len(every)))
    for index, sums in enumerate(want):
        np.testing.assert_allclose(found[index], sums, atol=2e-4)
    if ways is not None:
        assert {b.shape.rows % sharding.rows(mesh) for b in work.batches} == {0}

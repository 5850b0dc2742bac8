"""One loss of answers: the dense formula, through the base, adapters and routed experts alike."""

from __future__ import annotations

from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.adapters import lora, routing
from jaxsafety.adapters.routing import Routing
from jaxsafety.data.schema import TokenBatch
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import EXTRA, PassLoss
from jaxsafety.testing import tiny_model
from jaxsafety.train.assemble import own_loss
from jaxsafety.train.likelihood import AnswerLoss, answer_loss, likelihood, prompt_mask


@pytest.fixture(scope="module")
def tiny():
    model, base = tiny_model("llama")
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 200, (3, 12)).astype(np.int32)
    segments = (np.arange(12) < np.array([[12], [9], [7]])).astype(np.int32)
    weight = (segments * (np.arange(12) >= 5)).astype(np.float32)
    places = np.broadcast_to(np.arange(12, dtype=np.int32), tokens.shape)
    batch = TokenBatch(*map(jnp.asarray, (tokens, places, segments, weight / weight.sum())))
    tree = lora.init_experts(jax.random.key(1), model.projections, layers=3, experts=2, rank=2)
    tree["experts"] = jax.tree.map(lambda x: x + 0.1, tree["experts"])
    return model, base, batch, tree


def dense(model, base, batch, layers=LayerInputs(), mix=None):
    """- sum w log p from whole logits."""
    out = model.apply(
        base, batch.tokens, batch.positions, segments=batch.segments, layers=layers, mix=mix
    )
    logp = jax.nn.log_softmax(model.unembed(base, out.hidden)[:, :-1])
    picked = jnp.take_along_axis(logp, batch.tokens[:, 1:, None], axis=-1)[..., 0]
    return -jnp.sum(picked * batch.weight[:, 1:])


def test_of_the_base_and_its_gradient(tiny):
    model, base, batch, _ = tiny
    loss = answer_loss(model, train_head=True)
    nothing = {"base": jax.tree.map(lambda _: None, base)}
    ours = jax.jit(jax.value_and_grad(lambda p: loss({"base": p}, nothing, batch, None)[0]))(base)
    plain = jax.jit(jax.value_and_grad(lambda p: dense(model, p, batch)))(base)
    for got, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(got, expected, atol=2e-5)


def test_through_experts_that_are_mixed_by_hand_or_by_a_router(tiny):
    model, base, batch, tree = tiny
    mix = jnp.asarray([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    got, _ = likelihood(model, {"base": base, "adapters": tree}, batch, mix=mix)
    np.testing.assert_allclose(got, dense(model, base, batch, LayerInputs(tree), mix), rtol=1e-5)
    assert abs(float(got) - float(dense(model, base, batch))) > 1e-3
    router = routing.init_router(jax.random.key(2), model.projections, layers=3, experts=2, std=0.5)
    pooled = Routing(top=0, level="sequence")
    served = {n: pair for n, pair in tree["experts"].items() if n in routing.ROUTED}
    every = {"base": base, "adapters": {**tree, "experts": served, "router": router}}
    found, _ = answer_loss(model, routing=pooled)(
        every, jax.tree.map(lambda _: None, every), batch, None
    )
    pool = routing.pool(prompt_mask(batch), pooled)
    layers = LayerInputs(every["adapters"], routing=pooled, pool=pool)
    np.testing.assert_allclose(found, dense(model, base, batch, layers), rtol=1e-5)


def test_it_comes_in_two_parts_whatever_is_carried_beside(tiny):
    model, base, batch, _ = tiny
    loss, nothing = answer_loss(model, train_head=False), jax.tree.map(lambda _: None, base)
    given = ({"base": base}, {"base": nothing})
    whole = loss(*given, batch, None)
    for each, frozen in ((loss, given[1]), (own_loss(loss), {**given[1], EXTRA: {"x": base}})):
        assert isinstance(each, PassLoss)
        parts = each.score(each.forward(given[0], frozen, batch), batch)
        for a, b in zip(jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True):
            assert a == b
    assert not isinstance(own_loss(lambda *args: loss(*args)), PassLoss)
    assert loss == AnswerLoss(*(getattr(loss, f.name) for f in fields(loss)))


def test_the_prompt_is_what_stands_before_the_first_learnt_token(tiny):
    mask = np.asarray(prompt_mask(tiny[2]))
    assert mask.sum(axis=1).tolist() == [5, 5, 5] and mask[:, :5].all()

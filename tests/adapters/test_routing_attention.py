"""Experts on the attention's projections too, as an ordinary all-linear LoRA has: how they mix."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.adapters import lora, routing
from jaxsafety.adapters.routing import ATTENDED, ATTENTION, BLOCK, ROUTED, Routing
from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import PromptBatch
from jaxsafety.models.api import LayerInputs
from jaxsafety.models.formats import library
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling import decode
from jaxsafety.sampling.prompts import row_keys
from jaxsafety.testing import tiny_model

E, B, T = 3, 2, 8
ALL = (*ATTENDED, *ROUTED)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def experts(net, count=E, names=ALL):
    tree = lora.init_experts(
        jax.random.key(1),
        net.projections,
        layers=net.config.num_layers,
        experts=count,
        rank=2,
        scale=2.0,
        names=names,
    )
    for index, pair in enumerate(tree["experts"].values()):
        key = jax.random.fold_in(jax.random.key(2), index)
        pair["b"] = 0.3 * jax.random.normal(key, pair["b"].shape)
    return tree


def router(net, places, count=E):
    key, layers = jax.random.key(7), net.config.num_layers
    return routing.init_router(
        key, net.projections, layers=layers, experts=count, places=places, std=0.5
    )


def ids(rows=B, length=T):
    return jax.random.randint(jax.random.key(0), (rows, length), 3, 260)


def hidden(model, adapters, options=Routing(), **kwargs):
    net, params = model
    tokens = ids()
    positions = jnp.broadcast_to(jnp.arange(T), tokens.shape)
    layers = LayerInputs(adapters=adapters, routing=options)
    return net.apply(params, tokens, positions, layers=layers, **kwargs).hidden


def test_one_block_has_two_scorers_and_a_mlp_alone_has_one(model):
    assert routing.places_of(ROUTED) == (BLOCK,)
    assert routing.places_of(ALL) == routing.places_of(("o", "down")) == (BLOCK, ATTENTION)
    net, _ = model
    table = router(net, routing.places_of(ALL))
    width, layers = net.config.embed_dim, net.config.num_layers
    assert table[ATTENTION]["weight"].shape == (layers, width, E)


@pytest.mark.parametrize("kind", ["fixed", "given"])
def test_equal_shares_are_the_experts_merged(model, kind):
    net, params = model
    tree = experts(net)
    mix = jnp.full((E,), 1 / E)
    if kind == "fixed":
        got = hidden(model, {**tree, "router": routing.fixed(mix, net.config.num_layers)})
    else:
        got = hidden(model, tree, mix=jnp.broadcast_to(mix, (B, E)))
    merged = lora.merge(params, tree, net.projections)
    np.testing.assert_allclose(got, hidden((net, merged), None), atol=3e-5)


def test_a_fixed_choice_is_that_expert_alone_in_the_attention_too(model):
    net, params = model
    tree = experts(net)
    alone = {**tree, "experts": jax.tree.map(lambda x: x[:, 1:2], tree["experts"])}
    chosen = routing.fixed(jnp.eye(E)[1], net.config.num_layers)
    got = hidden(model, {**tree, "router": chosen})
    merged = lora.merge(params, alone, net.projections)
    np.testing.assert_allclose(got, hidden((net, merged), None), atol=3e-5)


def test_both_scorers_learn_and_permuting_experts_changes_nothing(model):
    net, _ = model
    tree, table = experts(net), router(net, (BLOCK, ATTENTION))

    def loss(table):
        return jnp.mean(hidden(model, {**tree, "router": table}) ** 3)

    grads = jax.grad(loss)(table)
    assert all((np.abs(np.asarray(g)).sum(axis=(1, 2)) > 0).all() for g in jax.tree.leaves(grads))
    order = np.array([2, 0, 1])
    moved = {
        "experts": jax.tree.map(lambda x: x[:, order], tree["experts"]),
        "scale": tree["scale"],
        "router": jax.tree.map(lambda x: x[..., order], table),
    }
    one, two = hidden(model, {**tree, "router": table}), hidden(model, moved)
    np.testing.assert_allclose(one, two, atol=3e-5)


@pytest.mark.parametrize("places", [(BLOCK, ATTENTION), ALL])
def test_cached_decoding_mixes_as_teacher_forcing(model, places):
    net, params = model
    layers = LayerInputs(adapters={**experts(net), "router": router(net, places)})
    lengths, width, new = (6, 4), 6, 5
    prompts = np.zeros((2, width), np.int32)
    mask = np.arange(width)[None] >= width - np.asarray(lengths)[:, None]
    prompts[mask] = np.asarray(ids(1, 10))[0]
    said = decode.sample(
        net,
        params,
        PromptBatch(jnp.asarray(prompts), jnp.asarray(mask)),
        row_keys(0, 0, [0, 1], [0, 0]),
        SampleConfig(new, 0.0),
        layers,
    )
    for row, n in enumerate(lengths):
        whole = jnp.asarray(said.tokens)[row, width - n :][None]
        positions = jnp.arange(whole.shape[1])[None]
        forced = net.apply(params, whole, positions, layers=layers).hidden
        logp = jax.nn.log_softmax(net.unembed(params, forced)[0])
        told = [float(logp[n - 1 + t, whole[0, n + t]]) for t in range(new)]
        np.testing.assert_allclose(np.asarray(said.logp)[row, width:], told, atol=1e-4)


def test_linears_route_by_their_options(model):
    """One router per linear: top 1 of the attention's experts is one expert, not two mixed."""
    net, _ = model
    tree = {**experts(net, names=("q",)), "router": router(net, ("q",))}
    one = hidden(model, tree, Routing(top=1))
    assert float(jnp.abs(one - hidden(model, tree, Routing(top=2))).max()) > 1e-3


def test_arrow_reads_what_q_k_and_v_amplify(model):
    net, _ = model
    tree = experts(net)
    found = np.asarray(routing.arrow(tree, (BLOCK, ATTENTION))[ATTENTION]["prototype"])
    flat = lambda p, e: np.asarray(p["a"][0, e]) @ np.asarray(p["b"][0, e]).reshape(2, -1)  # noqa: E731
    for e in range(E):
        update = np.concatenate([flat(tree["experts"][n], e) for n in "qkv"], axis=1)
        u = np.linalg.svd(update)[0][:, 0]
        assert abs(float(u @ found[0, :, e])) == pytest.approx(1.0, abs=1e-4)


def test_a_library_keeps_both_scorers(model, tmp_path):
    net, _ = model
    tree = {**experts(net), "router": router(net, (BLOCK, ATTENTION))}
    library.save(tmp_path, net, tree, Routing())
    again, options = library.load(tmp_path, net)
    assert options == Routing() and set(again["router"]) == {BLOCK, ATTENTION}
    np.testing.assert_allclose(hidden(model, again), hidden(model, tree), atol=1e-5)


@pytest.mark.parametrize(
    ("places", "change"), [((BLOCK,), {}), ((BLOCK, ATTENTION), {"level": "first"})]
)
def test_experts_that_no_scorer_reads_for_are_one_line(model, places, change):
    net, _ = model
    tree = {**experts(net), "router": router(net, places)}
    with pytest.raises(UsageError, match=r"adapters\.router.*attention") as error:
        hidden(model, tree, replace(Routing(), **change))
    assert "\n" not in str(error.value)


def test_experts_on_the_attention_alone_have_its_scorer_alone(model):
    assert routing.places_of(("q", "v")) == (ATTENTION,)
    net, _ = model
    tree = experts(net, names=("q", "v"))
    table = router(net, routing.places_of(("q", "v")))

    def loss(table):
        return jnp.mean(hidden(model, {**tree, "router": table}) ** 3)

    assert float(jnp.abs(jax.grad(loss)(table)[ATTENTION]["weight"]).sum()) > 0

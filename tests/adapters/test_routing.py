"""Routers: what they select, what learns, and that decoding routes as teacher forcing does."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.adapters import lora, routing
from jaxsafety.adapters.routing import Routing
from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import PromptBatch
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling import decode
from jaxsafety.sampling.prompts import row_keys
from jaxsafety.testing import tiny_model

E, R, B, T = 4, 3, 2, 9
NAMES = routing.ROUTED


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def experts(model, count=E, seed=1, size=0.3):
    """Experts that do something: `b` is not zero."""
    tree = lora.init_experts(
        jax.random.key(seed),
        model.projections,
        layers=model.config.num_layers,
        experts=count,
        rank=R,
        scale=2.0,
        names=NAMES,
    )
    for index, name in enumerate(NAMES):
        pair = tree["experts"][name]
        key = jax.random.fold_in(jax.random.key(seed), index)
        pair["b"] = size * jax.random.normal(key, pair["b"].shape)
    return tree


def router(model, places=(routing.BLOCK,), count=E, std=0.5, seed=7):
    return routing.init_router(
        jax.random.key(seed),
        model.projections,
        layers=model.config.num_layers,
        experts=count,
        places=places,
        std=std,
    )


def tokens(seed=0, length=T, rows=B):
    return jax.random.randint(jax.random.key(seed), (rows, length), 3, 260)


@partial(jax.jit, static_argnums=0)
def forward(net, params, ids, layers):
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    return net.apply(params, ids, positions, layers=layers, capture=True)


def apply(pair, adapters, options=None, ids=None, **kwargs):
    layers = LayerInputs(adapters=adapters, routing=options or Routing(), **kwargs)
    return forward(*pair, tokens() if ids is None else ids, layers)


@pytest.mark.parametrize("softmax", routing.SOFTMAX)
@pytest.mark.parametrize("top", [0, 1, 2, 3, 4])
def test_weights_are_those_of_the_paper(top, softmax):
    found = jax.random.normal(jax.random.key(3), (5, 7, E))
    mix = np.asarray(routing.weigh(found, Routing(top=top, softmax=softmax, temperature=0.5)))
    k = top or E
    assert ((mix > 0).sum(axis=-1) == k).all()
    for row, out in zip(np.asarray(found).reshape(-1, E), mix.reshape(-1, E), strict=True):
        best = np.argsort(-row)[:k]
        over = best if softmax == "selected" else np.arange(E)
        expected = np.exp(row[best] / 0.5) / np.exp(row[over] / 0.5).sum()
        np.testing.assert_allclose(out[best], expected, rtol=1e-5)
    if softmax == "selected":
        np.testing.assert_allclose(mix.sum(axis=-1), 1.0, rtol=1e-6)


def test_one_expert_is_a_merged_lora_and_no_update_is_the_base(model):
    net, params = model
    adapters = experts(net, count=1)
    adapters["router"] = router(net, count=1)
    got = apply(model, adapters, Routing(top=1)).hidden
    merged = lora.merge(params, adapters, net.projections)
    plain = LayerInputs()
    np.testing.assert_allclose(got, forward(net, merged, tokens(), plain).hidden, atol=2e-5)
    idle = experts(net, size=0.0)
    idle["router"] = router(net)
    base = forward(net, params, tokens(), plain).hidden
    np.testing.assert_array_equal(apply(model, idle).hidden, base)


def test_permuting_experts_with_their_columns_changes_nothing(model):
    net, _ = model
    adapters = {**experts(net), "router": router(net)}
    order = np.array([2, 0, 3, 1])
    moved = {
        "experts": jax.tree.map(lambda x: x[:, order], adapters["experts"]),
        "scale": adapters["scale"],
        "router": jax.tree.map(lambda x: x[..., order], adapters["router"]),
    }
    one, two = apply(model, adapters), apply(model, moved)
    np.testing.assert_allclose(one.hidden, two.hidden, atol=2e-5)
    assert one.mix is not None and two.mix is not None
    np.testing.assert_allclose(one.mix[..., order], two.mix, atol=1e-5)
    assert one.mix.shape == (3, B, T, E)
    assert ((np.asarray(one.mix) > 0).sum(axis=-1) == 2).all()


def test_the_masked_path_is_a_gather_per_token(model):
    """y += scale * sum over the selected e of w_e (x A_e) B_e, one token and expert at a time."""
    net, _ = model
    p, adapters = net.projections["gate"], experts(net)
    pair = {k: np.asarray(v[1], np.float64) for k, v in adapters["experts"]["gate"].items()}
    x = jax.random.normal(jax.random.key(5), (B, T, p.shape[0]))
    found = jax.random.normal(jax.random.key(6), (B, T, E))
    mix = routing.weigh(found, Routing())
    got = lora.delta(p, x, *map(jnp.asarray, (pair["a"], pair["b"])), mix, 2.0)
    for b in range(B):
        for t in range(T):
            best = np.argsort(-np.asarray(found[b, t]))[:2]
            w = np.exp(found[b, t, best] - found[b, t, best].max())
            w, row = w / w.sum(), np.asarray(x[b, t], np.float64)
            slow = sum(
                2.0 * float(s) * (row @ pair["a"][e]) @ pair["b"][e]
                for e, s in zip(best, w, strict=True)
            )
            np.testing.assert_allclose(got[b, t], slow, atol=1e-4)


def loss_gradient(model, adapters, options):
    net, params = model

    def loss(table):
        out = apply(model, {**adapters, "router": table}, options)
        return jnp.mean(net.unembed(params, out.hidden) ** 2)

    return jax.grad(loss)(adapters["router"])


def test_only_selected_experts_are_learnt_and_one_of_one_never(model):
    net, _ = model
    adapters = {**experts(net), "router": router(net)}
    one_token = dict(ids=tokens(rows=1, length=1))
    mix = np.asarray(apply(model, adapters, **one_token).mix)[:, 0, 0]

    def loss(table):
        out = apply(model, {**adapters, "router": table}, **one_token)
        return jnp.mean(out.hidden**3)

    grads = np.asarray(jax.grad(loss)(adapters["router"])[routing.BLOCK]["weight"])
    used = np.abs(grads).sum(axis=1)  # [L,E]
    assert (used[mix == 0] == 0).all() and (used[mix > 0] > 0).all()
    silent = loss_gradient(model, adapters, Routing(top=1))
    assert all((np.asarray(g) == 0).all() for g in jax.tree.leaves(silent))
    heard = loss_gradient(model, adapters, Routing(top=1, softmax="all"))
    assert all((np.asarray(g) != 0).any() for g in jax.tree.leaves(heard))


def test_the_share_of_one_of_all_learns_as_the_dense_softmax_says():
    """w = p_k of the largest score alone: dL/ds_j = dL/dw_k p_k (1 if j is k else 0 - p_j)."""
    found = jax.random.normal(jax.random.key(3), (6, E))
    back = jax.random.normal(jax.random.key(4), (6, E))
    one = Routing(top=1, softmax="all")
    mix, pull = jax.vjp(lambda s: routing.weigh(s, one), found)
    p = np.exp(np.asarray(found, np.float64))
    p /= p.sum(axis=-1, keepdims=True)
    chosen = np.eye(E)[p.argmax(axis=-1)]
    np.testing.assert_allclose(mix, chosen * p, rtol=1e-5)
    signal = (np.asarray(back) * p * chosen).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(pull(back)[0], signal * (chosen - p), atol=1e-6)


@pytest.mark.parametrize("level", ["token", "first", "last"])
def test_one_of_all_learns_at_every_level(model, level):
    net, params = model
    adapters = {**experts(net), "router": router(net)}
    grads = {}
    for softmax in routing.SOFTMAX:
        options = Routing(top=1, softmax=softmax, level=level)
        pool = routing.pool(jnp.arange(T)[None] < jnp.array([[4], [6]]), options)

        def loss(table, options=options, pool=pool):
            out = apply(model, {**adapters, "router": table}, options, pool=pool)
            return jnp.mean(net.unembed(params, out.hidden) ** 2)

        found = jax.grad(loss)(adapters["router"])[routing.BLOCK]["weight"]
        grads[softmax] = np.abs(np.asarray(found)).sum(axis=(1, 2))  # [L]
    assert (grads["selected"] == 0).all()
    learnt = grads["all"] > 0
    assert learnt.tolist() == ([True, False, False] if level == "first" else [True] * 3)


def places(net, kind):
    adapters = experts(net)
    if kind == "arrow":
        return {**adapters, "router": routing.arrow(adapters)}
    if kind == "x-lora":
        gate = routing.init_gate(
            jax.random.key(2), layers=net.config.num_layers, width=net.config.embed_dim, experts=E
        )
        return {**adapters, "router": gate}
    if kind == "fixed":
        mix = jnp.array([0.1, 0.2, 0.3, 0.4])
        return {**adapters, "router": routing.fixed(mix, net.config.num_layers)}
    return {**adapters, "router": router(net, NAMES if kind == "linears" else (routing.BLOCK,))}


@pytest.mark.parametrize(
    ("kind", "level", "unroll"),
    [
        ("block", "token", False),
        ("block", "first", False),
        ("block", "last", False),
        ("block", "sequence", True),
        ("linears", "token", False),
        ("arrow", "token", False),
        ("x-lora", "token", False),
        ("x-lora", "token", True),
        ("fixed", "token", False),
    ],
)
def test_cached_decoding_routes_as_teacher_forcing(kind, level, unroll):
    net, params = tiny_model(unroll=unroll)
    adapters = places(net, kind)
    options = Routing(top=0 if kind == "x-lora" else 2, level=level)
    lengths, width, new = (6, 4), 6, 5
    ids = np.zeros((2, width), np.int32)
    for row, n in enumerate(lengths):
        ids[row, width - n :] = np.asarray(tokens(seed=row, length=n, rows=1))[0]
    mask = np.arange(width)[None] >= width - np.asarray(lengths)[:, None]
    layers = LayerInputs(adapters=adapters, routing=options)
    out = decode.sample(
        net,
        params,
        PromptBatch(jnp.asarray(ids), jnp.asarray(mask)),
        row_keys(0, 0, [0, 1], [0, 0]),
        SampleConfig(new, 0.0),
        layers,
    )
    for row, n in enumerate(lengths):
        whole = np.asarray(out.tokens)[row, width - n :][None]
        prompt = (np.arange(n + new) < n)[None]
        teacher = replace(layers, pool=routing.pool(jnp.asarray(prompt), options))
        forced = forward(net, params, jnp.asarray(whole), teacher)
        logp = jax.nn.log_softmax(net.unembed(params, forced.hidden)[0])
        told = [float(logp[n - 1 + t, whole[0, n + t]]) for t in range(new)]
        np.testing.assert_allclose(np.asarray(out.logp)[row, width:], told, atol=1e-4)


def test_first_layer_and_sequence_choices_are_shared(model):
    net, _ = model
    adapters = places(net, "block")
    first = np.asarray(apply(model, adapters, Routing(level="first")).mix)
    assert first.shape == (3, B, T, E)
    np.testing.assert_array_equal(first, np.broadcast_to(first[:1], first.shape))
    prompt = jnp.arange(T)[None] < jnp.array([[4], [6]])
    for level in routing.POOLED:
        options = Routing(level=level)
        pool = routing.pool(prompt, options)
        np.testing.assert_allclose(pool.sum(axis=1), 1.0, rtol=1e-6)
        assert apply(model, adapters, options, pool=pool).mix.shape == (3, B, 1, E)
    np.testing.assert_array_equal(np.argmax(routing.pool(prompt, Routing(level="last")), 1), [3, 5])
    with pytest.raises(UsageError, match="pool"):
        apply(model, adapters, Routing(level="last"))


def test_arrow_points_where_the_update_amplifies_most(model):
    net, _ = model
    adapters = experts(net)
    found = np.asarray(routing.arrow(adapters)["block"]["prototype"])
    for e in range(E):
        parts = [adapters["experts"][n] for n in ("gate", "up")]
        update = np.concatenate([np.asarray(p["a"][1, e] @ p["b"][1, e]) for p in parts], axis=1)
        u = np.linalg.svd(update)[0][:, 0]
        assert abs(float(u @ found[1, :, e])) == pytest.approx(1.0, abs=1e-4)
    own = routing.arrow(adapters, ("down",))["down"]["prototype"]
    assert own.shape == (3, net.config.mlp_dim, E)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"top": 5}, "routing.top"),
        ({"top": -1}, "routing.top"),
        ({"top": 1}, "routing.top"),
        ({"softmax": "some"}, "routing.softmax"),
        ({"temperature": 0.0}, "routing.temperature"),
        ({"level": "head"}, "routing.level"),
    ],
)
def test_bad_options_are_one_line(change, field):
    with pytest.raises(UsageError, match=field) as error:
        routing.check(replace(Routing(), **change), E)
    assert "\n" not in str(error.value)
    routing.check(Routing(top=1), E, trained=False)

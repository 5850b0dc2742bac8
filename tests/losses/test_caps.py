"""Capped logits (Gemma 2): losses on c tanh(x / c) equal the dense formula and its gradient."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.losses.dense import dense_value
from jaxsafety.losses.divergence import KINDS, VARIANTS, divergence
from jaxsafety.losses.logprobs import entropy, nll, subset_logps, token_logp
from jaxsafety.losses.profile import subset_mass, token_kl_profile

B, T, D, V, CAP = 2, 6, 5, 13, 1.5
S = np.array([3, 7, 1, 12])
CHUNK = 5


def arrays(seed=0):
    random = np.random.default_rng(seed)
    ours, theirs = (random.normal(size=(B * T, D)).astype(np.float32) for _ in range(2))
    head, other = (random.normal(size=(D, V)).astype(np.float32) for _ in range(2))
    return ours, theirs, head, other


def capped(hidden, head):
    return CAP * jnp.tanh(hidden @ head / CAP)


def close(got, expected):
    flat = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    for a, b in flat:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_divergences(variant, kind, shared):
    ours, theirs, head, other = arrays()
    weight = np.random.default_rng(1).random(B * T).astype(np.float32)
    options = dict(variant=variant, subset=S, kind=kind, topk=3)

    def plain(ours, head):
        there = jax.lax.stop_gradient(capped(theirs, head if shared else other))
        return jnp.sum(weight * dense_value(capped(ours, head), there, **options))

    def loss(ours, head, cap):
        teacher = None if shared else other
        return divergence(ours, theirs, head, teacher, weight, chunk=CHUNK, cap=cap, **options)[0]

    got = jax.value_and_grad(partial(loss, cap=CAP), argnums=(0, 1))(ours, head)
    close(got, jax.value_and_grad(plain, argnums=(0, 1))(ours, head))
    assert abs(loss(ours, head, 0.0) - got[0]) > 1e-3  # the cap matters here


def test_log_probabilities():
    ours, _, head, _ = arrays()
    hidden, random = ours.reshape(B, T, D), np.random.default_rng(2)
    tokens = random.integers(0, V, (B, T)).astype(np.int32)
    weight = random.random((B, T)).astype(np.float32)

    def dense(hidden, head):
        logp = jax.nn.log_softmax(capped(hidden, head))[:, :-1]
        picked = jnp.take_along_axis(logp, tokens[:, 1:, None], 2)[..., 0]
        return -jnp.sum(weight[:, 1:] * picked)

    def by_token(hidden, head):
        return -jnp.sum(weight * token_logp(hidden, head, tokens, chunk=CHUNK, cap=CAP))

    def fused(hidden, head):
        return nll(hidden, head, tokens, weight, chunk=CHUNK, cap=CAP)[0]

    expected = jax.value_and_grad(dense, argnums=(0, 1))(hidden, head)
    for loss in (by_token, fused):
        close(jax.value_and_grad(loss, argnums=(0, 1))(hidden, head), expected)


def test_what_is_only_measured():
    ours, theirs, head, other = arrays()
    logp, base = jax.nn.log_softmax(capped(ours, head)), jax.nn.log_softmax(capped(theirs, other))
    close(subset_logps(ours, head, S, chunk=CHUNK, cap=CAP), logp[:, S])
    close(entropy(ours, head, chunk=CHUNK, cap=CAP), -(jnp.exp(logp) * logp).sum(1))
    close(subset_mass(ours, head, S, CHUNK, CAP), jnp.exp(logp)[:, S].sum(1))
    whole, _ = token_kl_profile(ours, theirs, head, other, S, CHUNK, CAP)
    close(whole, (jnp.exp(base) * (base - logp)).sum(1))

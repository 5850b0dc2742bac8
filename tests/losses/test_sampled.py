"""k1 and k3 against numpy, their means and those of their gradients by enumeration, chunks."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.losses.divergence import divergence
from jaxsafety.losses.sampled import ESTIMATORS, sampled_kl

N, D, V = 11, 5, 13


def softmax(x):
    e = np.exp(np.float64(x) - np.max(x, -1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def arrays(seed=0):
    random = np.random.default_rng(seed)
    student, teacher = (random.normal(size=(N, D)).astype(np.float32) for _ in range(2))
    head, other = (random.normal(size=(D, V)).astype(np.float32) * 0.6 for _ in range(2))
    tokens = random.integers(0, V, N).astype(np.int32)
    weight = (random.random(N) * (np.arange(N) % 3 != 1)).astype(np.float32)
    return student, teacher, head, other, tokens, weight


def plain(estimator, p, q, x):
    """The value in float64 and, as a density ratio r = q / p, its textbook form."""
    r = q[x] / p[x]
    return -np.log(r) if estimator == "k1" else r - 1 - np.log(r)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("chunk", [None, 4])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_loss_is_the_dense_formula_and_so_is_its_gradient(estimator, chunk, shared):
    student, teacher, head, other, tokens, weight = arrays()
    theirs = head if shared else other

    def loss(student, head):
        given = None if shared else other
        options = dict(head_t=given, estimator=estimator, chunk=chunk)
        return sampled_kl(student, teacher, head, tokens, weight, **options)

    (value, rows), (by_hidden, by_head) = jax.jit(
        jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    )(student, head)
    p, q = softmax(student @ head), softmax(teacher @ theirs)
    expected = [plain(estimator, p[n], q[n], tokens[n]) for n in range(N)]
    np.testing.assert_allclose(rows, np.where(weight > 0, expected, 0), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(value, np.sum(weight * expected), rtol=1e-5)
    log_ratio = np.log(p / q)[np.arange(N), tokens]
    factor = log_ratio if estimator == "k1" else 1 - np.exp(-log_ratio)
    slope = (weight * factor)[:, None] * (np.eye(V)[tokens] - p)
    np.testing.assert_allclose(by_hidden, slope @ head.T, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(by_head, student.T @ slope, rtol=1e-4, atol=1e-6)


def enumerated(estimator, z_s, z_t):
    """Mean value and mean gradient over every token, each as likely as the student makes it."""
    p = jnp.float32(softmax(z_s))
    tokens, many = jnp.arange(V), lambda z: jnp.tile(jnp.float32(z), (V, 1))

    def mean(x):
        return sampled_kl(x, many(z_t), jnp.eye(V), tokens, p, estimator=estimator)[0]

    value, by_rows = jax.value_and_grad(mean)(many(z_s))
    return float(value), np.asarray(by_rows).sum(axis=0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_mean_over_the_student_is_the_reverse_kl(estimator):
    random = np.random.default_rng(3)
    for _ in range(5):
        z_s, z_t = random.normal(size=(2, V)) * 1.5
        p, q = softmax(z_s), softmax(z_t)
        value, _ = enumerated(estimator, z_s, z_t)
        assert value == pytest.approx(np.sum(p * np.log(p / q)), rel=1e-5)


@pytest.mark.parametrize(("estimator", "kind"), [("k1", "reverse_kl"), ("k3", "forward_kl")])
def test_the_mean_gradient_is_that_of_a_divergence(estimator, kind):
    """Of the reverse one for k1; of the forward one for k3, whose value is the reverse one's."""

    def against(x, t, kind):
        return divergence(x, t, jnp.eye(V), kind=kind)[0]

    random = np.random.default_rng(4)
    for _ in range(5):
        z_s, z_t = jnp.float32(random.normal(size=(2, 1, V)) * 1.5)
        exact = jax.grad(partial(against, t=z_t, kind=kind))(z_s)[0]
        _, got = enumerated(estimator, z_s[0], z_t[0])
        np.testing.assert_allclose(got, exact, rtol=1e-4, atol=2e-6)
        other = {"reverse_kl": "forward_kl", "forward_kl": "reverse_kl"}[kind]
        wrong = jax.grad(partial(against, t=z_t, kind=other))(z_s)[0]
        assert np.abs(np.asarray(got - wrong)).max() > 1e-2


def test_k1_as_a_plain_loss_would_teach_nothing():
    """Why its gradient is the score function's: what autodiff makes of the value has mean zero."""
    z_s, z_t = np.random.default_rng(5).normal(size=(2, V)) * 1.5
    p = jnp.float32(softmax(z_s))

    def mean(x):  # the weights are how likely each token was, and are not differentiated
        return jnp.sum(p * (jax.nn.log_softmax(x) - jax.nn.log_softmax(jnp.float32(z_t))))

    np.testing.assert_allclose(jax.grad(mean)(jnp.float32(z_s)), 0, atol=1e-6)
    assert np.abs(enumerated("k1", z_s, z_t)[1]).max() > 1e-2


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_where_both_agree_there_is_nothing_and_k3_is_never_negative(estimator):
    student, teacher, head, _, tokens, weight = arrays()
    same = jax.value_and_grad(
        lambda x: sampled_kl(x, student, head, tokens, weight, estimator=estimator)[0]
    )(jnp.asarray(student))
    assert abs(float(same[0])) < 1e-6 and np.abs(np.asarray(same[1])).max() < 1e-6
    _, rows = sampled_kl(student, teacher, head, tokens, jnp.ones(N), estimator=estimator)
    assert (np.asarray(rows) >= 0).all() == (estimator == "k3")


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_rows_without_weight_may_hold_anything(estimator):
    student, teacher, head, other, tokens, weight = arrays()
    off = weight == 0
    torn = np.where(off[:, None], np.nan, student), np.where(off[:, None], np.inf, teacher)

    def loss(student, teacher):
        options = dict(head_t=other, estimator=estimator, chunk=3)
        return sampled_kl(student, teacher, head, tokens, weight, **options)[0]

    (a, by_a), (b, by_b) = (jax.value_and_grad(loss)(*x) for x in ((student, teacher), torn))
    assert float(a) == float(b)
    np.testing.assert_array_equal(by_a, by_b)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_cap_is_part_of_the_model(estimator):
    student, teacher, head, _, tokens, weight = arrays()

    def loss(x, cap):
        return sampled_kl(x, teacher, head, tokens, weight, estimator=estimator, cap=cap)[0]

    def dense(x):
        logp, logq = (
            jnp.take_along_axis(jax.nn.log_softmax(2 * jnp.tanh(h @ head / 2)), at, 1)[:, 0]
            for h, at in ((x, tokens[:, None]), (teacher, tokens[:, None]))
        )
        ratio = logp - logq
        if estimator == "k1":
            return jnp.sum(weight * jax.lax.stop_gradient(ratio) * logp)
        return jnp.sum(weight * (jnp.exp(-ratio) - 1 + ratio))

    got, expected = jax.grad(loss)(jnp.asarray(student), 2.0), jax.grad(dense)(student)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_an_unknown_estimator_is_one_line():
    student, teacher, head, _, tokens, weight = arrays()
    with pytest.raises(UsageError, match="estimator: got 'k2'; allowed: k1, k3"):
        sampled_kl(student, teacher, head, tokens, weight, estimator="k2")

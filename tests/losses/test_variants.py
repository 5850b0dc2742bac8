"""Each variant against its definition in float64, its closed form, and what it does to a student.

The head is the identity, so hidden states are logits and the gradient is the one by the logits.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsafety.losses.dense import dense_value
from jaxsafety.losses.divergence import KINDS, VARIANTS, divergence

V = 9
S = np.array([5, 0, 7])
TOPK = 4
EYE = jnp.eye(V)
CASES = [(variant, kind) for variant in VARIANTS for kind in KINDS]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def definition(z_s, z_t, variant, kind):
    """The value of one row in float64, from the formulas of the paper's analysis."""
    p, q = softmax(z_s), softmax(z_t)
    top = np.argsort(-z_t)[:TOPK]
    ids = {"full": np.arange(V), "topk": top, "partial_topk": top}.get(variant, S)
    rest = 1 - p[ids].sum(), 1 - q[ids].sum()
    p, q = p[ids], q[ids]
    if variant == "renormalised":
        p, q = p / p.sum(), q / q.sum()
    if variant == "tail":
        p, q = np.append(p, rest[0]), np.append(q, rest[1])
    if kind == "forward_kl":
        p, q = q, p
    value = np.sum(p * np.log(p / q))
    return value + np.sum(q - p) if variant in ("generalised", "topk") else value


def closed_form(z_s, z_t, variant):
    """The reverse-KL table: gradient of one row by logit k."""
    p, q = softmax(z_s), softmax(z_t)
    on = np.isin(np.arange(V), S)
    log_r = np.log(p / q)
    mass_p, mass_q, inner = p[on].sum(), q[on].sum(), (p * log_r)[on].sum()
    if variant == "full":
        return p * (log_r - np.sum(p * log_r))
    if variant == "partial":
        return p * (on * (log_r + 1) - (inner + mass_p))
    if variant == "generalised":
        return p * (on * log_r - inner)
    if variant == "tail":
        rest = np.log((1 - mass_p) / (1 - mass_q))
        return p * (np.where(on, log_r, rest) - (inner + (1 - mass_p) * rest))
    hat = log_r - np.log(mass_p / mass_q)
    return on * p / mass_p * (hat - np.sum(on * p / mass_p * hat))


def run(variant, kind, subset=S, chunk=None, topk=TOPK, head=EYE):
    """jitted (student logits, teacher logits) -> values [N], gradient [N,V] of their sum."""

    @jax.jit
    def call(student, teacher):
        def loss(x):
            ones = jnp.ones(x.shape[0])
            options = dict(variant=variant, kind=kind, subset=subset, chunk=chunk, topk=topk)
            return divergence(x, teacher, head, None, ones, **options)

        (_, values), gradient = jax.value_and_grad(loss, has_aux=True)(student)
        return values, gradient

    return call


@pytest.fixture(scope="module")
def runs():
    return {case: run(*case) for case in CASES}


def logits(seed, rows=4, scale=1.5):
    random = np.random.default_rng(seed)
    return [random.normal(size=(rows, V)) * scale for _ in range(2)]


@pytest.mark.parametrize(("variant", "kind"), CASES)
def test_value_and_finite_differences(runs, variant, kind):
    z_s, z_t = logits(3)
    values, gradient = runs[variant, kind](jnp.float32(z_s), jnp.float32(z_t))
    step = 1e-5
    for n in range(len(z_s)):
        value = definition(z_s[n], z_t[n], variant, kind)
        assert float(values[n]) == pytest.approx(value, rel=2e-6, abs=2e-6)
        for k in range(V):
            ahead, behind = z_s[n].copy(), z_s[n].copy()
            ahead[k] += step
            behind[k] -= step
            slope = definition(ahead, z_t[n], variant, kind)
            slope -= definition(behind, z_t[n], variant, kind)
            assert float(gradient[n, k]) == pytest.approx(slope / (2 * step), rel=1e-4, abs=2e-6)


@pytest.mark.parametrize(("variant", "kind"), CASES)
def test_autodiff_of_the_definition(runs, variant, kind):
    z_s, z_t = map(jnp.float32, logits(4))
    dense = lambda x: dense_value(x, z_t, variant=variant, kind=kind, subset=S, topk=TOPK)  # noqa: E731
    values, gradient = runs[variant, kind](z_s, z_t)
    np.testing.assert_allclose(values, dense(z_s), rtol=2e-6, atol=1e-6)
    expected = jax.grad(lambda x: dense(x).sum())(z_s)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", ["full", "partial", "generalised", "tail", "renormalised"])
def test_reverse_gradients_are_the_closed_forms(runs, variant):
    z_s, z_t = logits(5)
    _, gradient = runs[variant, "reverse_kl"](jnp.float32(z_s), jnp.float32(z_t))
    for n in range(len(z_s)):
        np.testing.assert_allclose(gradient[n], closed_form(z_s[n], z_t[n], variant), atol=1e-6)


TWO = [  # p = (1/2, 1/2), q = (1/4, 3/4), S = {0}, k = 1: (value, gradient by logit 0), by hand
    ("full", "reverse_kl", 0.5 * math.log(4 / 3), 0.5 * (math.log(2) - 0.5 * math.log(4 / 3))),
    ("partial", "reverse_kl", 0.5 * math.log(2), 0.25 * (math.log(2) + 1)),
    ("generalised", "reverse_kl", 0.5 * math.log(2) - 0.25, 0.25 * math.log(2)),
    ("tail", "reverse_kl", 0.5 * math.log(4 / 3), 0.25 * math.log(3)),
    ("renormalised", "reverse_kl", 0.0, 0.0),
    ("topk", "reverse_kl", 0.5 * math.log(2 / 3) + 0.25, 0.25 * math.log(3 / 2)),
    ("full", "forward_kl", 0.75 * math.log(3 / 2) - 0.25 * math.log(2), 0.25),
    ("partial", "forward_kl", -0.25 * math.log(2), -0.125),
    ("generalised", "forward_kl", 0.25 - 0.25 * math.log(2), 0.125),
    ("tail", "forward_kl", 0.75 * math.log(3 / 2) - 0.25 * math.log(2), 0.25),
    ("topk", "forward_kl", 0.75 * math.log(3 / 2) - 0.25, 0.125),
    ("partial_topk", "reverse_kl", 0.5 * math.log(2 / 3), -0.25 * (math.log(2 / 3) + 1)),
    ("partial_topk", "forward_kl", 0.75 * math.log(3 / 2), 0.375),
]


@pytest.mark.parametrize(("variant", "kind", "value", "slope"), TWO)
def test_two_tokens_by_hand(variant, kind, value, slope):
    call = run(variant, kind, subset=np.array([0]), topk=1, head=jnp.eye(2))
    student, teacher = jnp.zeros((1, 2)), jnp.log(jnp.array([[0.25, 0.75]]))
    values, gradient = call(student, teacher)
    assert float(values[0]) == pytest.approx(value, abs=1e-6)
    np.testing.assert_allclose(gradient[0], [slope, -slope], atol=1e-6)


@pytest.mark.parametrize(
    ("variant", "kind", "ratio"),
    [
        ("partial", "reverse_kl", math.exp(-1)),
        ("generalised", "reverse_kl", 1.0),
        ("tail", "reverse_kl", 1.0),
        ("generalised", "forward_kl", 1.0),
        ("tail", "forward_kl", 1.0),
    ],
)
def test_fixed_points(variant, kind, ratio):
    """Free logits against a fixed teacher end at p_S / q_S = 1/e (the paper's loss), else at 1."""
    z_s, z_t = map(jnp.float32, logits(6, rows=2, scale=0.7))
    call = run(variant, kind)
    descend = jax.jit(
        lambda x: jax.lax.fori_loop(0, 3000, lambda _, x: x - 1.0 * call(x, z_t)[1], x)
    )
    end = descend(z_s)
    p, q = jax.nn.softmax(end), jax.nn.softmax(z_t)
    np.testing.assert_allclose(p[:, S] / q[:, S], ratio, atol=1e-3)
    start = jax.nn.softmax(z_s)
    assert np.abs(start[:, S] / q[:, S] - ratio).max() > 0.1


def test_partial_forward_moves_all_mass_onto_the_subset():
    z_s, z_t = map(jnp.float32, logits(6, rows=2, scale=0.7))
    call = run("partial", "forward_kl")
    end = jax.jit(lambda x: jax.lax.fori_loop(0, 3000, lambda _, x: x - 1.0 * call(x, z_t)[1], x))(
        z_s
    )
    mass = jax.nn.softmax(end)[:, S].sum(1)
    assert mass.min() > 0.99 > 0.9 > jax.nn.softmax(z_t)[:, S].sum(1).max()


@pytest.mark.parametrize("variant", ["partial", "generalised", "tail"])
def test_the_whole_vocabulary_as_subset_is_the_full_divergence(runs, variant):
    z_s, z_t = map(jnp.float32, logits(7))
    for kind in KINDS:
        values, gradient = run(variant, kind, subset=np.arange(V)[::-1])(z_s, z_t)
        expected, slopes = runs["full", kind](z_s, z_t)
        np.testing.assert_allclose(values, expected, atol=1e-6)
        np.testing.assert_allclose(gradient, slopes, atol=1e-6)
        assert np.all(np.asarray(values) >= 0)


def test_off_the_subset_only_renormalised_is_silent(runs):
    z_s, z_t = map(jnp.float32, logits(8))
    off = np.setdiff1d(np.arange(V), S)
    for variant in ("partial", "generalised", "tail", "full"):
        assert np.abs(runs[variant, "reverse_kl"](z_s, z_t)[1][:, off]).min() > 1e-5, variant
    assert np.all(np.asarray(runs["renormalised", "reverse_kl"](z_s, z_t)[1][:, off]) == 0)
    assert np.abs(runs["renormalised", "reverse_kl"](z_s, z_t)[1][:, S]).max() > 1e-3


def test_partial_can_be_negative(runs):
    low = jnp.zeros((1, V)).at[:, S].set(-2.0)
    assert float(runs["partial", "reverse_kl"](low, jnp.zeros((1, V)))[0][0]) < -0.01


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 12), shift=st.floats(-30, 30))
def test_divergences_are_nonnegative_zero_at_the_teacher_and_blind_to_shifts(
    runs, seed, scale, shift
):
    z_s, z_t = map(jnp.float32, logits(seed, scale=scale))
    for case in CASES:
        values, gradient = runs[case](z_s, z_t)
        assert np.isfinite(values).all() and np.isfinite(gradient).all()
        np.testing.assert_allclose(np.asarray(gradient).sum(1), 0, atol=2e-5 * scale)
        moved = runs[case](z_s + shift, z_t - shift)
        np.testing.assert_allclose(moved[0], values, atol=2e-5 * (scale + 30))
        np.testing.assert_allclose(moved[1], gradient, atol=2e-5 * (scale + 30))
        if case[0] not in ("partial", "partial_topk"):  # which are no divergences
            assert np.asarray(values).min() > -1e-5
            same = runs[case](z_t, z_t)
            np.testing.assert_allclose(same[0], 0, atol=1e-5)
            np.testing.assert_allclose(same[1], 0, atol=1e-5)


def test_extreme_logits_stay_finite(runs):
    """A student or teacher that is certain, on or off the subset, gives no NaN."""
    sure = 200.0 * np.eye(V, dtype=np.float32)
    for case in CASES:
        for z_s, z_t in ((sure, sure[::-1]), (sure, 0 * sure), (0 * sure, sure)):
            values, gradient = runs[case](jnp.asarray(z_s), jnp.asarray(z_t))
            assert np.isfinite(values).all() and np.isfinite(gradient).all(), case

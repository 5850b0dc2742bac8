"""Equivalence: the likeliest rates by a numerical maximum, the level at the margin, edges."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from jaxsafety.benchmarks import equivalence
from jaxsafety.benchmarks.anchors import Point
from jaxsafety.benchmarks.equivalence import comparable
from jaxsafety.core.errors import UsageError


def log(count, rate):
    return count * math.log(rate) if count else 0.0


def maximise(likelihood, lo, hi):
    options = {"xatol": 1e-11}
    return minimize_scalar(
        lambda p: -likelihood(p), bounds=(lo + 1e-12, hi - 1e-12), method="bounded", options=options
    ).x


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 60), st.floats(-0.9, 0.9))
def test_the_likeliest_paired_rate(b, c, same, d):
    n = b + c + same
    if not n:
        return
    found = equivalence.likeliest_alone(b, c, n, d)
    lo, hi = max(0.0, -d), (1 - d) / 2
    assert lo - 1e-9 <= found <= hi + 1e-9
    best = maximise(lambda q: log(b, q + d) + log(c, q) + log(same, 1 - 2 * q - d), lo, hi)
    assert found == pytest.approx(best, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.floats(0, 1), st.floats(-0.9, 0.9)
)
def test_the_likeliest_rates_of_two_samples(n1, n2, s1, s2, d):
    x1, x2 = round(s1 * n1), round(s2 * n2)
    p1, p2 = equivalence.likeliest_rates(x1, n1, x2, n2, d)
    assert p1 - p2 == pytest.approx(d)

    def likelihood(p):
        return log(x1, p + d) + log(n1 - x1, 1 - p - d) + log(x2, p) + log(n2 - x2, 1 - p)

    lo, hi = max(0.0, -d), min(1.0, 1 - d)
    best = maximise(likelihood, lo, hi)
    inside = min(max(p2, lo + 1e-12), hi - 1e-12)
    assert likelihood(inside) >= likelihood(best) - 1e-6


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 400), st.floats(0.01, 0.3), st.booleans())
def test_the_test_and_its_interval_agree(seed, n, eps, paired):
    rng = np.random.default_rng(seed)
    a = (rng.random(n) < rng.random()).astype(float)
    b = np.where(rng.random(n) < rng.random(), a, 1 - a)
    if not paired:
        a, b = Point(0, a.sum(), n), Point(0, b.sum(), n)
    found, back = comparable(a, b, eps), comparable(b, a, eps)
    assert found.lo <= found.value <= found.hi and found.paired == paired
    inside = -eps < found.lo and found.hi < eps
    if min(abs(found.lo + eps), abs(found.hi - eps)) > 1e-6:
        assert (found.verdict == "equivalent") == inside == (found.p < 0.05)
    assert (found.verdict == "different") == (found.lo > eps or found.hi < -eps)
    assert (back.value, back.lo, back.hi) == pytest.approx((-found.value, -found.hi, -found.lo))
    assert back.verdict == found.verdict


@pytest.mark.parametrize("paired", [True, False])
def test_at_the_margin_it_errs_in_one_of_twenty(paired):
    """Two models exactly eps apart are called equivalent in 5 % of trials."""
    rng, n, eps, trials = np.random.default_rng(0), 1000, 0.04, 1500
    wrong = 0
    for _ in range(trials):
        if paired:  # alone right: 12 % and 8 %
            b, c, _ = rng.multinomial(n, [0.12, 0.08, 0.8])
            z = equivalence._paired(int(b), int(c), n, eps)
        else:
            x, y = rng.binomial(n, 0.74), rng.binomial(n, 0.70)
            z = equivalence._two_samples(int(x), n, int(y), n, eps)
        wrong += z < -1.6449  # the side that errs; the other has no part in it here
    assert 0.035 < wrong / trials < 0.065  # 2.7 standard errors


@pytest.mark.parametrize("d", [-0.5, -0.1, 0.1, 0.3])
def test_the_paired_variance_is_that_of_two_shares(d):
    b, c, n = 30, 12, 100
    q = equivalence.likeliest_alone(b, c, n, d)
    variance = ((q + d) + q - d**2) / n  # of the mean of 1, -1 and 0
    assert equivalence._paired(b, c, n, d) == pytest.approx((0.18 - d) / math.sqrt(variance))


def test_agreement_on_little_shows_little():
    assert comparable(np.ones(3), np.ones(3), 0.02).verdict == "undecided"
    few, many = (
        comparable(np.ones(130), np.ones(130), 0.02),
        comparable(np.ones(140), np.ones(140), 0.02),
    )
    assert (few.verdict, many.verdict) == ("undecided", "equivalent")  # z^2 (1 - eps) / eps = 132.6
    assert comparable(np.ones(50), np.zeros(50), 0.02).verdict == "different"


def test_what_is_unknown_is_counted_and_not_compared():
    a, b = [1, 1, 0, math.nan, 1], [1, 0, 0, 1, math.nan]
    found = comparable(a, b, 0.1)
    assert (found.n, found.nulls, found.value) == (3, 2, pytest.approx(1 / 3))
    nothing = comparable([math.nan, 1], [1, math.nan], 0.1)
    assert nothing[:5] == (None,) * 5 and nothing.cause and nothing.nulls == 2
    mixed = comparable(Point(0, 3, 4), b, 0.1)
    assert (mixed.paired, mixed.n, mixed.nulls) == (False, 4, 1)
    assert comparable(Point(0, 0, 0), Point(0, 1, 2), 0.1).cause == "nothing was scored"
    with pytest.raises(ValueError, match="same items"):
        comparable([1, 0], [1], 0.1)
    for eps, alpha in ((0, 0.05), (1, 0.05), (0.1, 0.5), (math.nan, 0.05)):
        with pytest.raises(UsageError):
            comparable([1], [1], eps, alpha=alpha)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from jaxsafety.core.errors import UsageError
from jaxsafety.weak.calibrate import CLIP, calibrate, expected_error, isotonic, platt


def overconfident(seed, n=600, times=4.0):
    """True probabilities, labels, and log-odds that are so many times too large."""
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 2, n)
    return p, (rng.random(n) < p).astype(int), expit(times * logit(p))


def test_platt_finds_how_much_too_sure_they_are():
    """A slope of 1/4 and an intercept of 0: within 0.05 and 0.15 in five seeds."""
    for seed in range(5):
        p, truth, sure = overconfident(seed, n=3000)
        found = platt(sure, truth.astype(float))
        line = logit(found(np.array([0.5, 0.9])))
        slope = (line[1] - line[0]) / logit(0.9)
        assert abs(slope - 0.25) < 0.05 and abs(line[0]) < 0.15
        assert np.abs(found(sure) - p).mean() < 0.03


def test_platt_matches_a_plain_search():
    """The minimum of the cross-entropy on Platt's targets, by a grid."""
    _, truth, sure = overconfident(1, n=60)
    truth, x = truth.astype(float), logit(np.clip(sure, CLIP, 1 - CLIP))
    yes = truth.sum()
    target = np.where(truth == 1, (yes + 1) / (yes + 2), 1 / (60 - yes + 2))
    a, b = np.meshgrid(np.linspace(0, 1, 201), np.linspace(-1, 1, 201), indexing="ij")
    z = a[..., None] * x + b[..., None]
    loss = (np.logaddexp(0, z) - target * z).mean(axis=-1)
    i, j = np.unravel_index(loss.argmin(), loss.shape)
    found = logit(platt(sure, truth)(np.array([0.5, expit(1.0)])))
    assert abs(found[0] - b[i, j]) < 0.01 and abs(found[1] - found[0] - a[i, j]) < 0.01


def test_labels_are_never_turned_round():
    p = np.linspace(0.01, 0.99, 100)
    truth = (p < 0.5).astype(float)  # the wrong way round
    assert np.ptp(platt(p, truth)(p)) < 1e-6


def test_isotonic_by_hand():
    p = np.array([0.1, 0.2, 0.2, 0.6, 0.7])
    found = isotonic(p, np.array([0.0, 1.0, 0.0, 0.0, 1.0]))
    # means 0, 1/2 (twice), 0, 1: the middle two violate the order and pool to 1/3
    assert np.allclose(found(np.array([0.1, 0.2, 0.6, 0.7])), [0, 1 / 3, 1 / 3, 1])
    assert np.allclose(found(np.array([0.0, 0.15, 1.0])), [0, 1 / 6, 1])


def test_expected_error_by_hand():
    p, y = np.array([0.1, 0.3, 0.8, 1.0]), np.array([0, 1, 1, 0])
    assert np.isclose(expected_error(p, y, bins=2), (0.3 + 0.4) / 2)
    assert np.isclose(expected_error(p, y, bins=1), 0.05)
    assert np.isclose(expected_error(p, y, bins=99), np.abs(p - y).mean())


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_few_gold_labels_mend_overconfidence(method):
    gold_labels = {"platt": 60, "isotonic": 200}[method]
    for seed in range(3):
        p, truth, sure = overconfident(seed)
        gold = [int(y) if i < gold_labels else None for i, y in enumerate(truth)]
        found = calibrate(sure, gold, method=method, resamples=200)
        assert (found.method, found.gold, found.cause) == (method, gold_labels, "")
        rest = slice(gold_labels, None)
        before = np.abs(sure - p)[rest].mean()
        assert np.abs(found.probability - p)[rest].mean() < 0.6 * before
        (before, after), (ece, better) = found.brier, found.ece
        assert after.value < before.value and better.value < ece.value
        assert before.lo < before.value < before.hi and after.lo < after.value < after.hi
        assert np.isclose(before.value, ((sure - truth)[:gold_labels] ** 2).mean())


def test_what_is_reported_was_not_fitted_to():
    """On coin flips nothing can be learnt: the figure after is no better than one half squared."""
    rng = np.random.default_rng(0)
    p, y = rng.random(150), rng.integers(0, 2, 150)
    found = calibrate(p, y.tolist(), method="isotonic", resamples=50)
    own = isotonic(p, y.astype(float))(p)
    assert ((own - y) ** 2).mean() < 0.25 < found.brier[1].value


def test_without_gold_they_stay_as_they_are():
    p = np.array([0.2, np.nan, 0.9])
    for gold in (None, [None] * 3):
        found = calibrate(p, gold)
        assert np.array_equal(found.probability, p, equal_nan=True) and found.method == "none"
        assert found.gold == 0 and "no gold labels" in found.cause
        assert all(e.value is None and e.cause for e in (*found.brier, *found.ece))


@hypothesis_settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_order_is_kept(seed):
    rng = np.random.default_rng(seed)
    p = np.sort(rng.choice([0.0, 1.0, *rng.random(20)], 120))
    truth = (rng.random(120) < p).astype(float)
    truth[:2], truth[-2:] = 0, 1
    for fit in (platt, isotonic):
        found = fit(p, truth)(p)
        assert ((found >= 0) & (found <= 1)).all() and (np.diff(found) >= -1e-12).all()


def test_unknown_labels_stay_unknown():
    _, truth, sure = overconfident(0, n=200)
    sure[7] = np.nan
    found = calibrate(sure, truth.tolist(), resamples=10)
    assert found.gold == 199 and np.flatnonzero(np.isnan(found.probability)).tolist() == [7]


BAD = {
    "range": ([1.2], [1], {}, "calibrate.probability"),
    "length": ([0.5, 0.5], [1], {}, "calibrate.gold: got '1 labels of 2 items'"),
    "value": ([0.5], [2], {}, "calibrate.gold: got 2.0"),
    "few": ([0.5] * 15, [1] * 9 + [0] * 6, {}, "got '9 of class 1 and 6 of class 0'"),
    "method": ([0.5], [1], {"method": "beta"}, "calibrate.method: got 'beta'; allowed: platt"),
    "folds": ([0.5], [1], {"folds": 1}, "calibrate.folds: got 1"),
    "many": ([0.5] * 40, [0, 1] * 20, {"method": "isotonic"}, "isotonic with 40 gold labels"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case):
    p, gold, options, line = BAD[case]
    with pytest.raises(UsageError, match=line):
        calibrate(p, gold, **options)

"""Signs over cells, both readings of incoherence, rankings, and kappa by coherence."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxsafety.benchmarks import agreement, stability
from jaxsafety.benchmarks.agreement import compare, contrast_coherence
from jaxsafety.benchmarks.cells import Cell, Change, Key, Table, resample
from jaxsafety.benchmarks.stability import compare_orders, conclude, count_signs, kendall

UP, DOWN = Change(0.2, 0.1, 0.3, 3, 0), Change(-0.2, -0.3, -0.1, 3, 0)
OPEN, LOST = Change(0.1, -0.1, 0.3, 3, 0), Change(None, None, None, 3, 0, "why")


@pytest.mark.parametrize(
    "changes,verdict,flips,share",
    [
        ([UP, UP], "robust: up", 0, 0.0),
        ([DOWN] * 3, "robust: down", 0, 0.0),
        ([UP, OPEN], "undecided", 0, 0.0),  # no support, and no flip
        ([UP, UP, DOWN, OPEN], "flips", 1, 1 / 3),
        ([UP, LOST], "undecided", 0, 0.0),
        ([OPEN, OPEN], "undecided", 0, None),
        ([LOST], "unknown", 0, None),
        ([], "unknown", 0, None),
    ],
)
def test_signs(changes, verdict, flips, share):
    found = count_signs(dict(enumerate(changes)))
    assert (found.verdict, found.flips, found.share) == (verdict, flips, share)
    assert found.up + found.down + found.undecided + found.unknown == len(changes)
    assert [UP.sign, DOWN.sign, OPEN.sign, LOST.sign] == [1, -1, 0, None]
    assert Change(0.1, 0.0, 0.2, 1, 0).sign == 0  # touches 0: holds it


def study(answers, seeds=3, n=200):
    """(arm, benchmark, judge) -> (share unsafe, share incoherent), nested so that seeds agree."""
    at = np.arange(n) / n
    return Table(
        {
            Key(a, s, b, j): Cell(at < unsafe, (at < 1 - incoherent))
            for (a, b, j), (unsafe, incoherent) in answers.items()
            for s in range(seeds)
        }
    )


def test_the_conclusion_under_both_readings():
    """C9: an arm that turns to gibberish is safer or less safe as one reads the gibberish."""
    base = {("base", b, "j"): (0.4, 0.0) for b in ("x", "y")}
    broken = {("broken", b, "j"): (0.1, 0.6) for b in ("x", "y")}
    worse = {("worse", b, "j"): (0.8, 0.0) for b in ("x", "y")}
    mixed = {("mixed", "x", "j"): (0.8, 0.0), ("mixed", "y", "j"): (0.1, 0.0)}
    drawn = resample(study({**base, **broken, **worse, **mixed}), resamples=400)
    found = conclude(drawn, "broken", "base")
    assert (found.safe.verdict, found.unsafe.verdict) == ("robust: down", "robust: up")
    assert found.both.verdict == "flips" and (found.both.up, found.both.down) == (2, 2)
    assert found.changes["x", "j", "lo"].value == pytest.approx(-0.3)
    assert found.changes["x", "j", "hi"].value == pytest.approx(0.3)
    assert conclude(drawn, "worse", "base").both.verdict == "robust: up"
    assert conclude(drawn, "mixed", "base").both.verdict == "flips"
    assert conclude(drawn, "base", "base").both.verdict == "undecided"
    assert conclude(drawn, "nobody", "base").both.verdict == "unknown"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=9))
def test_tau_is_that_of_scipy(pairs):
    x, y = np.array(pairs, float).T
    ours, theirs = float(kendall(x, y)), stats.kendalltau(x, y, variant="b").statistic
    assert ours == pytest.approx(theirs, abs=1e-12) or (math.isnan(ours) and math.isnan(theirs))


def test_tau_of_known_orders():
    up, tied = np.arange(6.0), np.array([0.0, 0, 1, 1, 2, 2])
    assert kendall(up, up) == 1.0 and kendall(up, -up) == -1.0
    assert kendall(up, np.exp(up)) == 1.0 and kendall(tied, tied) == pytest.approx(1.0)
    assert kendall(up, tied) == pytest.approx(12 / math.sqrt(15 * 12))
    assert math.isnan(kendall(up, np.zeros(6)))
    gap = np.array([0.0, np.nan, 2, 3, 4, 5])
    assert kendall(gap, -up) == -1.0
    rows = np.stack([up, gap, np.zeros(6)])
    np.testing.assert_array_equal(kendall(rows, up), [1.0, 1.0, np.nan])
    same = np.tile(up, (11, 1))
    assert compare_orders(same, same) == (1.0, 1.0, 1.0, "")
    assert compare_orders(same, -same)[:3] == (-1.0, -1.0, -1.0)
    assert compare_orders(same, 0 * same) == (None, None, None, stability.TIED)
    one = np.where(np.arange(6) < 1, same, np.nan)
    assert compare_orders(same, one).cause == stability.TOO_FEW
    rare = np.where(np.arange(11)[:, None] < 3, same, 0.0)
    assert compare_orders(same, rare) == (1.0, None, None, stability.SELDOM)


def test_rankings_across_cells():
    shares = {"a": 0.1, "b": 0.3, "c": 0.5, "d": 0.9}
    rows = {(a, "x", j): (u, 0.0) for a, u in shares.items() for j in ("one", "two")}
    rows |= {(a, "y", "one"): (1 - u, 0.0) for a, u in shares.items()}
    rows |= {("a", "z", "one"): (0.5, 0.0)}  # a cell without the other arms
    drawn = resample(study(rows), resamples=300)
    found = stability.compare_cells(drawn, list(shares), "hi")
    assert len(found) == 3
    assert found[("x", "one"), ("x", "two")][:3] == (1.0, 1.0, 1.0)
    other = found[("x", "one"), ("y", "one")]
    assert other.value == -1.0 and other.lo == -1.0 and other.hi < 0


def test_fifteen_arms_in_twelve_cells_take_seconds():
    rng = np.random.default_rng(0)
    cells = [(f"b{i}", f"j{k}") for i in range(3) for k in range(4)]
    table = Table(
        {
            Key(f"a{a}", s, *c): Cell(rng.random(300) < 0.5, rng.random(300) < 0.9)
            for a in range(15)
            for s in range(3)
            for c in cells
        }
    )
    start = time.process_time()
    drawn = resample(table, resamples=1000)
    found = stability.compare_cells(drawn, [f"a{a}" for a in range(15)], "lo")
    assert time.process_time() - start < 8 and len(found) == 66


def judges(n, seed, agree_coherent, agree_incoherent):
    rng = np.random.default_rng(seed)
    coherent, first = rng.random(n) < 0.6, rng.random(n) < 0.5
    same = rng.random(n) < np.where(coherent, agree_coherent, agree_incoherent)
    return first.tolist(), np.where(same, first, ~first).tolist(), coherent.tolist()


def test_kappa_on_incoherent_minus_coherent():
    first, second, coherent = judges(600, 0, 0.95, 0.6)
    found = contrast_coherence(first, second, coherent)
    parts = agreement.compare_strata(first, second, list(map(agreement.label_coherence, coherent)))
    by_hand = parts["incoherent"].kappa.value - parts["coherent"].kappa.value
    assert found.value == pytest.approx(by_hand) and found.lo < found.value < found.hi < 0
    equal = contrast_coherence(*judges(600, 1, 0.8, 0.8))
    assert equal.lo < 0 < equal.hi
    # one prompt many times: clusters widen the interval, and nothing else
    prompts = [i // 6 for i in range(600)]
    block = [x for x in first[::6] for _ in range(6)], [x for x in second[::6] for _ in range(6)]
    whole = [x for x in coherent[::6] for _ in range(6)]
    wide, narrow = (
        contrast_coherence(*block, whole, clusters=prompts),
        contrast_coherence(*block, whole),
    )
    assert wide.value == narrow.value and wide.hi - wide.lo > 2 * (narrow.hi - narrow.lo)
    assert contrast_coherence(first, second, coherent) == found


def test_kappa_by_coherence_that_is_not_defined_says_which():
    first, second, coherent = judges(60, 0, 0.9, 0.6)
    none = contrast_coherence(first, second, [True] * 60)
    assert none[:3] == (None,) * 3 and none.cause == f"incoherent answers: {agreement.NOTHING}"
    flat = [c or None for c in coherent]
    assert "incoherent answers" in contrast_coherence(first, second, flat).cause
    yes = contrast_coherence([True] * 60, [True] * 60, coherent)
    assert yes.cause == f"coherent answers: {agreement.ONE_LABEL}"
    assert contrast_coherence([], [], []).cause == f"coherent answers: {agreement.NOTHING}"
    with pytest.raises(ValueError, match="equally long"):
        contrast_coherence([True], [True], [])
    # unknown answers are left out, as if they were not there
    more = contrast_coherence([*first, None], [*second, True], [*coherent, True])
    assert more.value == contrast_coherence(first, second, coherent).value
    assert compare(first, second).n == 60


@pytest.mark.slow
def test_the_interval_of_the_difference_covers_it():
    truth = (2 * 0.65 - 1) - (2 * 0.9 - 1)  # kappa at prevalence 1/2
    hits, trials = 0, 300
    for i in range(trials):
        found = contrast_coherence(*judges(400, i, 0.9, 0.65), resamples=400, seed=i)
        hits += found.lo <= truth <= found.hi
    assert 0.91 < hits / trials < 0.98

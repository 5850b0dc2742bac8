"""Four words, read off an interval and a margin: properties, and Holm by hand."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxsafety.benchmarks import verdict as v
from jaxsafety.core.errors import UsageError

number = st.floats(-1, 1, allow_subnormal=False)
side = st.sampled_from(("above", "below", "within"))
draws = st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=2, max_size=9)
quiet = settings(deadline=None, max_examples=50)
chances = st.lists(st.floats(0, 1), max_size=12)


def claim(name, margin):
    if name == "within":
        assume(margin > 0)
    return v.Claim(name, margin, "configs/x.py")


def interval(lo, hi):
    return v.Interval((lo + hi) / 2, lo, hi, 5)


@quiet
@given(side, number, number, number)
def test_turned_round_the_word_is_the_same(name, margin, a, b):
    lo, hi = sorted((a, b))
    other = {"above": "below", "below": "above", "within": "within"}[name]
    one = claim(name, margin).verdict(interval(lo, hi))
    turned = margin if name == "within" else -margin
    assert one in v.WORDS and one == claim(other, turned).verdict(interval(-hi, -lo))


@quiet
@given(side, number, number, number, st.floats(0, 1), st.floats(0, 1))
def test_a_wider_interval_only_opens(name, margin, a, b, left, right):
    lo, hi = sorted((a, b))
    said, told = claim(name, margin), claim(name, margin).verdict(interval(lo, hi))
    assert said.verdict(interval(lo - left, hi + right)) in {told, v.OPEN}


@quiet
@given(number, number, number, number)
def test_a_harder_margin_never_helps(first, second, a, b):
    (lo, hi), (easy, hard) = sorted((a, b)), sorted((first, second))
    rank = {v.FAILS: 0, v.OPEN: 1, v.HOLDS: 2}
    found = [rank[v.Claim("above", m).verdict(interval(lo, hi))] for m in (easy, hard)]
    assert found[0] >= found[1]


@quiet
@given(st.floats(0.01, 1), number, number)
def test_within_is_both_sides(margin, a, b):
    found = interval(*sorted((a, b)))
    within = v.Claim("within", margin, "set before").verdict(found)
    both = v.Claim("above", -margin).verdict(found), v.Claim("below", margin).verdict(found)
    assert (within == v.HOLDS) == (both == (v.HOLDS, v.HOLDS))
    assert (within == v.FAILS) == (v.FAILS in both)


@quiet
@given(draws, number)
def test_word_and_p_say_the_same(values, margin):
    found = v.t_interval(values)
    said = v.Claim("above", margin)
    assume(min(abs(found.lo - margin), abs(found.hi - margin)) > 1e-9)
    assert (said.verdict(found) != v.OPEN) == (said.p(values) < 0.05)
    assert said.verdict(found, said.p(values)) == said.verdict(found)


@quiet
@given(draws, st.floats(0.01, 1))
def test_equivalence_and_its_p_say_the_same(values, margin):
    found, said = v.t_interval(values), v.Claim("within", margin, "set before")
    ends = [abs(abs(x) - margin) for x in (found.lo, found.hi, found.mean)]
    assume(min(ends) > 1e-9)
    assert (said.verdict(found) != v.OPEN) == (said.p(values) < 0.05)


@quiet
@given(side, number, number, number)
def test_construction_and_multiplicity_come_before_the_interval(name, margin, a, b):
    found = interval(*sorted((a, b)))
    said = claim(name, margin)
    assert said.verdict(found, p=0.05) == said.verdict(found, p=math.nan) == v.OPEN
    told = v.Claim(name, margin, "configs/x.py", "none of these met the facts")
    assert told.verdict(found) == told.verdict(found, p=1.0) == v.CONSTRUCTION


@quiet
@given(draws)
def test_the_interval_is_students(values):
    found = v.t_interval(values)
    if np.ptp(values) > 1e-9:
        want = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found.lo, found.hi) == pytest.approx(want)
        assert v.t_test(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    else:
        assert found.lo == found.hi == found.mean
        assert v.t_test(values) == (found.mean == 0)


def test_one_draw_has_no_interval():
    found = v.t_interval([0.3])
    assert found.mean == 0.3 and math.isnan(found.lo) and math.isnan(v.t_test([0.3]))
    assert v.Claim("above").verdict(found) == v.OPEN
    with pytest.raises(UsageError, match="at least one draw"):
        v.t_interval([])


@quiet
@given(chances, st.randoms())
def test_holm_never_helps_and_knows_no_order(ps, random):
    found = v.holm(ps)
    assert all(p <= q <= min(1.0, len(ps) * p) for p, q in zip(ps, found, strict=True))
    ranked = [q for _, q in sorted(zip(ps, found, strict=True))]
    assert ranked == sorted(ranked)
    order = list(range(len(ps)))
    random.shuffle(order)
    assert v.holm([ps[i] for i in order]) == [found[i] for i in order]


def test_holm_by_hand():
    assert v.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    told = v.holm([0.01, math.nan, 0.02])
    assert [told[0], told[2]] == pytest.approx([0.02, 0.02]) and math.isnan(told[1])


def test_equivalence_needs_a_margin_that_was_there():
    for margin, since in ((0.0, "configs/x.py"), (0.02, "")):
        with pytest.raises(UsageError, match="equivalence: got"):
            v.Claim("within", margin, since)
    with pytest.raises(UsageError, match="side: got 'near'"):
        v.Claim("near")
    with pytest.raises(UsageError, match="margin: got"):
        v.Claim("above", math.inf)


def test_draws_that_move_in_steps_are_not_without_spread():
    """Four of 64 prompts, three times: a step is 1/64, and the three are known to the next one."""
    step, values = 100 / 64, [100 * 4 / 64] * 3
    found = v.t_interval(values, step=step)
    half = float(stats.t.ppf(0.975, 2)) * step / 6
    assert found.hi - found.mean == pytest.approx(half) == found.mean - found.lo
    assert v.t_test(values) == 0.0 < v.t_test(values, step=step) < 0.05
    wide = [1.0, 5.0, 9.0]  # what varies more than that is as before
    assert v.t_interval(wide, step=step) == v.t_interval(wide)
    assert v.Claim("above").p([step] * 3, step) > 0.01

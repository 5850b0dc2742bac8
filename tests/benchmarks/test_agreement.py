"""Two judges on the same answers: coefficients by hand, what has none, intervals, examples."""

from __future__ import annotations

import time

import numpy as np
import pytest

from jaxsafety.benchmarks import agreement
from jaxsafety.benchmarks.agreement import ac1, compare, kappa

NUMBERS = ("agree", "kappa", "ac1", "first", "second")


def draw(n, seed=0, same=0.9):
    rng = np.random.default_rng(seed)
    first = rng.random(n) < 0.4
    return first, np.where(rng.random(n) < same, first, ~first)


def test_kappa_by_hand():
    yes, no = ["y"] * 45 + ["n"] * 15 + ["y"] * 25 + ["n"] * 15, ["y"] * 60 + ["n"] * 40
    assert kappa(yes, no) == pytest.approx(0.1304, abs=1e-4)
    assert kappa(yes, yes) == 1.0
    assert kappa([0, 1, 0, 1], [1, 0, 1, 0]) == -1.0
    assert kappa([1, 1], [1, 0]) == 0.0  # no better than chance, and defined
    assert kappa([1, 1], [1, 1]) is None
    with pytest.raises(ValueError, match="equally long"):
        kappa([1], [])
    with pytest.raises(ValueError, match="equally long"):
        kappa([], [])


def test_ac1_by_hand():
    # Gwet's example of the paradox: 118 both yes, 5 and 2 differ, none both no
    first, second = ["y"] * 123 + ["n"] * 2, ["y"] * 118 + ["n"] * 5 + ["y"] * 2
    assert kappa(first, second) == pytest.approx(-0.0234, abs=1e-4)
    # by hand: p_a = 118/125 = .944, pi = .972, p_e = 2 * .972 * .028 = .05443
    assert ac1(first, second) == pytest.approx((0.944 - 0.054432) / 0.945568, abs=1e-9)
    assert ac1([0, 1, 2, 0], [0, 1, 2, 0]) == 1.0
    assert ac1([1, 1], [1, 1]) is None
    assert ac1([0, 1, 0, 1], [1, 0, 1, 0]) == -1.0
    # three labels: p_a = 1/2, shares 1/2, 1/4, 1/4, p_e = (1/4 + 3/16 + 3/16) / 2 = 5/16
    assert ac1("aabc", "aacb") == pytest.approx((0.5 - 0.3125) / 0.6875)
    with pytest.raises(ValueError, match="equally long"):
        ac1([1], [])


def test_the_numbers_of_two_judges():
    first = [True, True, True, False, False, None, True]
    second = [True, True, False, False, True, True, float("nan")]
    found = compare(first, second, causes=[""] * 5 + ["too long", "no score"])
    assert found.n == 5 and found.unscored == {"too long": 1, "no score": 1}
    assert found.cells == (2, 1, 1, 1)
    told = first[:5], second[:5]
    assert found.kappa.value == pytest.approx(kappa(*told))
    assert found.ac1.value == pytest.approx(ac1(*told))
    assert (found.agree.value, found.first.value, found.second.value) == (0.6, 0.6, 0.6)
    assert compare(first, second).unscored == {"cannot tell": 2}
    for lists in (([True], []), ([True], [True], ["a", "b"])):
        with pytest.raises(ValueError, match="equally long"):
            compare(*lists[:2], causes=lists[2] if len(lists) > 2 else None)


def test_what_is_not_defined_says_why():
    same = compare([True] * 5, [True] * 5)
    for number in (same.kappa, same.ac1):
        assert number == (None, None, None, agreement.ONE_LABEL)
    assert same.agree == (1.0, 1.0, 1.0, "")
    nothing = compare([None, True], [True, None])
    assert nothing.n == 0 and nothing.unscored == {"cannot tell": 2}
    for name in NUMBERS:
        assert getattr(nothing, name) == (None, None, None, agreement.NOTHING)
    assert compare([], []).n == 0
    # one of 40 answers holds the other label: 1 - 1/e of the resamples have it
    rare = compare([True] * 39 + [False], [True] * 39 + [False])
    assert (rare.kappa.lo, rare.kappa.hi) == (1.0, 1.0) and rare.ac1.lo == 1.0
    # one of two prompts, half of the resamples at most: no interval, and the value is told
    few = compare(
        [True] * 3 + [False], [True] * 3 + [False], clusters=[0, 0, 0, 1], resamples=1001, seed=1
    )
    assert few.kappa.value == 1.0 and few.kappa.lo is None and few.kappa.cause == agreement.FEW


def test_intervals_resample_prompts():
    first, second = draw(48)
    prompts = [str(i) for i in range(48)]
    once = compare(first, second, clusters=prompts, resamples=500)
    assert once == compare(first, second, resamples=500)  # a prompt each: as if without
    for name in NUMBERS:
        value, lo, hi, cause = getattr(once, name)
        assert lo < value < hi and not cause
    twice = compare(np.tile(first, 2), np.tile(second, 2), clusters=prompts * 2, resamples=500)
    # copies of a prompt's answer bring nothing; taken as answers of their own they would
    assert twice.kappa[:3] == pytest.approx(once.kappa[:3])
    alone = compare(np.tile(first, 2), np.tile(second, 2), resamples=500)
    assert alone.kappa.hi - alone.kappa.lo < once.kappa.hi - once.kappa.lo


def test_intervals_are_those_of_drawing_prompts_one_by_one():
    first, second = draw(300, same=0.85)
    prompts = np.arange(300) // 3
    found = compare(first, second, clusters=prompts.tolist(), resamples=4000)
    rng, values = np.random.default_rng(1), []
    for _ in range(1500):
        rows = (rng.integers(0, 100, 100)[:, None] * 3 + np.arange(3)).ravel()
        values.append(kappa(first[rows].tolist(), second[rows].tolist()))
    assert found.kappa[1:3] == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.012)


def test_ten_thousand_answers_take_no_long_time():
    first, second = draw(10_000)
    prompts = (np.arange(10_000) // 4).tolist()
    start = time.process_time()
    compare(first.tolist(), second.tolist(), clusters=prompts, resamples=1000)
    compare(first.tolist(), second.tolist(), resamples=1000)
    assert time.process_time() - start < 2


def test_strata_and_matrix():
    first, second = draw(60)
    flags = [True, False, None] * 20
    strata = [agreement.label_coherence(flag) for flag in flags]
    assert agreement.label_coherence(float("nan")) == "coherence unknown"
    found = agreement.compare_strata(first, second, strata, resamples=50)
    assert list(found) == ["all", "coherent", "incoherent", "coherence unknown"]
    assert found["all"] == compare(first, second, resamples=50)
    assert found["incoherent"] == compare(first[1::3], second[1::3], resamples=50)
    votes = {"a": first, "b": second, "c": first}
    pairs = agreement.compare_all(votes, resamples=50)
    assert list(pairs) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs["a", "c"].kappa.value == 1.0 and pairs["a", "b"] == found["all"]
    for lists in ((first, second, strata[:3]), (first, second[:3], strata)):
        with pytest.raises(ValueError, match="agreement needs"):
            agreement.compare_strata(*lists)


def test_examples_come_in_turn_and_from_both_sides():
    first = [True, True, True, False, None, True, True]
    second = [False, False, False, True, True, None, True]
    assert agreement.find_disagreements(first, second) == ([0, 1, 2], [3])
    assert agreement.find_disagreements(first, second, groups="aabbbbb") == ([0, 2, 1], [3])
    assert agreement.find_disagreements(first, second, groups="aabbbbb", limit=2)[0] == [0, 2]

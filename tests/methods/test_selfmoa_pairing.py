"""Self-MOA's pairs and successes are those of its algorithms 2 and 3."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsafety.core.errors import UsageError
from jaxsafety.methods.selfmoa.pairing import (
    PRESETS,
    Pair,
    PairConfig,
    Thresholds,
    build_pairs,
    most_pairs,
    successes,
)

SCORE = st.floats(0, 1, width=32)


@st.composite
def scored(draw):
    shape = draw(st.integers(1, 4)), draw(st.integers(2, 7))
    rows = st.lists(SCORE, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1])
    return tuple(np.array(draw(rows)).reshape(shape) for _ in range(2))


def algorithm_two(h, s, std, diff):
    """The paper's pseudo-code for one prompt, written out."""
    found = []
    if np.std(h) > std or np.std(s) > std:
        m = len(h)
        order = sorted(range(m), key=lambda j: -h[j])  # stable
        for j in range((m - 1) // 2 + 1):
            c, r = order[j], order[m - 1 - j]
            if c != r and (h[c] - h[r] > diff or s[c] - s[r] > diff):
                found.append((c, r))
    return found


@given(scored(), st.sampled_from([0.0, 0.01, 0.3]), st.sampled_from([0.0, 0.1, 0.5]))
@settings(max_examples=60, deadline=None)
def test_pairs_are_those_of_the_algorithm(both, std, diff):
    helpful, safe = both
    found = build_pairs(helpful, safe, PairConfig(std, diff))
    expected = [
        Pair(i, c, r)
        for i in range(len(helpful))
        for c, r in algorithm_two(helpful[i], safe[i], std, diff)
    ]
    assert found == expected
    assert len(found) <= most_pairs(*helpful.shape)
    for i, c, r in found:
        assert helpful[i, c] >= helpful[i, r]
        assert helpful[i, c] - helpful[i, r] > diff or safe[i, c] - safe[i, r] > diff


def test_the_difference_of_safety_is_signed():
    helpful, safe = np.array([[0.5, 0.45]]), np.array([[0.0, 1.0]])
    assert build_pairs(helpful, safe) == []  # the more helpful one is less safe
    assert build_pairs(helpful, 1 - safe) == [Pair(0, 0, 1)]


def test_an_odd_middle_is_no_pair_and_ties_keep_their_order():
    helpful, safe = np.array([[0.5, 0.9, 0.1]]), np.array([[1.0, 0.0, 1.0]])
    assert build_pairs(helpful, safe) == [Pair(0, 1, 2)]
    equal = np.array([[0.5, 0.5]])
    assert build_pairs(equal, np.array([[1.0, 0.0]])) == [Pair(0, 0, 1)]


def test_what_a_judge_cannot_tell_is_in_no_pair():
    helpful = np.array([[0.9, np.nan, 0.1, 0.5], [np.nan, 0.3, np.nan, np.nan]])
    safe = np.array([[1.0, 1.0, 0.0, np.nan], [1.0, 1.0, 1.0, 1.0]])
    assert build_pairs(helpful, safe) == [Pair(0, 0, 2)]
    assert successes(helpful, safe, Thresholds(0.2, 0.05)).tolist() == [True, False]


@pytest.mark.parametrize("wrong", [-0.1, 1.01, np.inf])
def test_scores_out_of_range_are_refused(wrong):
    good = np.array([[0.1, 0.9]])
    with pytest.raises(UsageError, match=r"safety scores.*1 of 2.*\[0, 1\]"):
        build_pairs(good, np.array([[0.5, wrong]]))
    with pytest.raises(UsageError, match="helpfulness scores"):
        build_pairs(np.array([[wrong, 0.5]]), good)
    with pytest.raises(UsageError, match="one shape"):
        build_pairs(good, good[:, :1])


def test_both_presets_are_the_same_numbers_the_other_way_round():
    assert (PRESETS["aprt"].safe, PRESETS["aprt"].helpful) == (0.2, 0.58)
    assert (PRESETS["paper"].safe, PRESETS["paper"].helpful) == (0.58, 0.2)
    helpful, safe = np.array([[0.3, 0.1], [0.6, 0.1]]), np.array([[0.5, 1.0], [0.1, 1.0]])
    assert successes(helpful, safe, PRESETS["aprt"]).tolist() == [False, True]
    assert successes(helpful, safe, PRESETS["paper"]).tolist() == [True, True]


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Thresholds(1.2, 0.5), "thresholds.safe"),
        (lambda: PairConfig(std_min=-0.1), "method.pairs.std_min"),
        (lambda: PairConfig(diff_min=1.0), "method.pairs.diff_min"),
    ],
)
def test_limits_are_checked(make, line):
    with pytest.raises(UsageError, match=line):
        make()

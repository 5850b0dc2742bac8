"""A judge's rate corrected by labels: its value, its interval's coverage, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxsafety.benchmarks.corrected import correct
from jaxsafety.benchmarks.intervals import interval
from jaxsafety.core.errors import UsageError

VERDICT = st.sampled_from([True, False, None])


def test_the_formula_by_hand():
    judged = [True, True, False, False, None]
    labels = [True, False, True, None, True]
    found = correct(judged, labels)
    assert (found.n, found.labelled) == (4, 3)  # the judge cannot tell the last
    assert found.judged == 0.5
    assert found.missed == pytest.approx(1 / 3) and found.false == pytest.approx(1 / 3)
    assert found.rate == pytest.approx(0.5)


@given(st.lists(st.tuples(VERDICT, VERDICT), min_size=1, max_size=40))
def test_it_is_the_labels_own_rate_where_all_are_labelled(pairs):
    judged, labels = zip(
        *[(a, b) for a, b in pairs if a is not None] or [(True, True)], strict=True
    )
    labels = [bool(x) for x in labels]
    found = correct(judged, labels)
    assert found.rate == pytest.approx(np.mean(labels))
    assert 0 <= found.lo <= found.rate + 1e-9 and found.rate - 1e-9 <= found.hi <= 1


def test_a_judge_without_error_keeps_its_rate_and_a_wider_interval():
    judged = [True] * 30 + [False] * 70
    labels = [*judged[:5], *[None] * 90, *judged[95:]]
    found, alone = correct(judged, labels), interval([float(x) for x in judged])
    assert found.rate == pytest.approx(0.3)
    assert found.lo < alone[0] and found.hi > alone[1]


JUDGES = [(0.0, 0.0), (0.1, 0.0), (0.3, 0.1), (0.5, 0.5), (0.8, 0.8)]


@pytest.mark.parametrize(("missed", "false"), JUDGES)
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("size", "read"), [(192, 30), (192, 16), (2000, 100)])
def test_its_interval_covers(rate, missed, false, size, read):
    """What 1,000 samples hold of the truth, of good judges and of such as are worse than a coin."""
    rng, held, runs = np.random.default_rng(0), 0, 1000
    for _ in range(runs):
        truth = rng.random(size) < rate
        judged = np.where(truth, rng.random(size) >= missed, rng.random(size) < false)
        labels = [bool(x) if i < read else None for i, x in enumerate(truth)]
        found = correct([bool(x) for x in judged], labels)
        held += found.lo <= rate <= found.hi
    assert held / runs > 0.93


def test_it_covers_with_three_answers_to_a_prompt_one_of_them_read():
    """64 prompts, each as likely to be refused three times; 16 labels."""
    rng, held, runs = np.random.default_rng(0), 0, 300
    clusters = [i // 3 for i in range(192)]
    for _ in range(runs):
        own = np.repeat(rng.beta(1.0, 1.0, 64), 3)  # half of all, and alike within a prompt
        truth = rng.random(192) < own
        judged = np.where(truth, rng.random(192) >= 0.2, rng.random(192) < 0.05)
        asked = {3 * int(i) for i in rng.permutation(64)[:16]}
        labels = [bool(x) if i in asked else None for i, x in enumerate(truth)]
        found = correct([bool(x) for x in judged], labels, clusters)
        held += found.lo <= 0.5 <= found.hi
    assert held / runs > 0.93


def test_answers_to_one_prompt_are_one_draw():
    judged = ([True] * 3 + [False] * 3) * 10
    clusters = [i // 3 for i in range(60)]
    labels = [x if i % 3 == 0 else None for i, x in enumerate(judged)]
    apart, together = correct(judged, labels), correct(judged, labels, clusters)
    assert together.rate == apart.rate
    assert together.hi - together.lo > apart.hi - apart.lo


@pytest.mark.parametrize(
    ("judged", "labels"), [([True], [None]), ([None], [True]), ([], []), ([True, False], [True])]
)
def test_what_cannot_be_corrected_is_one_line(judged, labels):
    with pytest.raises(UsageError, match="labels: got"):
        correct(judged, labels)


def test_two_labels_of_a_prompt_are_refused():
    with pytest.raises(UsageError, match="labels: got \"two of the prompt 'a'\"; allowed: one of"):
        correct([True, False, True], [True, False, None], ["a", "a", "b"])
    correct([True, None, True], [True, False, None], ["a", "a", "b"])  # the second is left out

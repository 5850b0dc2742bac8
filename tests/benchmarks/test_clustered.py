"""Intervals over clusters: their formula, their coverage, and what they say of little."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jaxsafety.benchmarks import intervals
from jaxsafety.benchmarks.verdict import t_interval

ICC, RATE = 0.5, 0.45


def answers(rng, sizes, icc=ICC):
    """Answers about as many entities as sizes; two about one correlate by `icc` (beta-binomial)."""
    spread = (1 - icc) / icc
    rates = rng.beta(RATE * spread, (1 - RATE) * spread, len(sizes))
    entity = np.repeat(np.arange(len(sizes)), sizes)
    return (rng.random(len(entity)) < rates[entity]).astype(float), entity.tolist()


def coverage(sizes, interval, trials=400):
    rng, hits = np.random.default_rng(7), 0
    for _ in range(trials):
        lo, hi = interval(*answers(rng, sizes))
        hits += lo <= RATE <= hi
    return hits / trials


def over_prompts(values, clusters):
    return intervals.bootstrap(values, resamples=400)


@pytest.mark.parametrize("sizes", [[8] * 16, [1, 2, 3, 4] * 7])
def test_over_prompts_covers_too_seldom_and_over_entities_often_enough(sizes):
    narrow, wide = (coverage(sizes, x) for x in (over_prompts, intervals.clustered))
    assert narrow < (0.7 if min(sizes) == 8 else 0.86)
    assert 0.9 <= wide <= 0.985


def test_clusters_of_one_size_are_t_over_their_means():
    values, clusters = answers(np.random.default_rng(1), [5] * 20)
    expected = t_interval([float(np.mean(part)) for part in np.split(values, 20)])
    assert intervals.clustered(values, clusters) == pytest.approx((expected.lo, expected.hi))
    order = np.random.default_rng(2).permutation(100)
    shuffled = intervals.clustered(values[order], [clusters[i] for i in order])
    assert shuffled == pytest.approx((expected.lo, expected.hi))


def test_clusters_of_other_sizes_weigh_by_their_answers():
    values, clusters = [1, 1, 1, 0, 1, 0], ["a", "a", "a", "b", "b", "c"]
    gaps = np.array([3 - 3 * 2 / 3, 1 - 2 * 2 / 3, 0 - 2 / 3])
    error = math.sqrt(3 / 2 * (gaps**2).sum()) / 6
    wide = 4.302653 * error  # t of two degrees of freedom
    assert wide > 1 / 3
    assert intervals.clustered(values, clusters) == (0.0, 1.0)  # cut where a rate ends
    lo, hi = intervals.clustered(values, clusters, level=0.5)
    assert (lo, hi) == pytest.approx((2 / 3 - 0.816497 * error, 2 / 3 + 0.816497 * error))


def test_what_is_unknown_is_left_out_and_agreement_is_no_certainty():
    values, clusters = [0, math.nan, 0, 0, math.nan], ["a", "a", "b", "c", "d"]
    assert intervals.clustered(values, clusters) == intervals.wilson(0, 3)
    half = intervals.clustered([0, 1, 0, 1], ["a", "a", "b", "b"])
    assert half == intervals.wilson(1, 2)


@pytest.mark.parametrize("values", [[], [1.0, 0.0], [1.0, math.nan]])
def test_one_cluster_says_nothing(values):
    found = intervals.clustered(values, ["a"] * len(values))
    assert all(map(math.isnan, found))

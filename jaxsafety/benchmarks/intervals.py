"""Intervals of rates and of their differences, over what is known: Wilson, bootstrap, clusters.

No jax. Letters: N values, K clusters (prompts), R resamples. NaN stands for "cannot tell" and
is left out everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

_RESAMPLES_AT_ONCE = 1 << 21  # gathered values held in memory at a time


def mean(values: ArrayLike) -> float | None:
    """The mean of what is known; None when nothing is."""
    array = np.asarray(values, float)
    told = array[~np.isnan(array)]
    return float(told.mean()) if told.size else None


def wilson(successes: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion; sensible at 0 and at n, where the normal one is not.

    Args:
      successes: how many of `n` (a fraction is allowed: an average count).
      n: number of independent answers; 0 gives the vacuous (0, 1).
      level: coverage, 0..1.
    """
    if n <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p, spread = successes / n, z * z / n
    centre = (p + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(p * (1 - p) / n + spread / (4 * n))
    # min/max with p: rounding must not push the bound past the estimate at 0 and at n
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


def _keep_known(
    values: ArrayLike, clusters: Sequence[Hashable] | None
) -> tuple[np.ndarray, Sequence[Hashable] | None]:
    """The values that are no NaN, and their clusters."""
    array = np.asarray(values, float)
    told = ~np.isnan(array)
    if told.all():
        return array, clusters
    return array[told], clusters and [c for c, t in zip(clusters, told, strict=True) if t]


def _clustered(values: np.ndarray, clusters: Sequence[Hashable] | None) -> np.ndarray:
    """[N] values -> [K,2] sums and counts per cluster, in order of first appearance."""
    if clusters is None:
        return np.stack([values, np.ones_like(values)], axis=1)
    first: dict[Hashable, int] = {}
    index = np.array([first.setdefault(c, len(first)) for c in clusters], np.int64)
    size = len(first)
    return np.stack([np.bincount(index, values, size), np.bincount(index, None, size)], axis=1)


def _resample(table: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """[K,2] sums and counts -> [R] ratio of resampled sums, a few rows at a time."""
    rng, size = np.random.default_rng(seed), len(table)
    sums, sizes = np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])
    equal = bool((sizes == sizes[0]).all())
    rows = max(1, min(resamples, _RESAMPLES_AT_ONCE // size))
    means = []
    for start in range(0, resamples, rows):
        pick = rng.integers(0, size, (min(rows, resamples - start), size), dtype=np.int32)
        total = size * sizes[0] if equal else sizes[pick].sum(axis=1)
        means.append(sums[pick].sum(axis=1) / total)
    return np.concatenate(means)


def bootstrap(
    values: ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean.

    Args:
      values: [N] numbers; NaN ones are left out.
      clusters: [N] labels (the prompt); whole clusters are resampled. None: every value its own.
      resamples: R.
      seed: of numpy's generator; the same seed gives the same interval.
      level: coverage, 0..1.

    Returns:
      (lo, hi); (nan, nan) when there are no values.
    """
    array, clusters = _keep_known(values, clusters)
    if array.size == 0:
        return math.nan, math.nan
    means = _resample(_clustered(array, clusters), resamples, seed)
    lo, hi = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return float(lo), float(hi)


def paired_bootstrap(
    before: ArrayLike,
    after: ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """The mean change between two arms on the same prompts, with a bootstrap interval.

    Args:
      before: [N] values of one arm; a pair with a NaN on either side is left out.
      after: [N] values of the other on the same prompts, same order.
      clusters: [N] prompt labels; both arms' answers to a prompt are resampled together.
      resamples: R.
      seed: of numpy's generator.
      level: coverage, 0..1.

    Returns:
      (mean(after - before), lo, hi); three times nan when no pair is known.

    Raises:
      ValueError: the two arms differ in length.
    """
    first, second = np.asarray(before, float), np.asarray(after, float)
    if first.shape != second.shape:
        raise ValueError(f"paired arms need the same prompts: {first.shape} and {second.shape}")
    change, clusters = _keep_known(second - first, clusters)
    if change.size == 0:
        return math.nan, math.nan, math.nan
    options = {"resamples": resamples, "seed": seed, "level": level}
    return float(change.mean()), *bootstrap(change, clusters=clusters, **options)


def interval(
    values: ArrayLike, clusters: Sequence[Hashable] | None = None, *, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of a rate: Wilson for one answer per prompt, else a bootstrap over prompts.

    A bootstrap of answers that all agree has no width; there Wilson with the number of *prompts* is
    used, as if the samples of one prompt brought nothing new (the cautious reading).

    Args:
      values: [N] of 0 and 1; NaN ones are left out. Nothing known gives the vacuous (0, 1).
      clusters: [N] prompt labels, or None.
      seed: of the bootstrap.
    """
    array, clusters = _keep_known(values, clusters)
    prompts = len(array) if clusters is None else len(set(clusters))
    if not prompts:
        return wilson(0.0, 0)
    if prompts == len(array) or array.min() == array.max():
        return wilson(float(array.mean()) * prompts, prompts)
    lo, hi = bootstrap(array, clusters=clusters, seed=seed)
    return min(lo, float(array.mean())), max(hi, float(array.mean()))


def clustered(
    values: ArrayLike, clusters: Sequence[Hashable], *, level: float = 0.95
) -> tuple[float, float]:
    """Interval of a rate whose answers share what was drawn: Student's t over the clusters.

    Prompts about one entity are answered alike, so an interval over prompts is too narrow. With the
    sum S_k and size n_k of cluster k of K, N values in all and rate p = sum S_k / N, the error is
    sqrt(K / (K - 1) sum (S_k - p n_k)^2) / N, with K - 1 degrees of freedom; for clusters of one
    size that is t over their means. Cut at 0 and 1. Clusters that all have the same rate leave no
    width, there it is Wilson's with K answers.

    Args:
      values: [N] in 0..1; NaN ones are left out.
      clusters: [N] labels (the entity).
      level: coverage, 0..1.

    Returns:
      (lo, hi); (nan, nan) of fewer than two clusters, which say nothing of others.

    Example:
      >>> from jaxsafety.benchmarks.intervals import clustered
      >>> told = [1, 1, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1]  # two answers about each of six things
      >>> lo, hi = clustered(told, list("aabbccddeeff"))
      >>> round(lo, 2), round(hi, 2)
      (0.24, 1.0)
    """
    array, known = _keep_known(values, clusters)
    table = _clustered(array, known)
    size = len(table)
    if size < 2:
        return math.nan, math.nan
    rate = float(array.mean())
    gaps = table[:, 0] - rate * table[:, 1]
    error = math.sqrt(size / (size - 1) * float(gaps @ gaps)) / len(array)
    if error <= 1e-12:  # rounding is no spread
        return wilson(rate * size, size, level)
    half = float(stdtrit(size - 1, 0.5 + level / 2)) * error
    return max(0.0, rate - half), min(1.0, rate + half)


def sign_test(down: int, up: int) -> float:
    """The two-sided p of an exact sign test: `down` prompts fell, `up` rose, the others stayed.

    A bootstrap of few prompts leaves out zero early: of 12 prompts four that moved alike do, and a
    fair coin does as much in one case of eight.

    Example:
      >>> from jaxsafety.benchmarks.intervals import sign_test
      >>> sign_test(4, 0), sign_test(0, 6), sign_test(3, 3)
      (0.125, 0.03125, 1.0)
    """
    n = down + up
    tail = sum(math.comb(n, k) for k in range(min(down, up) + 1))
    return min(1.0, 2 * tail / 2**n)

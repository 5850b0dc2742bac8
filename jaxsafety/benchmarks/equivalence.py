"""Whether two models are equally capable, as far as the data can tell: two one-sided score tests.

Our protocol for capability-grounded measurement (docs/anchored.md) compares only pairs with |c_a -
c_b| <= eps, shown by TOST (Schuirmann 1987) at 5 %: both "the difference is -eps or less" and "it
is eps or more" are rejected. Failing to find a difference shows nothing; with few items the answer
is "undecided".

The statistic is the score test, whose variance is taken *at the margin*: with Wald's, two models
that agree on all of three items would be equivalent with certainty. Paired, one item being answered
by both (b right by the first alone, c by the second alone, N items), Tango 1998:

    Z(d) = (b - c - N d) / sqrt(N (2 q + d (1 - d))),   q the likeliest P(second alone) under d

and for two samples Farrington and Manning 1990, with the likeliest rates p1 - p2 = d:

    Z(d) = (x1/n1 - x2/n2 - d) / sqrt(p1 (1 - p1) / n1 + p2 (1 - p2) / n2)

Both likeliest rates are found by bisection or a square root and checked against a numerical maximum
in tests/benchmarks/test_equivalence.py. Plain numpy. Letters: N items.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxsafety.benchmarks.anchors import Point
from jaxsafety.core.errors import bad

EQUIVALENT, DIFFERENT, UNDECIDED = "equivalent", "different", "undecided"
_HALVINGS = 60


class Equivalence(NamedTuple):
    """The difference of two rates beside a margin.

    Attributes:
      value: c_a - c_b; None where nothing can be compared.
      lo: of the interval of level 1 - 2 alpha, the one that belongs to the test.
      hi: likewise.
      p: the larger of the two one-sided p-values.
      verdict: "equivalent": -eps < lo and hi < eps, the same as p < alpha; "different": the
        interval lies beyond the margin; "undecided": neither; None: nothing can be compared.
      n: items that both answered; for two samples the smaller n.
      nulls: items that one of them has no answer to.
      paired: whether the same items were compared.
      cause: why something is None, "" where nothing is.
    """

    value: float | None
    lo: float | None
    hi: float | None
    p: float | None
    verdict: str | None
    n: int
    nulls: int
    paired: bool
    cause: str = ""


def comparable(
    first: ArrayLike | Point, second: ArrayLike | Point, eps: float, *, alpha: float = 0.05
) -> Equivalence:
    """Whether two capabilities are within `eps` of each other.

    Args:
      first: [N] of 1, 0 and NaN on the dev or test items, or a `Point`, if only counts are known.
      second: the same of the other model, on the same items in the same order.
      eps: the margin, in 0..1.
      alpha: of each of the two tests.

    Returns:
      Paired over items where both are arrays, two samples otherwise.

    Raises:
      UsageError: a margin or level that is none.
      ValueError: arrays of different length.
    """
    if not 0 < eps < 1:
        raise bad("margin", eps, "in (0, 1)")
    if not 0 < alpha < 0.5:
        raise bad("alpha", alpha, "in (0, 0.5)")
    if isinstance(first, Point) or isinstance(second, Point):
        (x1, n1, nulls), (x2, n2, more) = _count(first), _count(second)
        nulls += more
        if not n1 or not n2:
            return Equivalence(None, None, None, None, None, 0, nulls, False, "nothing was scored")
        value = x1 / n1 - x2 / n2
        z = functools.partial(_two_samples, x1, n1, x2, n2)
        return _test(value, z, eps, alpha, min(n1, n2), nulls, False)
    x, y = np.asarray(first, float), np.asarray(second, float)
    if x.shape != y.shape:
        raise ValueError(f"paired models need the same items: {x.shape} and {y.shape}")
    told = ~(np.isnan(x) | np.isnan(y))
    n, nulls = int(told.sum()), int((~told).sum())
    if not n:
        cause = "no item that both have an answer to"
        return Equivalence(None, None, None, None, None, 0, nulls, True, cause)
    alone = int((x[told] > y[told]).sum()), int((x[told] < y[told]).sum())
    value = (alone[0] - alone[1]) / n
    return _test(value, functools.partial(_paired, *alone, n), eps, alpha, n, nulls, True)


def _count(answers: ArrayLike | Point) -> tuple[float, int, int]:
    """How many are right, of how many that are known, and how many are not."""
    if isinstance(answers, Point):
        return answers.correct, answers.n, 0
    array = np.asarray(answers, float)
    nulls = int(np.isnan(array).sum())
    return float(np.nansum(array)), array.size - nulls, nulls


def _test(
    value: float,
    z: Callable[[float], float],
    eps: float,
    alpha: float,
    n: int,
    nulls: int,
    paired: bool,
) -> Equivalence:
    """Both tests, and the interval of the margins that they would not reject; z falls with d."""
    normal = NormalDist()
    p = max(1 - normal.cdf(z(-eps)), normal.cdf(z(eps)))
    level = normal.inv_cdf(1 - alpha)
    lo = _cross(lambda d: z(d) - level, -1.0, value)
    hi = _cross(lambda d: z(d) + level, value, 1.0)
    verdict = UNDECIDED
    if p < alpha:
        verdict = EQUIVALENT
    elif lo > eps or hi < -eps:
        verdict = DIFFERENT
    return Equivalence(value, lo, hi, p, verdict, n, nulls, paired)


def _cross(f: Callable[[float], float], lo: float, hi: float) -> float:
    """Where a falling function crosses 0 in (lo, hi)."""
    for _ in range(_HALVINGS):
        middle = (lo + hi) / 2
        lo, hi = (middle, hi) if f(middle) > 0 else (lo, middle)
    return (lo + hi) / 2


def _ratio(difference: float, variance: float) -> float:
    """The difference over the root of the variance, and its limit where the variance is 0."""
    if variance > 0:
        return difference / math.sqrt(variance)
    return math.copysign(math.inf, difference) if difference else 0.0


def likeliest_alone(b: int, c: int, n: int, d: float) -> float:
    """The likeliest P(second alone right), P(first alone right) being d more; b, c of n alone.

    The larger root of 2 n q^2 + B q - c d (1 - d) = 0 with B = -b - c + (2 n - b + c) d (Tango
    1998, Statistics in Medicine 17, 891).
    """
    linear = -b - c + (2 * n - b + c) * d
    root = math.sqrt(max(0.0, linear * linear + 8 * n * c * d * (1 - d)))
    return (root - linear) / (4 * n)


def _paired(b: int, c: int, n: int, d: float) -> float:
    q = likeliest_alone(b, c, n, d)
    return _ratio(b - c - n * d, n * (2 * q + d * (1 - d)))


def likeliest_rates(x1: float, n1: int, x2: float, n2: int, d: float) -> tuple[float, float]:
    """The likeliest two rates with p1 - p2 = d, x1 of n1 and x2 of n2 being right.

    The log-likelihood is concave in p2, so its slope has one zero.
    """

    def slope(p: float) -> float:
        total = 0.0
        for x, n, rate in ((x1, n1, p + d), (x2, n2, p)):
            total += (x / rate if x else 0.0) - ((n - x) / (1 - rate) if n - x else 0.0)
        return total

    p2 = _cross(slope, max(0.0, -d), min(1.0, 1 - d))
    return p2 + d, p2


def _two_samples(x1: float, n1: int, x2: float, n2: int, d: float) -> float:
    p1, p2 = likeliest_rates(x1, n1, x2, n2, d)
    variance = max(0.0, p1 * (1 - p1)) / n1 + max(0.0, p2 * (1 - p2)) / n2
    return _ratio(x1 / n1 - x2 / n2 - d, variance)

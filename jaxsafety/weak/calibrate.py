"""Soft labels that mean what they say, by a few gold labels; without any they stay as they are.

A label model takes its sources for independent, so where they are not its posteriors are too sure.
Two ways to mend them, both monotone:

- "platt" (Platt 1999, Probabilistic outputs for support vector machines): a logistic regression on
  the log-odds, p' = sigmoid(a logit(p) + b) with a >= 0, on Platt's targets (N+ + 1) / (N+ + 2) and
  1 / (N- + 2). Two numbers, so tens of gold labels do; a < 1 is what overconfidence needs. Beta
  calibration would have one number more for the same shape.
- "isotonic" (Zadrozny and Elkan 2002): the best monotone step function. Any shape, and for that it
  wants many: refused below `MANY` gold labels.

What is reported after calibration was predicted for gold items by folds that did not see them.

Letters: N items, G gold items, B bins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from jaxsafety.core.errors import bad
from jaxsafety.weak.labels import Estimate

METHODS = ("platt", "isotonic")
LEAST = 10  # gold labels of each class
MANY = 100  # gold labels that isotonic regression wants
CLIP = 1e-6  # of probabilities: log-odds are finite
NO_GOLD = "no gold labels: left as they are"
Calibrator = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Soft labels after calibration.

    Attributes:
      probability: [N] P(class 1).
      method: "platt", "isotonic", or "none".
      gold: G, of items that have a soft label.
      brier: (before, after), mean of (p - y)^2 over gold items.
      ece: (before, after), `expected_error` over gold items.
      cause: why nothing was calibrated; "" otherwise.
    """

    probability: np.ndarray
    method: str
    gold: int
    brier: tuple[Estimate, Estimate]
    ece: tuple[Estimate, Estimate]
    cause: str = ""


def expected_error(probability: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error with bins of equal numbers of items.

    ECE = sum_b n_b / G |mean of y in b - mean of p in b| (Naeini et al. 2015), B bins of nearly
    equal n_b by sorted p. It is biased upwards, the more the fewer items a bin has: a calibrated
    forecast of 100 items does not have 0.
    """
    order = np.argsort(probability, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    gaps = [abs(float((truth[b] - probability[b]).mean())) * len(b) for b in parts]
    return sum(gaps) / len(order)


def platt(probability: np.ndarray, truth: np.ndarray) -> Calibrator:
    """A logistic regression on log-odds, on Platt's targets; see the file's head."""
    x = _logit(probability)
    yes = int(truth.sum())
    target = np.where(truth == 1, (yes + 1) / (yes + 2), 1 / (len(truth) - yes + 2))

    def loss(ab: np.ndarray) -> tuple[float, np.ndarray]:
        z = ab[0] * x + ab[1]
        gap = special.expit(z) - target
        value = float((np.logaddexp(0, z) - target * z).mean())
        return value, np.array([(gap * x).mean(), gap.mean()])

    bounds = [(0.0, None), (None, None)]  # a < 0 would turn the labels round
    a, b = optimize.minimize(loss, [1.0, 0.0], jac=True, bounds=bounds, method="L-BFGS-B").x
    return lambda p: special.expit(a * _logit(p) + b)


def isotonic(probability: np.ndarray, truth: np.ndarray) -> Calibrator:
    """The monotone step function of least squares; between its steps it is a line."""
    knots, inverse = np.unique(probability, return_inverse=True)
    weights = np.bincount(inverse)
    means = np.bincount(inverse, truth) / weights
    steps = optimize.isotonic_regression(means, weights=weights).x
    return lambda p: np.interp(p, knots, steps)


def _logit(p: np.ndarray) -> np.ndarray:
    return special.logit(np.clip(p, CLIP, 1 - CLIP))


FITS = {"platt": platt, "isotonic": isotonic}


def calibrate(
    probability: ArrayLike,
    gold: Sequence[bool | int | None] | None = None,
    *,
    method: str = "platt",
    folds: int = 5,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Calibrated:
    """Calibrates P(class 1) by gold labels.

    Args:
      probability: [N] of a label model, `labels.posterior[:, 1]`; NaN ones stay so.
      gold: [N] 1, 0 or None (not labelled); None: there are none, and nothing is changed.
      method: one of `METHODS`.
      folds: in which predictions for gold items are made by the others.
      resamples: of gold items, for the percentile intervals of both figures.
      seed: of folds and resamples.
      level: coverage of the intervals.

    Returns:
      The calibrated labels, and both figures before and after.

    Raises:
      UsageError: probabilities outside of 0 to 1, another number of labels, an unknown method,
        fewer than `LEAST` gold labels of a class, or than `MANY` for "isotonic".
    """
    p = np.asarray(probability, float)
    if p.ndim != 1 or ((p < 0) | (p > 1)).any():
        raise bad("calibrate.probability", f"shape {p.shape}", "[items] of numbers in 0 to 1")
    if method not in FITS:
        raise bad("calibrate.method", method, ", ".join(METHODS))
    if folds < 2:
        raise bad("calibrate.folds", folds, "2 or more")
    none = (Estimate(None, cause=NO_GOLD), Estimate(None, cause=NO_GOLD))
    if gold is None or all(g is None for g in gold):
        return Calibrated(p, "none", 0, none, none, NO_GOLD)
    if len(gold) != len(p):
        raise bad("calibrate.gold", f"{len(gold)} labels of {len(p)} items", "one each, or None")
    y = np.array([np.nan if g is None else float(g) for g in gold])
    odd = y[~np.isnan(y) & (y != 0) & (y != 1)]
    if odd.size:
        raise bad("calibrate.gold", float(odd[0]), "1, 0 or None")
    known = ~np.isnan(y) & ~np.isnan(p)
    x, truth = p[known], y[known]
    yes = int(truth.sum())
    if min(yes, len(truth) - yes) < LEAST:
        given = f"{yes} of class 1 and {len(truth) - yes} of class 0"
        raise bad("calibrate.gold", given, f"{LEAST} or more of each")
    if method == "isotonic" and len(truth) < MANY:
        raise bad("calibrate.method", f"isotonic with {len(truth)} gold labels", f"{MANY} or more")
    fit = FITS[method]
    held = _held_out(fit, x, truth, folds, seed)
    found = np.full(len(p), np.nan)
    found[~np.isnan(p)] = fit(x, truth)(p[~np.isnan(p)])
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(truth), (resamples, len(truth)))  # the same for before and after
    figures = [
        (_with_interval(brier, q, truth, drawn, level), _with_interval(ece, q, truth, drawn, level))
        for q in (x, held)
        for brier, ece in [(_brier, expected_error)]
    ]
    (b0, e0), (b1, e1) = figures
    return Calibrated(found, method, len(truth), (b0, b1), (e0, e1))


def _brier(p: np.ndarray, y: np.ndarray) -> float:
    return float(((p - y) ** 2).mean())


def _held_out(
    fit: Callable[[np.ndarray, np.ndarray], Calibrator],
    p: np.ndarray,
    y: np.ndarray,
    folds: int,
    seed: int,
) -> np.ndarray:
    """[G] what folds that did not see an item say of it; each fold has both classes."""
    rng = np.random.default_rng(seed)
    fold = np.zeros(len(y), np.int64)
    for label in (0, 1):
        places = np.flatnonzero(y == label)
        fold[rng.permutation(places)] = np.arange(len(places)) % folds
    held = np.zeros(len(y))
    for k in range(folds):
        held[fold == k] = fit(p[fold != k], y[fold != k])(p[fold == k])
    return held


def _with_interval(
    figure: Callable[[np.ndarray, np.ndarray], float],
    p: np.ndarray,
    y: np.ndarray,
    drawn: np.ndarray,
    level: float,
) -> Estimate:
    value = figure(p, y)
    if not len(drawn):
        return Estimate(value, cause="no resamples were asked for")
    values = [figure(p[rows], y[rows]) for rows in drawn]
    lo, hi = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return Estimate(value, float(lo), float(hi))

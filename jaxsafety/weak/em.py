"""Expectation-maximisation for sources that err independently, for a fit and its bootstrap at once.

Items with the same votes are one pattern with a weight, and R weightings (the data themselves, or R
bootstrap resamples) run side by side. A model is its M-step: expected counts -> P(outcome | class),
class priors, and the log of its prior density, if it has one.

Each iteration is an M-step and then an E-step, from given soft labels on; the parameters that are
returned are those that gave the posterior. It stops after an iteration whose gain in
(log-likelihood + log prior density) per vote is below the tolerance, or after the last one.

Letters: N items, U patterns, J sources, C classes, O = C + 1 outcomes, R weightings.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from scipy import sparse

from jaxsafety.core.errors import bad
from jaxsafety.weak import labels
from jaxsafety.weak.labels import Estimate, Labels, Parameters, Source, normalise
from jaxsafety.weak.votes import Votes

ITERATIONS, TOLERANCE = 100, 1e-5  # crowd-kit's


class Settings(NamedTuple):
    """Of a fit.

    Attributes:
      iterations: of EM, at most.
      tolerance: least gain per vote; None: all iterations are done.
      resamples: of items, for the intervals of accuracies; 0: none.
      seed: of the resamples.
      level: coverage of the intervals.
    """

    iterations: int = ITERATIONS
    tolerance: float | None = TOLERANCE
    resamples: int = 200
    seed: int = 0
    level: float = 0.95


DEFAULT = Settings()


def check(settings: Settings) -> None:
    """Nothing, of settings that can be used.

    Raises:
      UsageError: one that is out of range.
    """
    if settings.iterations < 1:
        raise bad("weak.iterations", settings.iterations, "1 or more")
    if settings.tolerance is not None and not settings.tolerance >= 0:
        raise bad("weak.tolerance", settings.tolerance, "0 or more, or None")
    if settings.resamples < 0:
        raise bad("weak.resamples", settings.resamples, "0 or more")
    if not 0 < settings.level < 1:
        raise bad("weak.level", settings.level, "between 0 and 1")


class Patterns(NamedTuple):
    """Votes with equal rows put together.

    Attributes:
      rows: [U,J] votes.
      counts: [U] items of each; of a model without silence 0 where all abstain.
      inverse: [N] the pattern of each item.
      hot: sparse [U,J*O] of the outcomes that the model sees.
      start: [U,C] vote shares.
    """

    rows: Votes
    counts: np.ndarray
    inverse: np.ndarray
    hot: sparse.csr_matrix
    start: np.ndarray


class Step(NamedTuple):
    """prior [R,C], emission [J,O,R,C], penalty [R]: the log prior density of both."""

    prior: np.ndarray
    emission: np.ndarray
    penalty: np.ndarray


class Model(Protocol):
    """An M-step."""

    def __call__(self, counts: np.ndarray, mass: np.ndarray, /) -> Step:
        """[J,O,R,C] expected counts of outcomes, [R,C] expected items -> parameters."""
        ...


class Fit(NamedTuple):
    """posterior [U,R,C], the step it came from, log_likelihood [R], iterations, converged."""

    posterior: np.ndarray
    step: Step
    log_likelihood: np.ndarray
    iterations: int
    converged: bool


def gather(votes: Votes, *, silence: bool) -> Patterns:
    """The patterns of votes.

    Args:
      votes: of N items.
      silence: whether an abstention is an outcome; otherwise it is a missing vote, and an item on
        which all abstain has no part in the fit.
    """
    rows, inverse, counts = np.unique(votes.array, axis=0, return_inverse=True, return_counts=True)
    kinds = Votes(votes.sources, rows, votes.classes)
    outcomes = len(votes.classes) + 1
    seen = np.ones(rows.shape, bool) if silence else kinds.voted
    u, j = np.nonzero(seen)
    outcome = np.where(rows < 0, outcomes - 1, rows)[u, j]
    shape = (len(rows), rows.shape[1] * outcomes)
    hot = sparse.csr_matrix((np.ones(len(u)), (u, j * outcomes + outcome)), shape=shape)
    weights = counts if silence else np.where(kinds.silent, 0, counts)
    # shares over patterns would weigh a pattern once, so silent ones take those of the items
    start = kinds.shares()
    if kinds.silent.any():
        start[kinds.silent] = votes.shares()[votes.silent][0]
    return Patterns(kinds, weights, inverse.reshape(-1), hot, start)


def run(
    patterns: Patterns,
    weights: np.ndarray,
    start: np.ndarray,
    model: Model,
    settings: Settings = DEFAULT,
) -> Fit:
    """EM from soft labels.

    Args:
      patterns: the votes.
      weights: [U,R] items of each pattern.
      start: [U,R,C] soft labels.
      model: the M-step.
      settings: how long.
    """
    u, r, c = start.shape
    sources, outcomes = len(patterns.rows.sources), c + 1
    size = np.asarray(patterns.hot.sum(axis=1)).ravel()
    cast = np.maximum(size @ weights, 1)  # [R] votes
    posterior, before, converged, done = start, np.full(r, -np.inf), False, 0
    while done < settings.iterations and not converged:
        done += 1
        joint = weights[..., None] * posterior
        counts = (patterns.hot.T @ joint.reshape(u, -1)).reshape(sources, outcomes, r, c)
        step = model(counts, joint.sum(axis=0))
        with np.errstate(divide="ignore"):
            logs, prior = np.log(step.emission), np.log(step.prior)
        # a sparse product has no 0 * -inf: what is not in a pattern is not stored
        total = (patterns.hot @ logs.reshape(sources * outcomes, -1)).reshape(u, r, c) + prior
        posterior, log = normalise(total)
        likelihood = (weights * np.where(weights > 0, log, 0.0)).sum(axis=0)
        gain = (likelihood + step.penalty) / cast
        if settings.tolerance is not None and (gain - before < settings.tolerance).all():
            converged = True
        before = gain
    return Fit(posterior, step, likelihood, done, converged)


def accuracies(prior: np.ndarray, emission: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often votes are right.

    Args:
      prior: [R,C].
      emission: [J,O,R,C].

    Returns:
      [J,R] P(right | votes), and [J,R,C] P(right | votes, y = c); NaN where it never votes.
    """
    c = prior.shape[-1]
    right = np.stack([emission[:, k, :, k] for k in range(c)], axis=-1)  # [J,R,C]
    voted = emission[:, :c].sum(axis=1)  # [J,R,C]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (prior * right).sum(-1) / (prior * voted).sum(-1), right / voted


def summarise(
    votes: Votes,
    patterns: Patterns,
    fit: Fit,
    model: Model,
    settings: Settings,
) -> tuple[Source, ...]:
    """How good each source is, with percentile bootstrap intervals over items.

    The items are drawn with replacement `settings.resamples` times. Each resample is fitted from
    the posterior of the whole, so that classes cannot change their names.
    """
    values, by_class = accuracies(fit.step.prior, fit.step.emission)
    if settings.resamples:
        rng = np.random.default_rng(settings.seed)
        items = int(patterns.counts.sum())
        drawn = rng.multinomial(items, patterns.counts / items, settings.resamples).T
        start = np.repeat(fit.posterior, settings.resamples, axis=1)
        again = run(patterns, drawn, start, model, settings)
        spread = accuracies(again.step.prior, again.step.emission)
    else:
        spread = None
    tails = [0.5 - settings.level / 2, 0.5 + settings.level / 2]

    def estimate(value: float, drawn: np.ndarray | None) -> Estimate:
        if not np.isfinite(value):
            return Estimate(None, cause=labels.NO_CLASS)
        known = np.zeros(0) if drawn is None else drawn[np.isfinite(drawn)]
        if not len(known):
            return Estimate(float(value), cause="no resamples were asked for")
        lo, hi = np.quantile(known, tails)
        return Estimate(float(value), float(lo), float(hi))

    found = []
    for j, name in enumerate(votes.sources):
        n = int(votes.voted[:, j].sum())
        if not n:
            none = Estimate(None, cause=labels.NO_VOTE)
            found.append(Source(name, 0, none, dict.fromkeys(votes.classes, none)))
            continue
        whole = estimate(values[j, 0], None if spread is None else spread[0][j])
        parts = {
            label: estimate(by_class[j, 0, c], None if spread is None else spread[1][j, :, c])
            for c, label in enumerate(votes.classes)
        }
        found.append(Source(name, n, whole, parts))
    return tuple(found)


def solve(
    name: str,
    votes: Votes,
    patterns: Patterns,
    model: Model,
    warnings: tuple[str, ...],
    settings: Settings,
) -> Labels:
    """A fit from vote shares, and what it says of items and sources."""
    fit = run(patterns, patterns.counts[:, None], patterns.start[:, None], model, settings)
    prior, emission = fit.step.prior[0], fit.step.emission[:, :, 0]
    posterior = fit.posterior[patterns.inverse, 0]
    posterior[votes.silent] = prior
    if not fit.converged and settings.tolerance is not None:
        warnings = (*warnings, f"EM had not converged after {fit.iterations} iterations")
    return Labels(
        name,
        votes,
        posterior,
        prior,
        summarise(votes, patterns, fit, model, settings),
        Parameters(name, votes.sources, votes.classes, prior, emission),
        float(fit.log_likelihood[0]),
        fit.iterations,
        fit.converged,
        f"{100 * settings.level:g} % bootstrap over items, {settings.resamples} resamples"
        if settings.resamples
        else "none: no resamples",
        warnings,
    )

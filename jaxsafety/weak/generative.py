"""A generative label model in which an abstention is an outcome: propensity and accuracy by class.

Data programming (Ratner et al. 2016, arXiv 1605.07723, section 3) gives every labelling function
a propensity beta (it votes) and an accuracy alpha (its vote is right), independent given the label.
Here both may depend on the class c, and C may be more than two:

    P(v_j = c | c) = beta_jc alpha_jc
    P(v_j = l | c) = beta_jc (1 - alpha_jc) / (C - 1)    for l other than c
    P(v_j abstains | c) = 1 - beta_jc

so that a source that speaks up on one class only says something by being silent. EM finds the
maximum a posteriori under, for every source and class, by default

    alpha_jc ~ Beta(4, 2): as if it had been right three times and wrong once before
    beta_jc ~ Beta(2, 2): as if it had voted once and abstained once
    prior ~ Dirichlet(2, ..., 2): as if one item of each class had been seen, where it is learnt

Letters: N items, J sources, C classes, O = C + 1 outcomes, R weightings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.weak import em, identify
from jaxsafety.weak.labels import Labels, Parameters
from jaxsafety.weak.votes import SAFETY, Votes


class Prior(NamedTuple):
    """Densities that the parameters are drawn from; every number is 1 or more.

    Attributes:
      right: a of Beta(a, b) of the accuracies.
      wrong: b of it; below `right`, so that sources are better than a coin before any vote.
      vote: a of Beta(a, b) of the propensities.
      abstain: b of it.
      classes: of the Dirichlet of the class prior; of no use where that is given.
    """

    right: float = 4.0
    wrong: float = 2.0
    vote: float = 2.0
    abstain: float = 2.0
    classes: float = 2.0


PRIOR = Prior()


def _log(x: np.ndarray, times: float) -> np.ndarray:
    """Times * log x, and 0 where times is."""
    return times * np.log(x) if times else np.zeros_like(x)


class MStep(NamedTuple):
    """The M-step: `prior` of the parameters, `balance` [C] of the classes where it is given."""

    prior: Prior = PRIOR
    balance: tuple[float, ...] | None = None

    def __call__(self, counts: np.ndarray, mass: np.ndarray) -> em.Step:
        """[J,O,R,C] and [R,C] to parameters: modes of Beta and Dirichlet posteriors."""
        c = mass.shape[-1]
        a, b, s, t, d = (x - 1 for x in self.prior)
        right = np.stack([counts[:, k, :, k] for k in range(c)], axis=-1)  # [J,R,C]
        voted = counts[:, :c].sum(axis=1)
        seen = voted + counts[:, c]
        with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 under a flat prior
            alpha = np.nan_to_num((right + a) / (voted + a + b), nan=0.5)
            beta = np.nan_to_num((voted + s) / (seen + s + t), nan=0.5)
        labels = np.repeat((beta * (1 - alpha) / (c - 1))[:, None], c, axis=1)  # [J,C,R,C]
        for k in range(c):
            labels[:, k, :, k] = (beta * alpha)[..., k]
        emission = np.concatenate([labels, (1 - beta)[:, None]], axis=1)
        if self.balance is None:
            prior = (mass + d) / (mass + d).sum(axis=-1, keepdims=True)
        else:
            prior = np.tile(self.balance, (len(mass), 1))
        logs = _log(alpha, a) + _log(1 - alpha, b) + _log(beta, s) + _log(1 - beta, t)
        penalty = logs.sum(axis=(0, 2))
        if self.balance is None:
            penalty = penalty + _log(prior, d).sum(axis=-1)
        return em.Step(prior, emission, penalty)


def before(
    sources: Sequence[str], classes: Sequence[str] = SAFETY, prior: Prior = PRIOR
) -> Parameters:
    """The model before any vote was seen: the modes of `prior`, alike for all sources.

    By default every source is right three times in four on each class, and silence says nothing: an
    item's log-odds are log 3 times (votes for - votes against).

    Raises:
      UsageError: a prior out of range.
    """
    _check(prior, None, len(classes))
    j, c = len(sources), len(classes)
    step = MStep(prior)(np.zeros((j, c + 1, 1, c)), np.zeros((1, c)))
    names = tuple(sources), tuple(classes)
    return Parameters(
        "generative, before any vote", *names, np.full(c, 1 / c), step.emission[:, :, 0]
    )


def _check(prior: Prior, balance: Sequence[float] | None, classes: int) -> None:
    if not all(np.isfinite(x) and x >= 1 for x in prior):
        raise bad("generative.prior", str(tuple(prior)), "numbers of 1 or more")
    if prior.right <= prior.wrong:
        given = f"right {prior.right:g}, wrong {prior.wrong:g}"
        raise bad("generative.prior", given, "right above wrong: else classes may change places")
    if balance is not None:
        told = len(balance) == classes and all(x > 0 for x in balance)
        if not (told and abs(sum(balance) - 1) < 1e-6):
            raise bad("generative.balance", str(tuple(balance)), f"{classes} shares that add to 1")


def fit(
    votes: Votes,
    settings: em.Settings = em.DEFAULT,
    *,
    prior: Prior = PRIOR,
    balance: Sequence[float] | None = None,
) -> Labels:
    """Fits the model; EM begins with vote shares.

    Args:
      votes: of N items by three sources or more.
      settings: of EM and of the intervals.
      prior: of the parameters.
      balance: [C] shares of the classes, where they are known; None: they are learnt.

    Returns:
      `Labels` with posterior [N,C]. An item on which all abstain keeps the prior although the
      formula says more (`Labels.parameters.silence`); it has its part in the fit.

    Raises:
      UsageError: settings or shares out of range, and what `identify.require` refuses.

    Example:
      >>> import numpy as np
      >>> from jaxsafety.weak import generative
      >>> from jaxsafety.weak.votes import Votes
      >>> rng = np.random.default_rng(0)
      >>> truth = rng.integers(0, 2, 500)
      >>> wrong = rng.random((500, 3)) < [0.1, 0.2, 0.3]
      >>> labels = generative.fit(Votes(("a", "b", "c"), np.where(wrong, 1 - truth[:, None],
      ...                                                         truth[:, None])))
      >>> [round(s.accuracy.value, 1) for s in labels.sources]
      [0.9, 0.8, 0.7]
    """
    em.check(settings)
    _check(prior, balance, len(votes.classes))
    warnings = identify.require(votes)
    model = MStep(prior, None if balance is None else tuple(float(x) for x in balance))
    patterns = em.gather(votes, silence=True)
    return em.solve("generative", votes, patterns, model, warnings, settings)

"""Dawid and Skene's label model: class priors and a confusion matrix per source, by EM.

Dawid and Skene 1979, Maximum likelihood estimation of observer error-rates using the EM algorithm,
Applied Statistics 28, 20-28. E-step (eq. 2.5) as in `labels`; M-step (eq. 2.3 and 2.4):

    P(v_j = l | y = c) = sum_n q_nc [v_nj = l] / sum_l of the same,    prior_c = mean of q_nc

An abstention is a missing vote: it is in no count, says nothing of the item, and an item on which
all abstain has no part in the fit. It begins with vote shares, and counts are at least 1e-10, as in
crowd-kit 1.4 (`tests/parity/test_crowdkit.py`); a label that a source never gives has probability
0, and no pseudo-count. crowd-kit stops by another bound on the same likelihood (it adds the
log prior once a vote), so it may stop an iteration or so earlier or later.

Letters: N items, J sources, C classes, O = C + 1 outcomes, R weightings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxsafety.weak import em, identify
from jaxsafety.weak.labels import Labels
from jaxsafety.weak.votes import Votes

FLOOR = 1e-10


@dataclass(frozen=True, eq=False)
class MStep:
    """The M-step; `given` [J,O-1] says which labels a source ever gives."""

    given: np.ndarray

    def __call__(self, counts: np.ndarray, mass: np.ndarray) -> em.Step:
        """[J,O,R,C] and [R,C] to parameters; there is no prior density."""
        c = mass.shape[-1]
        votes = np.where(self.given[:, :, None, None], np.maximum(counts[:, :c], FLOOR), 0.0)
        total = votes.sum(axis=1, keepdims=True)
        labels = np.divide(votes, total, out=np.zeros_like(votes), where=total > 0)
        missing = np.ones_like(labels[:, :1])  # an abstention says nothing
        prior = mass / np.maximum(mass.sum(axis=-1, keepdims=True), FLOOR)
        return em.Step(prior, np.concatenate([labels, missing], axis=1), np.zeros(len(mass)))


def fit(votes: Votes, settings: em.Settings = em.DEFAULT) -> Labels:
    """Fits the model.

    Args:
      votes: of N items by three sources or more.
      settings: of EM and of the intervals.

    Returns:
      `Labels` with posterior [N,C].

    Raises:
      UsageError: settings out of range, and what `identify.require` refuses.
    """
    em.check(settings)
    warnings = identify.require(votes)
    patterns = em.gather(votes, silence=False)
    given = np.stack([(votes.array == c).any(axis=0) for c in range(len(votes.classes))], axis=1)
    return em.solve("dawid_skene", votes, patterns, MStep(given), warnings, settings)

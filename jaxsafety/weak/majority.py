"""The majority as a label model: vote shares, each source as good as the other.

An item's soft label is the share of its votes, p_c = (votes for c) / (votes); abstentions are in no
share. It assumes nothing of the sources, and learns nothing of them. Letters: N items, C classes.
"""

from __future__ import annotations

from jaxsafety.weak.identify import diagnose
from jaxsafety.weak.labels import NOT_FITTED, Estimate, Labels, Source
from jaxsafety.weak.votes import Votes


def fit(votes: Votes) -> Labels:
    """Vote shares [N,C]; `Labels.tied` says where two classes have the most votes.

    The prior is the mean share over items with a vote, and is what items without one keep. A class
    nobody voted for in an item has exactly 0.

    Raises:
      UsageError: no items.

    Example:
      >>> from jaxsafety.weak import majority
      >>> from jaxsafety.weak.votes import Votes
      >>> labels = majority.fit(Votes(("a", "b", "c"), [[0, 0, 1], [1, -1, -1], [0, 1, -1]]))
      >>> labels.posterior[:, 1].round(2).tolist(), labels.tied.tolist()
      ([0.33, 1.0, 0.5], [False, False, True])
    """
    none = Estimate(None, cause=NOT_FITTED)
    sources = tuple(
        Source(one.name, int(n), none, dict.fromkeys(votes.classes, none))
        for one, n in zip(diagnose(votes), votes.voted.sum(axis=0), strict=True)
    )
    shares = votes.shares()
    told = ~votes.silent
    prior = shares[told].mean(axis=0) if told.any() else shares.mean(axis=0)
    return Labels("majority", votes, shares, prior, sources, interval="none: nothing is fitted")

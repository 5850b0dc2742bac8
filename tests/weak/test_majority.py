import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.weak import majority
from jaxsafety.weak.votes import Votes


def test_shares_ties_and_silence():
    votes = Votes(("a", "b", "c"), [[0, 0, 1], [1, -1, -1], [0, 1, -1], [-1, -1, -1]])
    labels = majority.fit(votes)
    share = (1 / 3 + 1 + 1 / 2) / 3
    assert np.allclose(labels.posterior[:, 1], [1 / 3, 1, 1 / 2, share])
    assert np.allclose(labels.prior, [1 - share, share])
    assert labels.tied.tolist() == [False, False, True, False]
    assert labels.unlabelled.tolist() == [False, False, False, True]
    assert labels.hard().tolist() == [0, 1, -1, -1]


def test_it_says_nothing_of_sources():
    """Two sources, one class: no model is fitted, so none is refused."""
    labels = majority.fit(Votes(("a", "b"), [[1, 1], [1, -1]]))
    assert labels.posterior[:, 1].tolist() == [1, 1]
    assert [s.votes for s in labels.sources] == [2, 1]
    assert all(s.accuracy.value is None and s.accuracy.cause for s in labels.sources)
    assert labels.parameters is None and labels.log_likelihood is None and labels.converged is None
    with pytest.raises(UsageError, match="votes: got 'no items'"):
        majority.fit(Votes(("a",), np.zeros((0, 1), int)))


def test_three_classes():
    labels = majority.fit(Votes("abcd", [[2, 2, 0, 1], [0, 1, 2, -1]], ("x", "y", "z")))
    assert labels.posterior[0].tolist() == [0.25, 0.25, 0.5]
    assert labels.tied.tolist() == [False, True]

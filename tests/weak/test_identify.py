import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.weak import correlated, dawid_skene, em, generative
from jaxsafety.weak.identify import diagnose, require
from jaxsafety.weak.votes import Votes
from tests.weak.planted import plant


def test_a_diagnosis_by_hand():
    votes = Votes(
        ("a", "b", "c", "never"),
        [[0, 0, 1, -1], [1, 1, 1, -1], [1, -1, -1, -1], [0, 1, -1, -1]],
    )
    a, b, c, never = diagnose(votes)
    assert (a.coverage, b.coverage, c.coverage) == (1.0, 0.75, 0.5)
    assert a.shares == {"safe": 0.5, "unsafe": 0.5} and c.shares["unsafe"] == 1.0
    # item 0: a, b say 0 and c 1; item 1: all agree; item 2: a alone; item 3: a against b
    assert (a.overlap, a.conflict) == (0.75, 0.5)
    assert (c.overlap, c.conflict) == (0.5, 0.25)
    # the others of a are tied on item 0 and say 1 on items 1 and 3
    assert (a.agreement, a.compared) == (0.5, 2)
    assert (c.agreement, c.compared) == (0.5, 2)
    assert never.shares is None and never.agreement is None and never.compared == 0


REFUSED = {
    "two sources": ([[0, 1], [1, 1]], "votes.sources: got '2 sources that vote'"),
    "a silent third": ([[0, 1, -1], [1, 1, -1]], "votes.sources: got '2 sources that vote'"),
    "one class": ([[1, 1, 1], [1, -1, 1]], "votes.array: got 'votes for unsafe only'"),
    "apart": ([[0, -1, -1], [-1, 1, -1], [-1, -1, 0]], "got 'no item with two votes'"),
    "no items": (np.zeros((0, 3), int), "votes: got 'no items'"),
}


@pytest.mark.parametrize("fit", [dawid_skene.fit, generative.fit, correlated.find, require])
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_learnt_from_is_refused(case, fit):
    array, line = REFUSED[case]
    array = np.array(array)
    with pytest.raises(UsageError, match=line) as error:
        fit(Votes("abc"[: array.shape[1]], array))
    assert "\n" not in str(error.value)


def test_warnings():
    _, votes = plant(0, n=300)
    assert require(votes) == ()
    array = np.array(votes.array)
    array[:, 0] = -1  # never
    array[:, 1] = np.where(array[:, 1] == 1, 1, -1)  # one-sided
    array[10:, 3] = -1  # few
    lines = require(Votes(votes.sources, array))
    assert len(lines) == 3
    assert lines[0].startswith("s0 never votes")
    assert lines[1].startswith("s1 is one-sided (unsafe or nothing)")
    assert lines[2].startswith("s3 has ") and "hardly known" in lines[2]
    alone = np.full((30, 4), -1)
    alone[:20, :3] = np.arange(60).reshape(20, 3) % 2
    alone[20:, 3] = 1
    assert "d shares no item with another source" in require(Votes(tuple("abcd"), alone))


def test_who_never_votes_is_told_and_changes_nothing():
    _, votes = plant(1, n=400)
    array = np.concatenate([votes.array, np.full((400, 1), -1)], axis=1)
    more = Votes((*votes.sources, "mute"), array)
    settings = em.Settings(resamples=5)
    for fit in (dawid_skene.fit, generative.fit):
        without, found = fit(votes, settings), fit(more, settings)
        mute = found.sources[-1]
        assert mute.votes == 0 and mute.accuracy.value is None and "never" in mute.accuracy.cause
        assert all(part.value is None for part in mute.by_class.values())
        assert np.abs(found.posterior - without.posterior).max() < 1e-2
        assert any("mute never votes" in line for line in found.warnings)

import json

import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.weak import em, generative, labels
from jaxsafety.weak.labels import Parameters, load, normalise
from jaxsafety.weak.votes import Votes
from tests.weak.planted import plant


def two(prior=(0.8, 0.2)):
    """a: right in 0.9 of safe and 0.7 of unsafe items; b: a coin."""
    a = [[0.9, 0.3], [0.1, 0.7], [1, 1]]
    b = [[0.5, 0.5], [0.5, 0.5], [1, 1]]
    return Parameters("x", ("a", "b"), ("safe", "unsafe"), np.array(prior), np.array([a, b]))


def test_bayes_by_hand():
    votes = Votes("ab", [[1, 0], [1, -1], [0, 1], [-1, 1], [-1, -1]])
    found = two().posterior(votes)[:, 1]
    one, zero = 0.2 * 0.7 / (0.2 * 0.7 + 0.8 * 0.1), 0.2 * 0.3 / (0.2 * 0.3 + 0.8 * 0.9)
    assert np.allclose(found, [one, one, zero, 0.2, 0.2])  # a coin says nothing
    assert np.allclose(two().silence, [0.8, 0.2])


def test_votes_of_others_are_refused():
    for votes, line in (
        (Votes("ba", [[0, 1]]), "votes.sources: got 'b, a'; allowed: the model's: a, b"),
        (Votes("ab", [[0, 1]], ("no", "yes")), "votes.classes: got 'no, yes'"),
    ):
        with pytest.raises(UsageError, match=line):
            two().posterior(votes)


def test_what_is_impossible_is_told_apart():
    logs = np.log(np.array([[0.2, 0.6], [1.0, 1.0]]))
    logs[1] = -np.inf
    posterior, log = normalise(logs)
    assert np.allclose(posterior, [[0.25, 0.75], [0.5, 0.5]])
    assert np.isclose(log[0], np.log(0.8)) and log[1] == -np.inf
    assert np.allclose(normalise(np.array([[-2000.0, -2000.0]]))[0], 0.5)  # nothing underflows


def test_a_file_gives_the_same_labels(tmp_path):
    _, votes = plant(0, n=200)
    fitted = generative.fit(votes, em.Settings(resamples=0)).parameters
    fitted.save(tmp_path / "model.json", judges=["x"])
    again, whole = load(tmp_path / "model.json")
    assert whole["judges"] == ["x"] and again.sources == votes.sources
    assert np.array_equal(again.posterior(votes), fitted.posterior(votes))
    one = Votes(votes.sources, votes.array[:1])
    assert np.allclose(again.posterior(one), fitted.posterior(votes)[:1], atol=1e-15)


def test_files_that_are_none_of_ours_are_one_line(tmp_path):
    path = tmp_path / "model.json"
    two().save(path)
    good = json.loads(path.read_text())
    broken = {
        "format": ({"format": "other"}, "a JSON file of a fitted label model"),
        "sources": ({"sources": ["a"]}, "probabilities of its sources"),
        "prior": ({"prior": [2, -1]}, "probabilities of its sources"),
        "text": ({"emission": "x"}, "a whole file"),
        "ragged": ({"emission": [[1], [1, 2]]}, "a whole file"),
    }
    for changes, line in broken.values():
        path.write_text(json.dumps({**good, **changes}))
        with pytest.raises(UsageError, match=line):
            load(path)
    path.write_text(json.dumps({k: v for k, v in good.items() if k != "prior"}))
    with pytest.raises(UsageError, match="a whole file"):
        load(path)
    with pytest.raises(UsageError, match=labels.FORMAT):
        load(tmp_path / "absent.json")

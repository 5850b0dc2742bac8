import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.weak import correlated, em, generative
from jaxsafety.weak.votes import Votes
from tests.weak.planted import copied, plant

QUICK = em.Settings(resamples=0)
COPIES = ("s3", "copy0", "copy1", "copy2", "copy3")


def right(labels, truth):
    return float((labels.posterior.argmax(axis=1) == truth).mean())


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_copies_of_the_worst_source_count_once(noise):
    """The plain model believes the five (0.65 right); as one source they do no harm (0.93)."""
    for seed in range(3):
        truth, votes = copied(seed, noise=noise, n=1000)
        alone = right(generative.fit(votes.take(range(4)), QUICK), truth)
        plain = right(generative.fit(votes, QUICK), truth)
        labels, copies = correlated.fit(votes, settings=QUICK)
        assert copies.clusters == (COPIES,)
        assert copies.excess > 2 * copies.threshold
        assert plain < 0.72 < 0.9 < right(labels, truth)
        assert abs(right(labels, truth) - alone) < 0.015
        assert labels.votes.sources == ("s0", "s1", "s2", "+".join(COPIES))


def test_a_pair_that_shares_errors_is_found():
    """Half of the errors in common, with two honest sources more than the pair needs."""
    found = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        truth = (rng.random(2000) < 0.5).astype(int)
        wrong = rng.random((2000, 5)) < 0.25
        shared = rng.random(2000) < 0.6
        wrong[:, 4] = np.where(shared, wrong[:, 3], wrong[:, 4])
        votes = Votes("abcde", np.where(wrong, 1 - truth[:, None], truth[:, None]))
        found += correlated.find(votes).clusters == (("d", "e"),)
    assert found == 5


def test_false_alarms_are_as_rare_as_is_said():
    """A rate of 0.2 over 40 tables of independent sources: 8 are expected, 5 were seen."""
    alarms, options = 0, dict(n=400, coverage=(0.9, 0.7, 1.0, 0.5, 0.8))
    for seed in range(40):
        _, votes = plant(seed, **options)
        copies = correlated.find(votes, alarm=0.2, simulations=50, seed=seed)
        alarms += bool(copies.clusters)
        assert bool(copies.clusters) == (copies.excess > copies.threshold)
    assert alarms <= 14  # P(X > 14) = 0.008 for a binomial of 40 and 0.2


def test_common_abstentions_alarm_nobody():
    alarms = 0
    for seed in range(10):
        _, votes = plant(seed, n=600, coverage=1.0)
        rng = np.random.default_rng(seed)
        array = np.array(votes.array)
        array[np.ix_(rng.random(600) < 0.4, [0, 1, 2])] = -1  # three fall silent together
        copies = correlated.find(Votes(votes.sources, array), alarm=0.02, simulations=50)
        alarms += bool(copies.clusters)
    assert alarms <= 1


def test_correlations_by_hand():
    votes = np.array([[1, 1, 0], [1, 0, 0], [0, 0, -1], [0, 0, 0]] * 10)
    r = correlated.correlate(votes)
    assert np.isclose(r[0, 1], np.corrcoef(votes[:, 0], votes[:, 1])[0, 1])
    assert np.isnan(r[0, 2]) and np.isnan(r[0, 0])  # one class only; itself
    assert np.isnan(correlated.correlate(votes[:16])[0, 1])  # too few in common
    rng = np.random.default_rng(0)
    gaps = rng.integers(-1, 2, (200, 2))
    both = (gaps >= 0).all(axis=1)
    expected = np.corrcoef(gaps[both, 0], gaps[both, 1])[0, 1]
    assert np.isclose(correlated.correlate(gaps)[0, 1], expected)


def test_tetrads_of_one_factor_are_zero():
    a = np.array([0.9, 0.7, 0.5, 0.3, 0.8])
    r = np.outer(a, a)
    quads = correlated._tetrads(5)
    assert len(quads) == 5 * 6 and np.allclose(correlated._differences(r, quads), 0)
    r[0, 1] = r[1, 0] = 0.9  # 0.63 by the factor
    excess = correlated._differences(r, quads)
    for quad in quads[excess > 1e-9][:, 0].tolist():
        assert {0, 1} in (set(quad[:2]), set(quad[2:]))
    assert (excess > 1e-9).sum() == 6  # three fours with 0 and 1, against two pairings each


def test_a_cluster_votes_as_its_members_do():
    votes = Votes("abcd", [[1, 1, 0, 0], [1, 0, -1, 1], [-1, -1, -1, 0], [1, -1, 0, 0]])
    merged = correlated.merge(votes, [[0, 1, 2], [3]])
    assert merged.sources == ("a+b+c", "d")
    assert merged.array.tolist() == [[1, 0], [-1, 1], [-1, 0], [-1, 0]]
    copies = correlated.Copies((("a", "c"),), np.zeros((4, 4)), 1.0, 0.5, 0.05)
    assert correlated.clustered(votes, copies).sources == ("a+c", "b", "d")
    unknown = correlated.Copies(None, np.zeros((4, 4)), None, None, 0.05)
    assert correlated.clustered(votes, unknown).sources == votes.sources


def test_what_cannot_be_tested_is_none_with_a_cause():
    _, votes = plant(0, n=300, accuracy=(0.9, 0.8, 0.7), coverage=1.0)
    copies = correlated.find(votes)
    assert copies.clusters is None and "fewer than 4 sources" in copies.cause
    assert copies.excess is None and np.isfinite(copies.correlations[0, 1])
    three = Votes("abcd", np.random.default_rng(0).integers(0, 3, (99, 4)), ("x", "y", "z"))
    assert "3 classes" in correlated.find(three).cause
    _, votes = plant(0, n=400)
    array = np.array(votes.array)
    array[:, 4] = np.where(array[:, 4] == 1, 1, -1)
    copies = correlated.find(Votes(votes.sources, array))
    assert copies.unknown == ("s4",) and copies.clusters == ()


BAD = {
    "alarm": (dict(alarm=0.0), "copies.alarm: got 0.0"),
    "simulations": (dict(simulations=19), "copies.simulations: got 19; allowed: 20 or more"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_are_one_line(case):
    options, line = BAD[case]
    with pytest.raises(UsageError, match=line):
        correlated.find(plant(0, n=50)[1], **options)
    with pytest.raises(UsageError, match="weak.model: got 'metal'; allowed: dawid_skene"):
        correlated.fit(plant(0, n=50)[1], "metal")


def test_two_groups_of_copies_cannot_be_told_apart():
    """The closer group is joined, the other believed; that it agrees as much is a warning."""
    _, votes = plant(0, n=800, accuracy=(0.8, 0.7), coverage=1.0)
    rng = np.random.default_rng(1)
    columns = [np.where(rng.random(800) < 0.03, 1 - x, x) for x in votes.array.T for _ in range(3)]
    several = Votes("abcdef", np.stack(columns, axis=1))
    labels, copies = correlated.fit(several, settings=QUICK)
    assert copies.clusters in ((("a", "b", "c"),), (("d", "e", "f"),))
    assert "agree as much as those that were joined" in copies.cause
    joined = f"{' and '.join(copies.clusters[0])} count as one"
    assert labels.warnings == (joined, f"copies: {copies.cause}")
    assert correlated.fit(plant(0, n=300)[1], settings=QUICK)[0].warnings == ()


def test_when_three_are_left_it_is_said_that_they_are_not_tested():
    _, votes = plant(2, n=800, accuracy=(0.9, 0.85, 0.65), coverage=1.0)
    copy = np.where(np.random.default_rng(0).random(800) < 0.02, 0, votes.array[:, 2])
    more = Votes("abcd", np.concatenate([votes.array, copy[:, None]], axis=1))
    labels, copies = correlated.fit(more, settings=QUICK)
    assert copies.clusters == (("c", "d"),) and labels.votes.sources == ("a", "b", "c+d")
    assert copies.cause.startswith("3 sources are left of the copies")

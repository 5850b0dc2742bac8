import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.weak import dawid_skene, em, generative
from jaxsafety.weak.generative import Prior
from jaxsafety.weak.votes import ABSTAIN, Votes
from tests.weak.planted import plant

QUICK = em.Settings(resamples=0)


def sided(seed, n=2000):
    """Three ordinary sources, and two that say "unsafe" or nothing."""
    truth, votes = plant(seed, n=n, accuracy=(0.8, 0.75, 0.7), coverage=0.8)
    rng = np.random.default_rng(seed + 50)
    speaks = rng.random((n, 2)) < np.where(truth[:, None] == 1, [0.7, 0.6], [0.05, 0.1])
    more = np.where(speaks, 1, ABSTAIN)
    names = [*votes.sources, "alarm", "siren"]
    return truth, Votes(names, np.concatenate([votes.array, more], axis=1))


def test_the_m_step_by_hand():
    """One source, two classes: counts plus 3 right, 1 wrong, 1 vote, 1 abstention."""
    counts = np.array([[10.0, 2.0], [4.0, 6.0], [7.0, 1.0]])[None, :, None]  # [J,O,R,C]
    step = generative.MStep()(counts, np.array([[21.0, 9.0]]))
    alpha, beta = np.array([13 / 18, 9 / 12]), np.array([15 / 23, 9 / 11])
    assert np.allclose(step.emission[0, 2, 0], 1 - beta)
    assert np.allclose(step.emission[0, [0, 1], 0, [0, 1]], beta * alpha)
    assert np.allclose(step.emission[0, [1, 0], 0, [0, 1]], beta * (1 - alpha))
    assert np.allclose(step.emission.sum(axis=1), 1)
    assert np.allclose(step.prior, [[22 / 32, 10 / 32]])
    logs = 3 * np.log(alpha) + np.log(1 - alpha) + np.log(beta) + np.log(1 - beta)
    assert np.isclose(step.penalty[0], logs.sum() + np.log(step.prior).sum())
    fixed = generative.MStep(balance=(0.9, 0.1))(counts, np.array([[21.0, 9.0]]))
    assert fixed.prior.tolist() == [[0.9, 0.1]] and np.isclose(fixed.penalty[0], logs.sum())


def test_wrong_votes_are_spread_over_the_other_classes():
    step = generative.MStep()(np.zeros((1, 4, 1, 3)), np.zeros((1, 3)))
    expected = np.full((3, 3), 0.5 * 0.25 / 2)
    np.fill_diagonal(expected, 0.5 * 0.75)
    assert np.allclose(step.emission[0, :3, 0], expected)
    assert np.allclose(step.prior, 1 / 3)


def test_the_penalised_likelihood_never_falls():
    _, votes = sided(0, n=300)
    patterns, model, found = em.gather(votes, silence=True), generative.MStep(), []
    for k in range(1, 25):
        fit = em.run(
            patterns,
            patterns.counts[:, None],
            patterns.start[:, None],
            model,
            em.Settings(k, None, 0),
        )
        found.append(float(fit.log_likelihood[0] + fit.step.penalty[0]))
    assert (np.diff(found) > -1e-9).all() and found[-1] - found[0] > 1


def test_silence_of_a_one_sided_source_is_read():
    """Propensities by class are found, and help; Dawid and Skene's model cannot use them."""
    for seed in range(3):
        truth, votes = sided(seed)
        labels, plain = generative.fit(votes, QUICK), dawid_skene.fit(votes, QUICK)
        assert sum("one-sided" in line for line in labels.warnings) == 2
        speaks = labels.parameters.emission[:, :2].sum(axis=1)  # [J,C]
        assert np.abs(speaks[3] - [0.05, 0.7]).max() < 0.08
        assert np.abs(speaks[4] - [0.1, 0.6]).max() < 0.08
        assert np.abs(speaks[:3] - 0.8).max() < 0.06
        assert np.allclose(plain.parameters.emission[3:, 1], 1)  # it says nothing of the class
        said = ~labels.unlabelled
        right = [(x.posterior[said].argmax(1) == truth[said]).mean() for x in (labels, plain)]
        assert right[0] > right[1] + 0.02
        # who hears nobody knows nothing, though by the formula silence is a sign of safety
        assert labels.unlabelled.sum() > 3
        assert np.allclose(labels.posterior[labels.unlabelled], labels.prior)
        assert labels.parameters.silence[0] > labels.prior[0] + 0.1


def test_a_given_balance_is_kept():
    _, votes = plant(2, unsafe=0.1, accuracy=(0.7, 0.7, 0.65), coverage=1.0)
    labels = generative.fit(votes, QUICK, balance=(0.9, 0.1))
    assert np.allclose(labels.prior, [0.9, 0.1])
    other = generative.fit(votes, QUICK, balance=(0.5, 0.5))
    assert other.posterior[:, 1].mean() > labels.posterior[:, 1].mean() + 0.05


def test_before_any_vote_it_counts_votes():
    """Log-odds are log 3 times the difference of votes, and silence says nothing."""
    model = generative.before("abc")
    votes = Votes("abc", [[1, 1, 1], [1, 1, 0], [1, -1, -1], [1, 0, -1], [-1, -1, -1]])
    odds = 3.0 ** np.array([3, 1, 1, 0, 0])
    assert np.allclose(model.posterior(votes)[:, 1], odds / (1 + odds))


BAD = {
    "low": (dict(prior=Prior(right=0.5)), "generative.prior: got"),
    "upside down": (dict(prior=Prior(right=2, wrong=3)), "right above wrong"),
    "sum": (dict(balance=(0.5, 0.4)), "2 shares that add to 1"),
    "length": (dict(balance=(0.5, 0.25, 0.25)), "2 shares that add to 1"),
    "zero": (dict(balance=(1.0, 0.0)), "2 shares that add to 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_priors_are_one_line(case):
    options, line = BAD[case]
    with pytest.raises(UsageError, match=line):
        generative.fit(plant(0, n=50)[1], QUICK, **options)

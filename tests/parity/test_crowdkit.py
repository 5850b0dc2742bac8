"""Dawid and Skene's model beside crowd-kit's, from the same vote shares, iteration by iteration.

crowd-kit ships no data set (its loaders download), so tables are drawn. Its task column is text
here: with a categorical one it takes levels without rows for tasks, gives them labels, and lets
them move the prior.
"""

from __future__ import annotations

import numpy as np
import pytest

from jaxsafety.weak import dawid_skene, em, majority
from jaxsafety.weak.votes import from_columns

pytestmark = pytest.mark.parity
aggregation = pytest.importorskip("crowdkit.aggregation")
pandas = pytest.importorskip("pandas")


def table(seed, *, tasks=300, workers=12, classes=2, coverage=0.4):
    """A long table in shuffled order; the second worker never gives the last class."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, tasks)
    accuracy = rng.uniform(0.5, 0.95, workers)
    right = rng.random((tasks, workers)) < accuracy
    labels = np.where(right, truth[:, None], rng.integers(0, classes, (tasks, workers)))
    labels[:, 1] = np.minimum(labels[:, 1], classes - 2)
    i, j = np.nonzero(rng.random((tasks, workers)) < coverage)
    order = rng.permutation(len(i))
    names = {"task": [f"t{n}" for n in i], "worker": [f"w{n}" for n in j]}
    frame = pandas.DataFrame({**names, "label": [f"c{x}" for x in labels[i, j]]})
    return frame.iloc[order].reset_index(drop=True)


def theirs(frame, iterations, tolerance):
    model = aggregation.DawidSkene(n_iter=iterations, tol=tolerance).fit(frame)
    return model.probas_, model


def aligned(votes, probas):
    return probas.loc[list(votes.items), list(votes.classes)].to_numpy()


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("iterations", [1, 2, 10, 100])
def test_posteriors_of_every_iteration(classes, iterations):
    frame = table(classes, classes=classes)
    votes = from_columns(frame)
    settings = em.Settings(iterations, None, resamples=0)
    ours = dawid_skene.fit(votes, settings)
    probas, _ = theirs(frame, iterations, -np.inf)
    assert np.abs(ours.posterior - aligned(votes, probas)).max() <= 1e-6
    assert ours.iterations == iterations
    shares = majority.fit(votes).posterior
    assert np.abs(ours.posterior - shares).max() > 0.1  # it has moved from where it began


def test_priors_and_errors():
    """Theirs are one M-step ahead of the posterior: those of our next iteration."""
    frame = table(7, classes=3)
    votes = from_columns(frame)
    ours = dawid_skene.fit(votes, em.Settings(21, None, resamples=0))
    _, model = theirs(frame, 20, -np.inf)
    priors = model.priors_.loc[list(votes.classes)].to_numpy()
    assert np.abs(ours.prior - priors).max() <= 1e-6
    for j, worker in enumerate(votes.sources):
        errors = model.errors_.loc[worker][list(votes.classes)]
        for label in errors.index:
            row = ours.parameters.emission[j, votes.classes.index(label)]
            assert np.abs(row - errors.loc[label].to_numpy()).max() <= 1e-6
    assert "c2" not in model.errors_.loc["w1"].index  # a label never given has no row


def test_with_the_tolerance_of_both():
    """They stop by different bounds on one likelihood: the same labels, nearly the same numbers."""
    frame = table(3, tasks=500, coverage=0.6)
    votes = from_columns(frame)
    ours = dawid_skene.fit(votes, em.Settings(resamples=0))
    probas, model = theirs(frame, em.ITERATIONS, em.TOLERANCE)
    assert ours.converged and abs(ours.iterations - len(model.loss_history_)) <= 3
    there = aligned(votes, probas)
    assert np.abs(ours.posterior - there).max() < 0.02
    same = ours.posterior.argmax(axis=1) == there.argmax(axis=1)
    assert same.mean() >= 0.995


def test_a_categorical_column_brings_nothing_back_here():
    frame = table(5)
    frame["task"] = frame["task"].astype("category")
    some = frame[frame["task"] != "t0"]
    assert "t0" in some["task"].cat.categories
    votes = from_columns(some)
    assert "t0" not in votes.items
    plain = from_columns(some.assign(task=some["task"].astype(str)))
    a, b = (dawid_skene.fit(v, em.Settings(resamples=0)).posterior for v in (votes, plain))
    assert np.array_equal(a, b)

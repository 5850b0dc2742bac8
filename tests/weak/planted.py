"""Votes whose truth is known, for the tests of this room."""

from __future__ import annotations

import numpy as np

from jaxsafety.weak.votes import ABSTAIN, Votes

ACCURACY = (0.9, 0.8, 0.7, 0.65, 0.85)
COVERAGE = (0.9, 0.7, 1.0, 0.5, 0.8)


def plant(seed, *, n=1500, accuracy=ACCURACY, coverage=COVERAGE, unsafe=0.3):
    """[N] truth and its votes: every source errs and abstains by itself."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < unsafe).astype(int)
    right = rng.random((n, len(accuracy))) < accuracy
    votes = np.where(right, truth[:, None], 1 - truth[:, None])
    votes = np.where(rng.random(votes.shape) < coverage, votes, ABSTAIN)
    return truth, Votes([f"s{j}" for j in range(len(accuracy))], votes)


def copied(seed, *, copies=4, noise=0.05, **options):
    """Four sources and copies of the worst, each with some noise of its own."""
    options = {"accuracy": (0.9, 0.85, 0.8, 0.65), "coverage": 1.0, "unsafe": 0.4, **options}
    truth, votes = plant(seed, **options)
    rng = np.random.default_rng(seed + 1000)
    worst = votes.array[:, [3]]
    turned = rng.random((len(truth), copies)) < noise
    more = np.where(turned & (worst >= 0), 1 - worst, worst)
    names = [*votes.sources, *(f"copy{k}" for k in range(copies))]
    return truth, Votes(names, np.concatenate([votes.array, more], axis=1))

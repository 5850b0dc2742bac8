"""Kappa beside scikit-learn's; AC1 beside irrCAC's way of writing it, by raters per subject."""

from __future__ import annotations

import numpy as np
import pytest

from jaxsafety.benchmarks.agreement import ac1, compare, kappa

pytestmark = pytest.mark.parity
metrics = pytest.importorskip("sklearn.metrics")


def gwet(first, second):
    """Gwet's AC1 as package irrCAC has it (gwet.ac1.raw without weights): subjects x labels."""
    labels = sorted(set(first) | set(second))
    raters = np.array(
        [[(a == q) + (b == q) for q in labels] for a, b in zip(first, second, strict=True)]
    )
    agree = (raters * (raters - 1)).sum(axis=1) / (2 * (2 - 1))
    shares = (raters / 2).mean(axis=0)
    chance = (shares * (1 - shares)).sum() / (len(labels) * (len(labels) - 1)) * len(labels)
    return (agree.mean() - chance) / (1 - chance)


@pytest.mark.parametrize("seed", range(20))
def test_coefficients(seed):
    rng = np.random.default_rng(seed)
    labels = int(rng.integers(2, 5))
    skew = rng.dirichlet(np.ones(labels))
    first = rng.choice(labels, 80, p=skew)
    second = np.where(rng.random(80) < rng.random(), first, rng.choice(labels, 80, p=skew))
    one, two = first.tolist(), second.tolist()
    if len(set(one + two)) == 1:
        assert kappa(one, two) is None and ac1(one, two) is None
        return
    assert kappa(one, two) == pytest.approx(metrics.cohen_kappa_score(one, two), abs=1e-12)
    assert ac1(one, two) == pytest.approx(gwet(one, two), abs=1e-12)
    yes = [x > 0 for x in one], [x > 0 for x in two]
    found = compare(*yes, resamples=10)
    if found.kappa.value is not None:
        wanted = metrics.cohen_kappa_score(*yes)
        assert found.kappa.value == pytest.approx(wanted, abs=1e-12)
        assert found.ac1.value == pytest.approx(gwet(*yes), abs=1e-12)
        table = metrics.confusion_matrix(*yes, labels=[True, False]).ravel().tolist()
        assert list(found.cells) == table

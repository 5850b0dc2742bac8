"""Mass on the subset and the split of the drift from the base."""

import jax
import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.losses.profile import subset_mass, token_kl_profile

N, D, V = 10, 4, 9
S = np.array([2, 5, 6])
OFF = np.setdiff1d(np.arange(V), S)


def arrays():
    random = np.random.default_rng(0)
    student, base = (random.normal(size=(N, D)).astype(np.float32) for _ in range(2))
    head, other = (random.normal(size=(D, V)).astype(np.float32) for _ in range(2))
    return student, base, head, other


def kl(q, p):
    return (q * np.log(q / p)).sum(1)


@pytest.mark.parametrize("chunk", [None, 3])
def test_against_the_definitions(chunk):
    student, base, head, other = arrays()
    p, q = (np.asarray(jax.nn.softmax(x), np.float64) for x in (student @ head, base @ other))
    np.testing.assert_allclose(subset_mass(student, head, S, chunk), p[:, S].sum(1), rtol=1e-5)
    whole, off = token_kl_profile(student, base, head, other, S, chunk)
    np.testing.assert_allclose(whole, kl(q, p), rtol=1e-4, atol=1e-6)
    p, q = p[:, OFF] / p[:, OFF].sum(1, keepdims=True), q[:, OFF] / q[:, OFF].sum(1, keepdims=True)
    np.testing.assert_allclose(off, kl(q, p), rtol=1e-4, atol=1e-6)


def test_a_change_on_the_subset_alone_leaves_the_rest_of_the_distribution():
    base = np.asarray(arrays()[0] @ arrays()[2])  # identity head: rows are logits
    moved = base.copy()
    moved[:, S] += 2.0
    eye = np.eye(V, dtype=np.float32)
    whole, off = token_kl_profile(moved, base, eye, subset=S)
    assert np.abs(off).max() < 1e-6 < 1e-2 < np.asarray(whole).min()
    same, conditioned = token_kl_profile(moved, base, eye)
    np.testing.assert_allclose(same, conditioned, atol=1e-6)
    np.testing.assert_allclose(same, whole, atol=1e-6)


def test_a_subset_that_leaves_nothing_is_refused():
    student, base, head, _ = arrays()
    with pytest.raises(UsageError, match="token_set: got '9 ids'; allowed: fewer than the 9"):
        token_kl_profile(student, base, head, subset=np.arange(V))
    with pytest.raises(UsageError, match="token_set"):
        subset_mass(student, head, [])

"""Weights: normalised on the global batch, blind to padding rows and to how the batch is cut."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from jaxsafety.core.errors import UsageError
from jaxsafety.losses.weights import normalise, sequence_weights, token_weights

MASK = np.array([[0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 0]], bool)


def test_values_by_hand():
    np.testing.assert_allclose(token_weights(MASK), MASK / 4)
    expected = [[0, 1 / 6, 1 / 6, 1 / 6], [0, 0, 0, 0], [0, 0, 1 / 2, 0]]
    np.testing.assert_allclose(sequence_weights(MASK), expected, rtol=1e-6)


def test_an_empty_mask_gives_zeros_not_nan():
    for weights in (token_weights, sequence_weights):
        assert np.array_equal(weights(np.zeros((2, 3), bool)), np.zeros((2, 3)))


def test_names():
    np.testing.assert_array_equal(normalise(MASK, "token"), token_weights(MASK))
    np.testing.assert_array_equal(normalise(MASK, "sequence"), sequence_weights(MASK))
    with pytest.raises(UsageError, match="reduction: got 'mean'; allowed: token, sequence"):
        normalise(MASK, "mean")


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(bool, (4, 5)))
def test_weights_sum_to_one_and_ignore_padding_rows(mask):
    padded = np.concatenate([mask, np.zeros((4, 5), bool)])
    for weights in (token_weights, sequence_weights):
        plain = np.asarray(weights(mask))
        assert plain.dtype == np.float32
        assert abs(plain.sum() - float(mask.any())) < 1e-6
        assert np.array_equal(plain > 0, mask)
        np.testing.assert_array_equal(weights(padded)[:4], plain)
    rows = np.asarray(sequence_weights(mask)).sum(1)
    assert np.allclose(rows[mask.any(1)], 1 / max(mask.any(1).sum(), 1))


def test_halves_of_the_batch_add_up():
    mask = np.random.default_rng(0).random((6, 7)) < 0.4
    losses = np.random.default_rng(1).random((6, 7))
    weight = np.asarray(sequence_weights(jnp.asarray(mask)))
    halves = sum((weight[part] * losses[part]).sum() for part in (slice(3), slice(3, 6)))
    expected = np.mean([losses[b][mask[b]].mean() for b in range(6) if mask[b].any()])
    assert halves == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weights", [token_weights, sequence_weights])
def test_plain_lists_are_masks_where_they_are_rows(weights):
    np.testing.assert_array_equal(weights(MASK.tolist()), weights(MASK))
    with pytest.raises(UsageError, match="^mask: got 'list'; allowed: .* every row as long"):
        weights([[True], [True, False]])
    with pytest.raises(UsageError, match="^mask: got 'NoneType'"):
        weights(None)

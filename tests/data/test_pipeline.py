"""Batches as functions of (seed, step); packing; weights."""

import grain
import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.pipeline import (
    Batches,
    first_fit,
    indices,
    pack,
    pad_batch,
    permutation,
)
from jaxsafety.data.schema import Encoded


def example(first, size, learnt):
    """ids first, first+1, ...; the last `learnt` of them are learnt."""
    return Encoded(list(range(first, first + size)), [i >= size - learnt for i in range(size)])


def test_an_epoch_sees_everything_once_and_epochs_differ():
    stream = np.concatenate([indices(1, step, 4, 10) for step in range(5)])  # two epochs
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert list(stream[:10]) != list(stream[10:])
    assert list(stream[:10]) == list(permutation(1, 0, 10))
    assert list(stream[:10]) != list(permutation(2, 0, 10))


def test_rows_do_not_depend_on_how_they_are_cut_into_steps():
    small = np.concatenate([indices(3, step, 2, 7) for step in range(6)])
    large = np.concatenate([indices(3, step, 6, 7) for step in range(2)])
    np.testing.assert_array_equal(small, large)


def test_the_order_is_pinned():
    # A run resumed by another version must see the same stream.
    assert list(permutation(0, 0, 8)) == list(np.random.default_rng([0, 0]).permutation(8))
    with pytest.raises(ValueError, match="read-only"):
        permutation(0, 0, 8)[0] = 1


def test_first_fit_fills_the_earliest_row_with_room():
    assert first_fit([5, 4, 3, 1, 4], 8) == [[0, 2], [1, 3], [4]]
    plan = first_fit(list(np.random.default_rng(0).integers(1, 20, 1000)), 20)
    assert sorted(i for row in plan for i in row) == list(range(1000))


def test_pack_keeps_segments_apart():
    got = pack([example(10, 3, 2), example(20, 2, 1), example(30, 4, 4)], 6, rows=3, pad_id=9)
    np.testing.assert_array_equal(
        got.tokens, [[10, 11, 12, 20, 21, 9], [30, 31, 32, 33, 9, 9], [9] * 6]
    )
    np.testing.assert_array_equal(got.positions[0], [0, 1, 2, 0, 1, 0])
    np.testing.assert_array_equal(got.segments, [[1, 1, 1, 2, 2, 0], [1] * 4 + [0] * 2, [0] * 6])
    learnt = np.array([[0, 1, 1, 0, 1, 0], [0, 1, 1, 1, 0, 0], [0] * 6])  # never a first token
    np.testing.assert_allclose(got.weight, learnt / 6)


def test_sequence_weights_give_every_example_the_same():
    got = pack(
        [example(0, 3, 2), example(0, 2, 1), example(0, 4, 4), example(0, 2, 0)],
        6,
        reduction="sequence",
    )
    np.testing.assert_allclose(got.weight[0, :5], [0, 1 / 6, 1 / 6, 0, 1 / 3])
    np.testing.assert_allclose(got.weight.sum(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(got.weight[1, 1:4], 1 / 9, rtol=1e-6)


def test_nothing_learnt_is_weight_zero_not_nan():
    np.testing.assert_array_equal(pad_batch([example(0, 3, 0)], 4).weight, np.zeros((1, 4)))


def test_pad_batch_has_one_example_per_row():
    got = pad_batch([example(10, 3, 2), example(20, 2, 1)], 4, rows=3)
    np.testing.assert_array_equal(got.segments, [[1, 1, 1, 0], [1, 1, 0, 0], [0] * 4])
    assert not got.packed and pack([example(10, 3, 2)], 4).packed
    np.testing.assert_allclose(np.asarray(got.weight).sum((1,)), [2 / 3, 1 / 3, 0], rtol=1e-6)


@pytest.mark.parametrize("packed", [True, False])
def test_batches_cover_the_source_and_depend_on_seed_and_step_alone(packed):
    source = [example(10 * i, 1 + i % 5, 1) for i in range(1, 24)]
    one, two = (Batches(source, length=8, rows=3, seed=4, packed=packed) for _ in range(2))
    later = two({"any": "thing"}, 3)
    firsts = set()
    for step in range(one.steps_per_epoch):
        batch = one(None, step)
        assert batch.tokens.shape == (3, 8) and batch.packed is packed
        starts = (batch.positions == 0) & (batch.segments > 0)
        firsts |= set(batch.tokens[starts].tolist())
        if step == 3:
            np.testing.assert_array_equal(batch.tokens, later.tokens)
    assert firsts == {10 * i for i in range(1, 24)}
    other = Batches(source, length=8, rows=3, seed=5, packed=packed)(None, 3)
    assert not np.array_equal(other.tokens, later.tokens)


def test_a_grain_dataset_is_a_source():
    plain = [example(10 * i, 3, 1) for i in range(6)]
    lazy = grain.MapDataset.source(list(range(6))).map(lambda i: example(10 * i, 3, 1))
    kwargs = {"length": 8, "rows": 2, "seed": 0}
    np.testing.assert_array_equal(
        Batches(lazy, **kwargs)(None, 1).tokens, Batches(plain, **kwargs)(None, 1).tokens
    )


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: pack([example(0, 9, 1)], 8), "data.length"),
        (lambda: pack([example(0, 0, 0)], 8), "data.length"),
        (lambda: pack([example(0, 8, 1)] * 3, 8, rows=2), "data.rows"),
        (lambda: pad_batch([example(0, 2, 1)] * 3, 8, rows=2), "data.rows"),
        (lambda: pack([example(0, 2, 1)], 8, reduction="mean"), "data.reduction"),
        (lambda: Batches([], length=8, rows=2, seed=0), "data"),
        (lambda: Batches([example(0, 2, 1)], length=8, rows=0, seed=0), "data.rows"),
    ],
)
def test_bad_input_is_refused(call, field):
    with pytest.raises(UsageError, match=f"^{field}: got "):
        call()

"""Mixing by weight: proportions, epochs, and rows that depend on (seed, index) alone."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.interleave import rows_at, stream
from jaxsafety.data.pipeline import Batches
from jaxsafety.data.schema import Encoded

SIZES, WEIGHTS = (4, 10, 7), (0.5, 0.3, 0.2)


def source_of(row):
    return int(np.searchsorted(np.cumsum(SIZES), row, side="right"))


def test_proportions_hold_in_every_stretch():
    rows = rows_at(stream(0, SIZES, WEIGHTS), 0, 1000)
    for start in range(0, 1000, 100):
        count = Counter(source_of(r) for r in rows[start : start + 100])
        np.testing.assert_allclose([count[i] / 100 for i in range(3)], WEIGHTS, atol=0.02)


def test_every_source_goes_through_shuffled_epochs():
    rows = rows_at(stream(0, SIZES, WEIGHTS), 0, 800)
    own = [r for r in rows if source_of(r) == 1]
    epochs = [tuple(own[i : i + 10]) for i in range(0, 100, 10)]
    assert all(sorted(e) == list(range(4, 14)) for e in epochs)
    assert len(set(epochs)) > 5  # each in another order


def test_a_row_depends_on_seed_and_index_alone():
    mixed = stream(3, SIZES, WEIGHTS)
    whole = rows_at(mixed, 0, 60)
    assert [rows_at(mixed, step, 6) for step in (9, 0, 4)] == [whole[54:], whole[:6], whole[24:30]]
    assert rows_at(stream(4, SIZES, WEIGHTS), 0, 60) != whole
    call = f"rows_at(stream(3, {SIZES}, {WEIGHTS}), 1, 30)"
    code = f"from jaxsafety.data.interleave import *; print({call})"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == str(whole[30:])  # a fresh process goes on where this one was


@pytest.mark.parametrize("packed", [True, False])
def test_batches_of_a_mixture(packed):
    named = [(part, i) for part, size in enumerate(SIZES) for i in range(size)]
    examples = [Encoded([10 * part + i] * 3, [True] * 3) for part, i in named]
    mix = {"parts": [part for part, _ in named], "weights": WEIGHTS}
    batches = Batches(examples, length=6, rows=10, seed=0, packed=packed, **mix)
    seen = Counter()
    for step in range(20):
        batch = batches(None, step)
        first = [int(row[0]) // 10 for row in batch.tokens]
        last = [
            int(row[s > 0][-1]) // 10 for row, s in zip(batch.tokens, batch.segments, strict=True)
        ]
        assert first == last  # a row is of one source
        seen.update(first)
    np.testing.assert_allclose([seen[i] / 200 for i in range(3)], WEIGHTS, atol=0.02)


@pytest.mark.parametrize(
    "sizes, weights", [((3,), (1, 2)), ((3, 0), (1, 2)), ((3, 3), (1, 0)), ((3,), (float("inf"),))]
)
def test_impossible_mixtures(sizes, weights):
    with pytest.raises(UsageError, match=r"data\.mix"):
        stream(0, sizes, weights)

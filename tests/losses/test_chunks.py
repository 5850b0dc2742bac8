"""Chunking: order restored, weightless rows skipped, sizes that do not divide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.losses import chunks


def visit(weight, rows, chunk, shards):
    """Doubles rows; carries the weighted sum, how many chunks ran and the rows of the largest."""

    def body(carry, weight, rows):
        total, count, size = carry
        total += jnp.sum(weight[:, None] * rows)
        out = jnp.where(weight[:, None] != 0, 2 * rows, 0)
        return (total, count + 1, jnp.maximum(size, rows.shape[0])), {"out": out}

    start = (jnp.zeros(()), jnp.zeros((), int), jnp.zeros((), int))
    return chunks.loop(body, start, weight, rows, chunk=chunk, shards=shards)


@pytest.mark.parametrize(
    ("num", "chunk", "shards"), [(10, 3, 1), (12, 4, 1), (10, 10, 1), (11, 4, 4), (16, 8, 2)]
)
def test_every_weighted_row_is_visited_once_and_put_back(num, chunk, shards):
    random = np.random.default_rng(num + chunk)
    rows = random.normal(size=(num, 2)).astype(np.float32)
    run = jax.jit(visit, static_argnums=(2, 3))
    for share in (0.0, 0.3, 0.7, 1.0):
        weight = (random.random(num) < share) * random.normal(size=num).astype(np.float32)
        dirty = np.where(weight[:, None] == 0, np.nan, rows)
        (total, _, size), out = run(weight, dirty, chunk, shards)
        expected = np.where(weight[:, None] == 0, 0, 2 * rows)
        np.testing.assert_array_equal(out["out"], expected)
        assert total == pytest.approx((weight[:, None] * np.nan_to_num(rows)).sum(), abs=1e-5)
        assert size <= -(-chunk // shards) * shards


def test_chunks_without_weight_do_not_run():
    run = jax.jit(visit, static_argnums=(2, 3))
    rows = jnp.ones((32, 1))
    scattered = jnp.arange(32) % 4 == 1  # 8 of 32 rows, in every fourth place
    assert int(run(scattered * 1.0, rows, 4, 1)[0][1]) == 2
    assert int(run(scattered * 1.0, rows, 4, 2)[0][1]) == 2
    assert int(run(jnp.zeros(32), rows, 4, 1)[0][1]) == 0
    assert int(run(jnp.ones(32), rows, 4, 1)[0][1]) == 8


def test_automatic_size_bounds_the_logits():
    assert chunks.rows_per_chunk(7, 100) == 7
    for vocab in (16, 1000, 5000):
        rows = chunks.rows_per_chunk(None, vocab)
        assert (
            rows * vocab <= max(chunks.CPU_LOGITS, chunks.LEAST_ROWS * vocab) < (rows + 1) * vocab
        )
    assert chunks.rows_per_chunk(None, 150_000) == chunks.LEAST_ROWS
    assert chunks.rows_per_chunk(None, 150_000, shards=4) == 4 * chunks.LEAST_ROWS


@pytest.mark.parametrize(
    ("chunk", "shards", "field"),
    [(0, 1, "chunk"), (-3, 1, "chunk"), (2.5, 1, "chunk"), (True, 1, "chunk"), (4, 0, "shards")],
)
def test_sizes_that_make_no_sense(chunk, shards, field):
    with pytest.raises(UsageError, match=f"{field}: got .*; allowed: a positive integer"):
        chunks.rows_per_chunk(chunk, 100, shards)

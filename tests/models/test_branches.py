"""Trees laid flat (`branches`): what a branch reads, against one pass per path of each tree."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.models.api import init_cache
from jaxsafety.testing import tiny_model

# two trees in one row, trunk first, then the branches; of the second the first branch is empty
TREES = ((7, (4, 3, 5)), (3, (0, 6)))
HEAD = 6  # tokens that all paths begin with, read into a cache
WIDTH = 32


@functools.lru_cache
def jitted(model):
    return jax.jit(model.apply)


tiny = functools.lru_cache(tiny_model)


def laid(begin):
    """(segments, branches, positions) [1,T] and, per path, where its tokens lie."""
    rows, paths = [], []
    for segment, (trunk, branches) in enumerate(TREES, 1):
        at = len(rows)
        rows += [(segment, 0, begin + t) for t in range(trunk)]
        own = list(range(at, at + trunk))
        for k, length in enumerate(branches, 1):
            paths.append(own + list(range(len(rows), len(rows) + length)))
            rows += [(segment, k, begin + trunk + t) for t in range(length)]
    rows += [(0, 0, 0)] * (WIDTH - len(rows))
    return jnp.asarray(rows, jnp.int32).T[:, None], paths


# windows of 5, less than a trunk or a head; with the head, in all layers or in some
@pytest.mark.parametrize(
    ("family", "begin"), [("llama", 0), ("gemma2", 0), ("mistral", HEAD), ("gemma3_text", HEAD)]
)
def test_a_path_of_a_tree_is_a_sequence_of_its_own(family, begin):
    model, params = tiny(family)
    ids = np.asarray(jax.random.randint(jax.random.key(3), (begin + WIDTH,), 0, 264))
    head, row = ids[:begin], ids[begin:]
    (segments, branches, positions), paths = laid(begin)
    cache = None
    if begin:
        cache = init_cache(model.config, 1, begin + WIDTH)
        places = jnp.arange(begin)[None]
        cache = jitted(model)(params, jnp.asarray(head)[None], places, cache=cache).cache
    hidden = jitted(model)(
        params,
        jnp.asarray(row)[None],
        positions,
        segments=segments,
        branches=branches,
        cache=cache,
    ).hidden[0]
    assert bool(jnp.isfinite(hidden).all())
    whole = np.zeros((len(paths), begin + WIDTH), np.int32)
    for number, path in enumerate(paths):
        whole[number, : begin + len(path)] = [*head, *row[path]]
    places = jnp.broadcast_to(jnp.arange(whole.shape[1]), whole.shape)
    apart = jitted(model)(params, jnp.asarray(whole), places).hidden
    for number, path in enumerate(paths):
        want = apart[number, begin : begin + len(path)]
        np.testing.assert_allclose(hidden[np.asarray(path)], want, atol=2e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_branch_reads_no_sibling_and_no_other_tree(family):
    model, params = tiny(family)
    ids = jax.random.randint(jax.random.key(4), (1, WIDTH), 0, 264)
    (segments, branches, positions), _ = laid(0)

    def run(tokens):
        more = {"segments": segments, "branches": branches}
        return np.asarray(jitted(model)(params, tokens, positions, **more).hidden[0])

    mine = (segments == 1) & (branches == 2)
    changed = run(jnp.where(mine, (ids + 1) % 264, ids))
    same, mine = np.asarray(~mine[0]), np.asarray(mine[0])
    np.testing.assert_array_equal(run(ids)[same], changed[same])
    assert np.abs(run(ids)[mine] - changed[mine]).max() > 1e-2


def test_without_segments_a_row_is_one_tree():
    model, params = tiny("llama")
    ids = jax.random.randint(jax.random.key(5), (2, 8), 0, 264)
    branches = jnp.asarray([[0, 0, 0, 1, 1, 2, 2, 2]] * 2)
    places = jnp.asarray([[0, 1, 2, 3, 4, 3, 4, 5]] * 2)
    hidden = jitted(model)(params, ids, places, branches=branches).hidden
    second = jnp.asarray([0, 1, 2, 5, 6, 7])
    apart = jitted(model)(params, ids[:, second], places[:, second]).hidden
    np.testing.assert_allclose(hidden[:, second], apart, atol=2e-5)
    with pytest.raises(AssertionError, match="branches"):
        model.apply(params, ids, places, branches=branches[:, :3])

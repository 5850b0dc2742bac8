"""Trees in rows: every token once and in its place, no row too wide, little left empty."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from jaxsafety.evaluation import packing
from jaxsafety.evaluation.packing import Tree, grow, plan
from jaxsafety.evaluation.pairs import Stem
from jaxsafety.sampling import heads


def drawn(seed, count=400, longest=120, choices=4):
    """Stems of random lengths whose ids are all different, but for what continuations share."""
    rng = np.random.default_rng(seed)
    used = 1

    def ids(n):
        nonlocal used
        used += n
        return tuple(range(used - n, used))

    found = []
    for _ in range(count):
        shared = ids(rng.integers(0, 4))
        own = tuple(shared + ids(rng.integers(1, 20)) for _ in range(rng.integers(1, choices + 1)))
        found.append(Stem(ids(rng.integers(1, longest)), own, tuple(range(len(own)))))
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tokens", [24, 256, 1024])
@pytest.mark.parametrize(("ways", "alone", "skip"), [(1, False, 0), (3, False, 1), (8, True, 0)])
def test_every_token_lies_once_in_its_place(seed, tokens, ways, alone, skip):
    stems = drawn(seed, 60, (30, 120, 700, 2500)[seed])
    stems = [s._replace(context=(0,) * skip + s.context) for s in stems]
    trees = [grow(s, skip) for s in stems]
    batches = plan(trees, tokens=tokens, ways=ways, alone=alone)
    assert sorted(i for b in batches for i in b.stems) == list(range(60))
    for batch in batches:
        shape = batch.shape
        assert shape.rows % ways == 0 and len(batch.rows) <= shape.rows
        assert shape.rows * shape.width <= max(1.5 * tokens, shape.width, 32) * ways
        laid = packing.lay(batch, stems, trees, skip)
        assert not alone or max(map(len, batch.rows)) == 1
        for r, members in enumerate(batch.rows):
            assert sum(trees[i].tokens for i in members) <= shape.width
            assert np.count_nonzero(laid.segments[r]) == sum(trees[i].tokens for i in members)
            for number, index in enumerate(members, 1):
                mine = laid.segments[r] == number
                trunk = mine & (laid.branches[r] == 0)
                assert tuple(laid.tokens[r, mine & laid.context[r]]) == stems[index].context[skip:]
                assert not (laid.context[r] & mine & ~trunk).any()
                for k, continuation in enumerate(stems[index].continuations, 1):
                    path = trunk | (mine & (laid.branches[r] == k))
                    whole = (*stems[index].context[skip:], *continuation[:-1])
                    assert tuple(laid.tokens[r, path]) == whole
                    assert laid.places[r, path].tolist() == [*range(skip, skip + len(whole))]
        for r in range(len(batch.rows), shape.rows):  # rows without a tree repeat one
            np.testing.assert_array_equal(laid.tokens[r], laid.tokens[0])
            np.testing.assert_array_equal(laid.segments[r], laid.segments[0])


@pytest.mark.parametrize("seed", range(4))
def test_each_target_is_predicted_by_the_token_before_it(seed):
    stems = drawn(seed, 50)
    trees = [grow(s) for s in stems]
    asked = 0
    for batch in plan(trees, tokens=512):
        laid = packing.lay(batch, stems, trees)
        count = sum(trees[i].targets for i in batch.stems)
        assert len(laid.asked) == batch.shape.asked and len(laid.targets) == batch.shape.targets
        before = laid.tokens.reshape(-1)[laid.asked][laid.which]
        # a value per target that tells which pair it is: sums are then of the right pairs
        pairs = np.stack([before, laid.targets], 1).astype(np.float64)
        values = pairs[:, 0] * 1e-3 + pairs[:, 1]
        sums = packing.sums(batch, trees, values)
        for index, own in zip(batch.stems, sums, strict=True):
            for continuation, found in zip(stems[index].continuations, own, strict=True):
                whole = (stems[index].context[-1], *continuation)
                want = sum(a * 1e-3 + b for a, b in pairwise(whole))
                assert found == pytest.approx(want, rel=1e-12)
        for u in range(sum(trees[i].asked for i in batch.stems)):  # each predicts its `first`
            assert laid.first[u] in laid.targets[:count][laid.which[:count] == u]
        asked += sum(trees[i].asked for i in batch.stems)
        assert len({*laid.asked[: sum(trees[i].asked for i in batch.stems)]}) == sum(
            trees[i].asked for i in batch.stems
        )
    every = sum(len(c) for s in stems for c in s.continuations)
    assert asked < every  # one hidden state serves several choices


@pytest.mark.parametrize(("longest", "choices"), [(30, 2), (60, 4), (120, 4), (400, 4), (900, 2)])
def test_little_is_left_empty_in_few_shapes(longest, choices):
    trees = [grow(s) for s in drawn(longest, 600, longest, choices)]
    real = sum(t.tokens for t in trees)
    batches = plan(trees)
    slots = sum(b.shape.rows * b.shape.width for b in batches)
    shapes = {b.shape for b in batches}
    assert len(shapes) <= 4
    assert slots < 1.06 * real + 1024 * len(shapes)
    for shape in shapes:  # what is unembedded is spread evenly, as far as whole rows allow
        parts = [b for b in batches if b.shape == shape]
        rows = [[sum(trees[i].asked for i in row) for row in b.rows] for b in parts]
        mean = np.mean([sum(row) for row in rows])
        assert shape.asked <= mean + max(map(max, rows)) + 8
    assert plan(trees) == batches  # a run that goes on finds the same ones


def test_one_width_where_another_would_save_less_than_it_costs():
    few = [Tree((1,) * 100, 100, ((), ())), Tree((1,) * 10, 10, ((), ()))]
    (batch,) = plan(few)
    assert batch.shape == (1, 128, 8, 8) and batch.rows == ((0, 1),)
    assert plan([]) == []
    fallen = packing.fill([130, 120, 100, 30, 20, 8], (128, 512))
    assert fallen == {512: [(0, 1, 2, 3, 4, 5)], 128: []}
    assert packing.fill([5, 9], (8, 32), alone=True) == {8: [(0,)], 32: [(1,)]}


def test_a_tree_that_is_too_large_is_cut_between_its_choices():
    stem = Stem((1,) * 10, tuple((k,) * 6 for k in range(5)), (0, 1, 2, 3, 4))
    parts = packing.split(stem, 22)
    assert [p.choices for p in parts] == [(0, 1), (2, 3), (4,)]
    assert all(grow(p).tokens <= 22 and p.context == stem.context for p in parts)
    assert packing.split(stem) == [stem]
    assert [p.choices for p in packing.split(stem, 3)] == [(0,), (1,), (2,), (3,), (4,)]


def test_a_head_is_read_apart_where_it_is_long():
    def with_head(n):
        return [Stem((7,) * n + (k,) * 20, ((1, 2), (3,)), (0, 1)) for k in range(8, 11)]

    assert heads.common([s.context for s in with_head(2)]) == 2 and packing.head(with_head(2)) == 0
    assert packing.head(with_head(9)) == 9
    assert heads.common([s.context for s in with_head(9)[:1]]) == 0
    same = [Stem((1, 2), ((3,), (4,)), (0, 1))] * 3
    assert heads.common([s.context for s in same]) == 1  # each context keeps a token of its own


def test_what_all_continuations_begin_with_belongs_to_the_trunk():
    own = ((5, 6, 7, 8), (5, 6, 9), (5, 6, 7))
    stem = Stem((1, 2, 3), own, (0, 1, 2))
    tree = grow(stem, 1)
    assert tree == Tree((2, 3, 5, 6), 2, ((7,), (), ()))
    assert (tree.tokens, tree.asked, tree.targets) == (5, 4, 6)
    assert grow(Stem((1, 2), ((5,), (5, 6)), (0, 1))) == Tree((1, 2), 2, ((), (5,)))

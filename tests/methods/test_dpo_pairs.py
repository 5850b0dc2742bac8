"""Pairs as arrays: what is refused, and that padding, order and micro-batches change nothing."""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsafety import testing
from jaxsafety.core import sharding
from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Encoded
from jaxsafety.losses.preference import Preference
from jaxsafety.methods.dpo import pairs
from jaxsafety.protocols import OptimConfig
from jaxsafety.train.optim import make_optimizer
from jaxsafety.train.state import create
from jaxsafety.train.step import make_train_step

SCORED = Preference("modpo", 0.3, weights=(0.4, 0.6), orientations=("high",))


def encoded(rng, size):
    start = int(rng.integers(1, size - 1))
    ids = rng.integers(5, 200, size).tolist()
    return Encoded(ids, [t >= start for t in range(size)])


def sides(seed=0, count=4):
    rng = np.random.default_rng(seed)
    both = [[encoded(rng, int(rng.integers(4, 14))) for _ in range(count)] for _ in range(2)]
    return both, rng.random((count, 2, 1)), rng.random(count)


@pytest.fixture(scope="module")
def tiny():
    """(model, policy, loss as a compiled function of params and pairs, reference)."""
    model, params = testing.tiny_model()
    moved = jax.tree.map(lambda x: x * 1.1, params)
    nothing = {"base": jax.tree.map(lambda _: None, params)}

    @jax.jit
    def value(batch):
        key = jax.random.key(0)
        return pairs.pair_loss(model, SCORED)({"base": moved}, nothing, batch, key)[0]

    return model, params, moved, value


def made(model, params, seed=0, width=16):
    both, scores, label = sides(seed)
    found = pairs.assemble(*both, 0, width=width, scores=scores, label=label)
    told = pairs.referred(model, {"base": params}, found, rows=4)
    return dataclasses.replace(found, reference=told, weight=np.full(4, 0.25, np.float32))


def taken(batch, index):
    return jax.tree.map(lambda x: np.asarray(x)[np.asarray(index)], batch)


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 99), order=st.permutations(range(4)))
def test_order_padding_and_turning_round(tiny, seed, order):
    model, params, _, value = tiny
    batch = made(model, params, seed)
    whole = float(value(batch))
    assert float(value(taken(batch, order))) == pytest.approx(whole, rel=1e-5)
    hidden = np.where(np.asarray(batch.segments) > 0, batch.tokens, 7)
    assert float(value(dataclasses.replace(batch, tokens=hidden))) == pytest.approx(whole, rel=1e-6)
    turned = {
        field: np.asarray(getattr(batch, field))[:, ::-1]
        for field in ("tokens", "positions", "segments", "mask", "reference", "scores")
    }
    turned = dataclasses.replace(batch, **turned, label=1 - np.asarray(batch.label))
    assert float(value(turned)) == pytest.approx(whole, rel=1e-5)


def test_wider_rows_change_nothing(tiny):
    model, params, _, value = tiny
    narrow, wide = made(model, params), made(model, params, width=24)
    assert narrow.tokens.shape[2] == 16 and wide.tokens.shape[2] == 24
    np.testing.assert_allclose(narrow.reference, wide.reference, rtol=1e-5)
    assert float(value(narrow)) == pytest.approx(float(value(wide)), rel=1e-5)


def test_micro_batches_take_whole_pairs_and_add_up(tiny):
    model, params, moved, _ = tiny
    batch = made(model, params)
    optim = OptimConfig(name="sgd", lr=1.0, b1=0.0, clip=0.0, warmup=0.0, schedule="constant")
    tx = make_optimizer(optim, 1)
    nothing = {"base": jax.tree.map(lambda _: None, params)}
    found = []
    for accum in (1, 2):
        step = jax.jit(make_train_step(pairs.pair_loss(model, SCORED), tx, accum=accum))
        state = create({"base": moved}, tx, jax.random.key(0))
        found.append(jax.device_get(step(state, nothing, batch)))
    for a, b in zip(*(jax.tree.leaves(x[0].params) for x in found), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for name in ("loss", "margin", "preferred", "grad_norm"):
        assert float(found[0][1][name]) == pytest.approx(float(found[1][1][name]), rel=1e-4)


def test_the_reference_of_a_mesh_is_that_of_one_device(tiny):
    model, params, _, _ = tiny
    batch = made(model, params)
    mesh, heard = sharding.make_mesh(sharding.MeshConfig(4, 2, 1)), []
    told = pairs.referred(model, {"base": params}, batch, 2, mesh, heard.append)
    np.testing.assert_allclose(told, batch.reference, rtol=1e-5)
    assert told.shape == (4, 2) and heard == [4]


def test_equal_stages_share_a_loss(tiny):
    model = tiny[0]
    same = dataclasses.replace(SCORED)
    assert pairs.pair_loss(model, SCORED) is pairs.pair_loss(model, same)
    assert pairs.pair_loss(model, SCORED) is not pairs.pair_loss(model, Preference())


def test_every_pair_comes_once_an_epoch_and_weighs_the_same():
    both, scores, label = sides()
    drawn = pairs.batches(pairs.assemble(*both, 0, scores=scores, label=label), 2, seed=3)
    seen = [drawn({}, step) for step in range(2)]
    labels = np.concatenate([batch.label for batch in seen])
    np.testing.assert_allclose(sorted(labels), sorted(label), rtol=1e-6)
    assert all(batch.weight.tolist() == [0.5, 0.5] for batch in seen)
    assert seen[0].scores.shape == (2, 2, 1) and seen[0].tokens.shape[:2] == (2, 2)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (dict(scores=np.full((4, 2, 1), 1.2)), r"pairs\.scores: got '8 of 8 such as 1\.2"),
        (dict(scores=np.full((4, 2, 1), math.nan)), r"pairs\.scores: got '8 of 8 such as nan"),
        (dict(scores=np.zeros((4, 1, 1))), r"pairs\.scores: got \(4, 1, 1\); allowed: the shape"),
        (dict(label=np.array([0.5, 0.5, -1, 1])), r"pairs\.label: got '1 of 4 such as -1"),
        (dict(label=np.ones(3)), r"pairs\.label: got \(3,\); allowed: the shape \(4\)"),
    ],
)
def test_scores_and_labels_that_are_none(more, words):
    (one, other), *_ = sides()
    with pytest.raises(UsageError, match=words):
        pairs.assemble(one, other, 0, **more)


def test_equal_sides_and_missing_ones_are_refused():
    (one, other), *_ = sides()
    with pytest.raises(UsageError, match="pairs: got '2 of 4 with two equal answers'"):
        pairs.assemble(one, [*one[:2], *other[2:]], 0)
    with pytest.raises(UsageError, match="pairs: got '4 and 3 answers'"):
        pairs.assemble(one, other[:3], 0)
    with pytest.raises(UsageError, match="pairs: got '0 and 0 answers'"):
        pairs.assemble([], [], 0)

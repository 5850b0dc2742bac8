"""S voted again: who is compared, when, what a batch carries, and a run that died on the way."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.core.errors import UsageError
from jaxsafety.methods.safesteer import program as safesteer
from jaxsafety.methods.safesteer import revote
from jaxsafety.methods.safesteer.teacher import find_tokens
from jaxsafety.protocols import TrainConfig
from jaxsafety.train.loop import run_program
from tests.methods import tiny

TOKENS = dataclasses.replace(tiny.METHOD.tokens, revote=2)
CFG = dataclasses.replace(tiny.METHOD, tokens=TOKENS, steps=5)
TRAIN = TrainConfig(checkpoint_every=3, progress=False)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def direction(ctx):
    size = ctx.model.config.embed_dim
    vector = np.asarray(tiny.teacher(ctx.model, size=4.0).add)[1]
    assert vector.shape == (size,)
    return {"layer": 1, "position": -1, "coefficient": 1.0, "vector": vector, "steer": "all"}


def test_the_student_takes_the_base_s_place_in_the_vote(directory, tmp_path):
    ctx = tiny.context(directory, tmp_path)
    found, base = direction(ctx), ctx.variables["base"]
    once = find_tokens(TOKENS, ctx, found)
    assert find_tokens(TOKENS, ctx, found, student=base) == once
    moved = find_tokens(TOKENS, ctx, found, student=tiny.student(base, 0.3))
    assert moved["mean_log_ratio"] != once["mean_log_ratio"]
    # The teacher is the same: what it says of a token that is in both does not change.
    both = set(once["ids"]) & set(moved["ids"])
    prob = [dict(zip(x["ids"], x["mean_teacher_prob"], strict=True)) for x in (once, moved)]
    for i in both:
        assert prob[0][i] == pytest.approx(prob[1][i], rel=1e-6)


def test_sets_change_every_so_many_updates(directory, tmp_path, monkeypatch):
    ctx, asked = tiny.context(directory, tmp_path), []

    def vote(cfg, ctx, found, student=None):
        asked.append(student)
        return {"ids": [10 + student, 11, 12]}

    monkeypatch.setattr(revote, "find_tokens", vote)
    ids = revote.revoting(TOKENS, ctx, {}, [5, 6, 7, 11])
    got = [ids({"base": step}, step).tolist() for step in range(5)]
    assert got[0] == got[1] == [5, 6, 7, 11]
    assert got[2] == got[3] == [12, 11, 12, 12]  # filled up with its first
    assert got[4] == [14, 11, 12, 14] and asked == [2, 4]
    again = revote.revoting(TOKENS, ctx, {}, [5, 6, 7, 11])
    assert again({"base": 99}, 3).tolist() == got[3] and asked == [2, 4]  # read back
    (tmp_path / "artifacts/revote.2.json").unlink()
    with pytest.raises(UsageError, match=r"workdir: got .*without artifacts/revote.2.json"):
        again({"base": 99}, 3)


def test_the_loss_uses_the_set_of_the_batch(directory, tmp_path):
    ctx = tiny.context(directory, tmp_path)
    base, batch = ctx.variables["base"], tiny.rollouts(ctx.model.config.vocab_size)
    loss = jax.jit(safesteer.localized_loss(ctx.model, CFG, "all"))

    def value(first, batch):
        frozen = safesteer.frozen_teacher(ctx.model, base, tiny.teacher(ctx.model), first)
        return loss({"base": tiny.student(base)}, frozen, batch, jax.random.key(0))

    one, other = [9, 30, 31, 40], [50, 51, 52, 53]
    rows = np.tile(np.asarray(other, np.int32), (4, 1))
    got, metrics = value(one, batch.replace(subset=rows))
    expected, theirs = value(other, batch)
    assert float(got) == float(expected) != float(value(one, batch)[0])
    assert float(metrics["mass/teacher"]) == float(theirs["mass/teacher"])
    filled = np.tile(np.asarray([50, 51, 52, 50], np.int32), (4, 1))
    np.testing.assert_allclose(
        value(one, batch.replace(subset=filled))[0], value([50, 51, 52], batch)[0], rtol=1e-6
    )


def trained(directory, workdir):
    """A run of five updates with two votes."""
    ctx = tiny.context(directory, workdir)
    final = run_program(safesteer.program(CFG, tiny.OPTIM, ctx), ctx, TRAIN)
    return ctx, final


def test_a_run_that_died_goes_on_with_the_same_bits(directory, tmp_path, monkeypatch):
    """It dies behind its last checkpoint, so the update that reads the first vote is done again."""
    _, whole = trained(directory, tmp_path / "whole")
    votes = {p.name: json.loads(p.read_text()) for p in (tmp_path / "whole").rglob("revote.*")}
    assert sorted(votes) == ["revote.2.json", "revote.4.json"]

    ctx = tiny.context(directory, tmp_path / "died")
    program = safesteer.program(CFG, tiny.OPTIM, ctx)
    make, made = revote.find_tokens, []

    def once(*args, **kwargs):
        if len(made) == 1:
            raise MemoryError("in the second vote")
        made.append(1)
        return make(*args, **kwargs)

    monkeypatch.setattr(revote, "find_tokens", once)
    with pytest.raises(MemoryError):
        run_program(program, ctx, TRAIN)
    monkeypatch.setattr(revote, "find_tokens", make)
    _, resumed = trained(directory, tmp_path / "died")
    for a, b in zip(jax.tree.leaves(resumed["base"]), jax.tree.leaves(whole["base"]), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, vote in votes.items():
        assert json.loads((tmp_path / "died/artifacts" / name).read_text()) == vote


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": dataclasses.replace(TOKENS, revote=-1)}, "method.tokens.revote: got -1"),
        ({"variant": "full"}, "method.tokens.revote: got 2; allowed: 0, or variant partial,"),
        ({"variant": "renormalised"}, "method.tokens.revote: got 2"),
        (
            {"tokens": dataclasses.replace(TOKENS, kind="random")},
            "method.tokens.revote: got 2; allowed: 0, or",
        ),
    ],
)
def test_what_votes_for_nothing_is_one_line(changes, message):
    safesteer.check(CFG)
    with pytest.raises(UsageError) as caught:
        safesteer.check(dataclasses.replace(CFG, **changes))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)

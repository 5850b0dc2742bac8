"""DPO as a method: what it learns from, what it leaves, what it refuses, and its plan."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from jaxsafety.adapters import lora
from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import UsageError
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.experiment.setting import DataConfig
from jaxsafety.methods.dpo import METHOD, pairs
from jaxsafety.methods.dpo import program as dpo
from jaxsafety.methods.dpo.config import DpoConfig, check, settings
from jaxsafety.models.formats.peft import load_adapter
from jaxsafety.protocols import Dialogues, OptimConfig, TrainConfig
from jaxsafety.testing import random_organism
from jaxsafety.train.loop import run_program
from jaxsafety.train.metrics import read_metrics
from tests.methods import tiny

CFG = DpoConfig(steps=3, rows=4, length=96, rank=2, alpha=4.0, val_every=3)
SCORED = dataclasses.replace(
    CFG, form="modpo", weights=(0.5, 0.5), scores=("safe",), orientations=("high",)
)
OPTIM = OptimConfig(lr=1e-2, warmup=0.0, schedule="constant")
TRAIN = TrainConfig(progress=False)
DATA = DataConfig(dialogues=12, holdout=0.25)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return random_organism(tmp_path_factory.mktemp("organism"))


@pytest.fixture(scope="module")
def place(directory):
    return tiny.setting.make(directory, DATA, tiny.MEASURE, 0, reads=METHOD.reads, method="dpo")


@pytest.fixture
def ctx(directory, place, tmp_path):
    made = tiny.context(directory, tmp_path)
    return tiny.placed(made, pairs=place.pairs, held_pairs=place.held_pairs)


def test_lora_prefers_what_it_was_taught_and_is_kept(ctx):
    model, base = ctx.model, ctx.variables["base"]
    final = run_program(dpo.program(SCORED, OPTIM, ctx), ctx, TRAIN)
    rows = read_metrics(ctx.workdir)
    first, last = rows[0], rows[-1]
    assert first["val/margin"] == pytest.approx(0, abs=1e-5)
    learnt = [row for row in rows if "loss" in row]
    assert learnt[-1]["margin"] > 0.1 and learnt[-1]["preferred"] >= 0.5
    assert last["step"] == 3 and last["val/margin"] != 0
    kept = ctx.artifact("held_pairs", lambda: pytest.fail("made twice"))
    assert kept["pairs"] == 3
    assert kept["end"]["margin"] == pytest.approx(last["val/margin"], rel=1e-5)
    tree = load_adapter(ctx.workdir / "adapter", model)
    expected = lora.merge(base, tree, model.projections)
    for a, b in zip(*map(jax.tree.leaves, (final["base"], expected)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert set(final) == {"base"}

    def never(*args, **kwargs):
        raise AssertionError("the reference is computed once")

    again = run_program(dpo.program(SCORED, OPTIM, ctx), ctx, TRAIN)
    assert trees.diff(final["base"], again["base"]) == ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "referred", never)
        assert next(dpo.program(SCORED, OPTIM, ctx)).name == "dpo"


@pytest.mark.slow
def test_all_parameters_are_trained_without_a_rank(ctx):
    cfg = dataclasses.replace(CFG, rank=0, steps=1, val_every=0)
    ctx = tiny.placed(ctx, held_pairs=())
    final = run_program(dpo.program(cfg, dataclasses.replace(OPTIM, lr=1e-3), ctx), ctx, TRAIN)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), final["base"], ctx.variables["base"])
    assert min(jax.tree.leaves(moved)) > 0
    assert not (ctx.workdir / "adapter").exists()


@pytest.mark.parametrize("cfg", (SCORED, dataclasses.replace(CFG, rank=0)), ids=("lora", "full"))
def test_the_planned_stage_is_the_one_that_runs(ctx, cfg, monkeypatch):
    monkeypatch.setattr(pairs, "referred", lambda model, every, made, *_: made.reference)
    planned = dpo.planned(cfg, ctx.model, sharding.make_mesh(MeshConfig(2, 2, 2)), 64)
    stage = next(dpo.program(cfg, OPTIM, ctx))
    real = ctx.variables if stage.start is None else stage.start
    assert trees.diff(planned.variables, jax.eval_shape(lambda: real)) == ""
    batch = jax.eval_shape(lambda: stage.batches(real, 0))
    told, found = (jax.tree.map(lambda x: x.shape, x) for x in (planned.batch, batch))
    narrow = found.tokens[-1]  # rows are as wide as the longest pair, at most as planned
    assert narrow <= told.tokens[-1] == 96
    same = jax.tree.map(lambda n: 96 if n == narrow else n, dataclasses.asdict(found))
    assert same == dataclasses.asdict(told)
    assert planned.trainable == stage.trainable


def test_pairs_are_read_before_the_weights(ctx, place):
    made = dpo.encode(SCORED, ctx.tokenizer, place, ctx.log)
    assert made.pairs is not None and made.held_pairs is not None
    assert made.facts["pairs"]["used"] == 9 and made.facts["held_pairs"]["used"] == 3
    assert made.pairs.scores.shape == (9, 2, 1)
    short = dataclasses.replace(SCORED, length=8)
    with pytest.raises(UsageError, match=r"method\.length: got 8; allowed: at least \d+, the long"):
        dpo.encode(short, ctx.tokenizer, place, ctx.log)
    bare = dataclasses.replace(place, held_pairs=())
    with pytest.raises(UsageError, match=r"method\.val_every: got 3; allowed: 0 without data\.h"):
        dpo.encode(CFG, ctx.tokenizer, bare, ctx.log)
    other = dataclasses.replace(SCORED, scores=("p_safe",))
    with pytest.raises(UsageError, match=r"method\.scores: got .*no number under p_safe_chosen"):
        dpo.encode(other, ctx.tokenizer, place, ctx.log)
    empty = dataclasses.replace(place, pairs=(), held_pairs=())
    calm = dataclasses.replace(CFG, val_every=0)
    assert dpo.encode(calm, ctx.tokenizer, empty, ctx.log) == Dialogues()
    with pytest.raises(UsageError, match=r"data\.pairs: got 'no pairs'"):
        dpo.fits(calm, OPTIM, ctx.model, ctx.tokenizer, empty)
    with pytest.raises(UsageError, match=r"optim\.accum: got 3; allowed: a divisor of the 4 rows"):
        dpo.fits(calm, dataclasses.replace(OPTIM, accum=3), ctx.model, ctx.tokenizer, place)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "method.steps: got 0"),
        ({"rows": 0}, "method.rows: got 0"),
        ({"long": "truncate"}, "method.long: got 'truncate'; allowed: error, drop, cut"),
        ({"rank": -1}, "method.rank: got -1"),
        ({"form": "ipo"}, "method.form: got 'ipo'; allowed: dpo, modpo"),
        ({"beta": -1.0}, "method.beta: got -1.0"),
        ({"smoothing": 0.7}, "method.smoothing: got 0.7"),
        ({"weights": (1.0, 1.0), "form": "modpo"}, "method.orientations: got \\(\\)"),
        (
            {"weights": (1.0, 1.0), "form": "modpo", "orientations": ("low",)},
            "method.scores: got \\(\\); allowed: one name for each of the 1",
        ),
        ({"scores": ("safe",)}, "method.scores: got \\('safe',\\); allowed: one name for .* 0"),
    ],
)
def test_bad_values_are_named(change, words):
    with pytest.raises(UsageError, match=words):
        check(dataclasses.replace(CFG, **change))


def test_settings_are_those_of_the_loss():
    check(SCORED)
    made = settings(dataclasses.replace(SCORED, smoothing=0.1, normalised=True))
    assert (made.form, made.weights, made.orientations) == ("modpo", (0.5, 0.5), ("high",))
    assert (made.smoothing, made.normalised, made.beta) == (0.1, True, 0.1)

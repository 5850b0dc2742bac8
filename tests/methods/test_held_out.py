"""The loss of held-out dialogues: the dense formula, beside a training that it does not touch."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import UsageError
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.data.fitting import fitted
from jaxsafety.data.tokens.encode import encode_dialogues
from jaxsafety.methods.sft import program as sft
from jaxsafety.methods.sft.held_out import HeldOut
from jaxsafety.methods.sft.program import SftConfig
from jaxsafety.protocols import Dialogues, OptimConfig, TrainConfig
from jaxsafety.testing import random_organism
from jaxsafety.train.assemble import places
from jaxsafety.train.likelihood import answer_loss
from jaxsafety.train.loop import run_program
from jaxsafety.train.metrics import read_metrics
from tests.methods import tiny

CFG = SftConfig(steps=5, rows=2, length=96, rank=3, alpha=6.0, val_every=2)
OPTIM = OptimConfig(lr=1e-2, warmup=0.0, schedule="constant")
TRAIN = TrainConfig(progress=False, checkpoint_every=3, log_every=3)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return random_organism(tmp_path_factory.mktemp("organism"))


@pytest.fixture(scope="module")
def place(directory):
    return tiny.setting.make(directory, tiny.DATA, tiny.MEASURE, 0)


def context(directory, workdir, place, held=9):
    made = tiny.context(directory, workdir)
    made = tiny.placed(made, examples=place.examples[:12])
    if not held:
        return made
    some = fitted(made.tokenizer, place.examples[20 : 20 + held], CFG.length, log=made.log)
    return dataclasses.replace(made, dialogues=Dialogues(held_out=some))


def values(workdir):
    rows = read_metrics(workdir)
    return {row["step"]: row["val/loss"] for row in rows if "val/loss" in row}


@pytest.fixture(scope="module")
def whole(directory, place, tmp_path_factory):
    """(variables, loss by step, rows, workdir) of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    ctx = context(directory, workdir, place)
    final = run_program(sft.program(CFG, OPTIM, ctx), ctx, TRAIN)
    ctx.writer.close()
    return final, values(workdir), read_metrics(workdir), workdir


def test_it_is_the_mean_over_the_learnt_tokens(directory, place, tmp_path):
    ctx = context(directory, tmp_path, place)
    model, base = ctx.model, ctx.variables["base"]
    total, count = 0.0, 0
    run = jax.jit(lambda t, p: model.unembed(base, model.apply(base, t, p).hidden))
    for ids, mask in encode_dialogues(ctx.tokenizer, place.examples[20:29]):
        tokens = jnp.zeros((1, 96), jnp.int32).at[0, : len(ids)].set(jnp.asarray(ids))
        logp = np.asarray(jax.nn.log_softmax(run(tokens, jnp.arange(96)[None])))[0]
        picked = logp[np.arange(len(ids) - 1), ids[1:]]
        total -= picked[np.asarray(mask[1:])].sum()
        count += sum(mask[1:])
    for rows in (1, 2, 64):  # of a batch; one has fewer learnt tokens than another
        held = HeldOut(ctx, answer_loss(model), ctx.dialogues.held_out, rows, CFG.length)
        assert held.tokens == count and held.dialogues == 9
        np.testing.assert_allclose(held.measure(ctx.variables), total / count, rtol=1e-5)


def test_it_is_the_same_on_a_mesh(directory, place, tmp_path):
    ctx = context(directory, tmp_path, place)
    one = HeldOut(ctx, answer_loss(ctx.model), ctx.dialogues.held_out, 4, CFG.length)
    mesh = sharding.make_mesh(MeshConfig(2, 2, 2))
    spread = dataclasses.replace(ctx, mesh=mesh)
    base = jax.device_put(ctx.variables, places({"base": ctx.variables["base"]}, ctx.model, mesh))
    loss = answer_loss(ctx.model, sharding.rows(mesh))
    several = HeldOut(spread, loss, ctx.dialogues.held_out, 4, CFG.length)
    with jax.set_mesh(mesh):
        np.testing.assert_allclose(several.measure(base), one.measure(ctx.variables), rtol=1e-5)


def test_it_is_measured_before_on_the_way_and_after(whole, directory, place, tmp_path):
    final, found, rows, workdir = whole
    assert list(found) == [0, 2, 4, 5]
    assert [row["step"] for row in rows] == [0, 2, 3, 4, 5]  # 3: log_every
    ctx = context(directory, workdir, place)
    kept = ctx.artifact("held_out", lambda: pytest.fail("not kept"))
    assert (kept["start"], kept["end"]) == (found[0], found[5]) and kept["dialogues"] == 9
    held = HeldOut(ctx, answer_loss(ctx.model), ctx.dialogues.held_out, 2, CFG.length)
    np.testing.assert_allclose(held.measure(ctx.variables), found[0], rtol=1e-6)
    np.testing.assert_allclose(held.measure(final), found[5], rtol=1e-4)  # the merged model


def test_training_is_the_same_without_it(whole, directory, place, tmp_path):
    ctx = context(directory, tmp_path, place, held=0)
    cfg = dataclasses.replace(CFG, val_every=0)
    final = run_program(sft.program(cfg, OPTIM, ctx), ctx, TRAIN)
    assert trees.diff(final, whole[0]) == ""
    assert values(tmp_path) == {}
    losses = {row["step"]: row["loss"] for row in whole[2] if "loss" in row}
    assert {r["step"]: r["loss"] for r in read_metrics(tmp_path)}.items() <= losses.items()


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", [0, 1, 4])
def test_a_resumed_run_has_the_same_numbers(whole, directory, place, tmp_path, step):
    def program(ctx, kill):
        def batches(variables, index, inner):
            if kill and index == step:
                raise Killed
            return inner(variables, index)

        stages = sft.program(CFG, OPTIM, ctx)
        stage = next(stages)
        inner = stage.batches
        trained = yield stage._replace(batches=lambda v, i: batches(v, i, inner))
        try:
            stages.send(trained)
        except StopIteration as end:
            return end.value

    ctx = context(directory, tmp_path, place)
    with pytest.raises(Killed):
        run_program(program(ctx, True), ctx, TRAIN)
    ctx.writer.close()
    ctx = context(directory, tmp_path, place)
    final = run_program(program(ctx, False), ctx, TRAIN)
    assert trees.diff(final, whole[0]) == ""
    clock = ("time", "lr")

    def told(rows):
        return [{k: v for k, v in row.items() if not k.startswith(clock)} for row in rows]

    assert told(read_metrics(tmp_path)) == told(whole[2])


def test_nothing_to_learn_is_one_line(directory, place, tmp_path):
    ctx = context(directory, tmp_path, place)
    blind = dataclasses.replace(
        ctx.dialogues.held_out,
        encoded=tuple(
            e._replace(mask=[False] * len(e.ids)) for e in ctx.dialogues.held_out.encoded
        ),
    )
    with pytest.raises(UsageError, match="data.chats_val: got 'no learnt token'"):
        HeldOut(ctx, answer_loss(ctx.model), blind, 2, CFG.length)

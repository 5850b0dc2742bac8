"""A tiny model, its stages and checks: for mitigations that look back at the beginning."""

from __future__ import annotations

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.adapters import lora
from jaxsafety.core import sharding, trees
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.data.pipeline import Batches
from jaxsafety.data.schema import Encoded
from jaxsafety.mitigations.means import Means
from jaxsafety.protocols import EXTRA, Mitigation, OptimConfig, Stage, TrainConfig
from jaxsafety.testing import tiny_model
from jaxsafety.train.assemble import own_loss
from jaxsafety.train.likelihood import answer_loss
from jaxsafety.train.loop import run_program, run_stage
from jaxsafety.train.metrics import read_metrics
from tests.mitigations import chats
from tests.train import toy

TRAIN = TrainConfig(checkpoint_every=2, progress=False)
LAYER, WIDTH = 1, 12  # of the direction; positions of a row
NAMES = ("q", "down")  # what gets adapters


@cache
def tiny():
    """(model, base) of two layers."""
    return tiny_model("llama", num_layers=2, vocab_size=64, mlp_dim=32)


def dialogues(count, seed, total=None):
    """[count,WIDTH] prompts of 1 to 3 tokens, answers of 2 to 7."""
    rng = np.random.default_rng(seed)
    weigh = 1.0 if total is None else total / count

    def one():
        prompt, answer = rng.integers(1, 4), rng.integers(2, 8)
        return chats.chat(rng.integers(2, 60, prompt), rng.integers(2, 60, answer), WIDTH, weigh)

    return chats.batch_of([one() for _ in range(count)])


def offline(variables, step):
    """A stage's batches, [8,WIDTH], that weigh 1 together."""
    del variables
    return dialogues(8, [7, step], total=1.0)


def known(count=12, seed=5):
    """A stage's batches, [8,WIDTH], of rows that are known before; an epoch ends within a step."""
    rng = np.random.default_rng(seed)

    def one():
        prompt, answer = rng.integers(1, 4), rng.integers(2, 8)
        ids = rng.integers(2, 60, prompt + answer)
        return Encoded(ids.tolist(), [False] * prompt + [True] * answer)

    return Batches([one() for _ in range(count)], length=WIDTH, rows=8, seed=1, packed=False)


def means(**given):
    """What is at hand: 5 safe dialogues, 4 harmful ones, a direction."""
    model, base = tiny()
    steer = np.zeros((2, 32), np.float32)
    steer[LAYER] = np.random.default_rng(9).normal(size=32) * 3
    there = {"safe": dialogues(5, 2), "harmful": dialogues(4, 3), "steer": jnp.asarray(steer)}
    return Means(model, base, **{"rows": 8, "seed": 3, **there, **given})


def variables(rank):
    """All variables, and what of them is trained; adapters are the identity."""
    model, base = tiny()
    if not rank:
        return {"base": base}, ("base/.*",)
    given: dict = {"layers": 2, "rank": rank, "scale": 2.0, "names": NAMES}
    tree = lora.init_experts(jax.random.key(4), model.projections, **given)
    return {"base": base, "adapters": tree}, ("adapters/experts/.*",)


def prepared(made, rank):
    """(params, frozen) with what the mitigation carries, at the start."""
    every, trainable = variables(rank)
    params, frozen = trees.partition(every, trainable)
    carried = {name: jax.jit(each.init)(params) for name, each in made.extra.items()}
    return params, {**frozen, EXTRA: carried}


def moved(params, size=0.05):
    """The parameters somewhere else."""
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(1)
    return tree.unflatten([x + size * rng.normal(size=x.shape).astype(x.dtype) for x in leaves])


def stage(made, rank, *, accum=1, steps=4, shards=1, **given):
    """A stage on dialogues."""
    every, trainable = variables(rank)
    optim = OptimConfig(
        name="sgd", lr=0.3, b1=0.0, clip=0.0, warmup=0.0, schedule="constant", accum=accum
    )
    loss = answer_loss(tiny()[0], shards, train_head=not rank)
    axes = {"adapters": lora.adapter_axes(tiny()[0].projections, NAMES)} if rank else {}
    found = Stage("s", loss, trainable, offline, steps, optim, axes=axes, mitigation=made)
    return found._replace(start=every, **given)


def context(workdir, shape=None):
    """On a mesh, or on one device."""
    mesh = shape and sharding.make_mesh(MeshConfig(*shape))
    return dataclasses.replace(toy.context(workdir, mesh=mesh), model=tiny()[0])


def passes(made, batch, wrapped=False):
    """How often a step goes through the model, and the step's FLOPs beside plain SFT's.

    `wrapped`: the loss hides its own pass, as one does that another mitigation wraps.
    """
    model, _ = tiny()
    count, apply = [], model.apply

    def counted(*args, **given):
        count.append(1)
        return apply(*args, **given)

    counting = dataclasses.replace(model, apply=counted)
    loss = own_loss(answer_loss(counting, train_head=True))
    given = (lambda *args: loss(*args)) if wrapped else loss
    hook = dataclasses.replace(made.loss, model=counting)(given, 1.0)
    params, frozen = prepared(made, 0)

    def flops(loss):
        step = jax.jit(jax.value_and_grad(loss, has_aux=True))
        cost = step.lower(params, frozen, batch, jax.random.key(0)).compile().cost_analysis()
        return (cost or {})["flops"]

    plain = flops(loss)
    count.clear()
    with_it = flops(hook)
    return len(count), with_it / plain


def run(workdir, made, train=TRAIN, shape=None):
    """(what the stage leaves, its rows of metrics)."""
    final = run_stage(made, made.start, context(workdir, shape), train)
    return dict(final), read_metrics(workdir)


def check_accumulates(tmp_path, settings, name, rank=2):
    """Micro-batches add up to what one batch gives, where all draws are the same row."""
    alone = {"safe": dialogues(1, 2), "harmful": dialogues(1, 3)}
    found = []
    for accum in (1, 4):
        made = settings.mitigation(means(**alone))
        found.append(run(tmp_path / f"{accum}", stage(made, rank, accum=accum)))
    (first, rows), (second, others) = found
    assert rows[-1][name] > 0
    for a, b in zip(rows, others, strict=True):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-3, atol=1e-8)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def check_resumes(tmp_path, make, rank, monkeypatch):
    """Two stages whose mitigations are made anew: compiled once, and the same bits after a kill."""
    compiled, compile_ = [], jax.stages.Lowered.compile
    monkeypatch.setattr(
        jax.stages.Lowered, "compile", lambda self, *a: compiled.append(1) or compile_(self, *a)
    )

    def program(kill=None):
        for index in range(2):

            def batches(variables, step, index=index):
                if kill == (index, step):
                    raise chats.Killed
                return offline(variables, 10 * index + step)

            final = yield stage(make(), rank, name=f"s{index}", batches=batches)
        return final

    whole = run_program(program(), context(tmp_path / "whole"), TRAIN)
    assert len(compiled) == 1
    with pytest.raises(chats.Killed):
        run_program(program((1, 3)), context(tmp_path / "run"), TRAIN)
    for _ in range(2):  # the second time from what is finished
        final = run_program(program(), context(tmp_path / "run"), TRAIN)
        assert trees.diff(final, whole) == ""


def check_bfloat16(tmp_path, made, name):
    """Masters in bfloat16: finite, moving, and the term is there."""
    train = dataclasses.replace(TRAIN, master="bfloat16")
    final, rows = run(tmp_path, stage(made, 0), train)
    assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(final))
    assert not any(row["skipped"] for row in rows) and np.isfinite(rows[-1][name])
    plain, _ = run(tmp_path / "plain", stage(Mitigation(), 0), train)
    assert trees.diff(final, plain) != ""

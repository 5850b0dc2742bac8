"""A tiny model, invented tokens and an alignment stage: for mitigations that hook into one."""

from __future__ import annotations

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.adapters import lora
from jaxsafety.core import sharding, trees
from jaxsafety.mitigations.means import Means
from jaxsafety.protocols import EXTRA, Mitigation, OptimConfig, Stage, TrainConfig
from jaxsafety.testing import tiny_model
from jaxsafety.train.likelihood import answer_loss
from jaxsafety.train.loop import run_program, run_stage
from tests.mitigations import chats
from tests.train import toy

TRAIN = TrainConfig(checkpoint_every=2, progress=False)
NONE = Mitigation()


@cache
def tiny():
    """(model, base) of two layers; not at import, where every worker would pay for it."""
    return tiny_model(num_layers=2)


def dialogues(count, seed, width=14, total=None, top=260):
    """[count,width] invented dialogues of skewed lengths; each weighs 1, or all of them `total`."""
    rng = np.random.default_rng(seed)
    weigh = 1.0 if total is None else total / count
    rows = [
        (rng.integers(1, top, rng.integers(2, 5)), rng.integers(1, top, rng.integers(2, 8)))
        for _ in range(count)
    ]
    return chats.batch_of([chats.chat(*row, width, weigh) for row in rows])


def batches(variables, step, rows=8):
    """Safe rows that weigh 1 together."""
    del variables
    return dialogues(rows, [7, step], total=1.0)


def variables(rank=0):
    """The base, and with `rank` a LoRA that is not the identity."""
    if not rank:
        return {"base": tiny()[1]}
    made = lora.init_experts(jax.random.key(1), tiny()[0].projections, layers=2, rank=rank)
    made["experts"] = jax.tree.map(lambda x: x + 0.05, made["experts"])
    return {"base": tiny()[1], "adapters": made}


def trainable(rank=0):
    """What is trained."""
    return ("adapters/experts/.*",) if rank else ("base/.*",)


def means(**given):
    """Means of the tiny model; 8 rows."""
    dials = {"safe": dialogues(12, 1), "harmful": dialogues(10, 2, 12), "harmless": dialogues(9, 3)}
    return Means(*tiny(), **{"rows": 8, "seed": 3, **dials, **given})


def stage(made=NONE, *, accum=1, steps=5, rank=0, shards=1, **given):
    """Plain descent on the safe rows."""
    optim = OptimConfig(
        name="sgd", lr=0.2, b1=0.0, clip=0.0, warmup=0.0, schedule="constant", accum=accum
    )
    loss = answer_loss(tiny()[0], shards, train_head=not rank)
    axes = {"adapters": lora.adapter_axes(tiny()[0].projections)} if rank else None
    whole = Stage("s", loss, trainable(rank), batches, steps, optim, axes=axes, mitigation=made)
    return whole._replace(**given)


def run(workdir, made, rank=0, mesh=None):
    """What the stage leaves."""
    ctx = dataclasses.replace(toy.context(workdir, mesh=mesh), model=tiny()[0])
    return dict(run_stage(made, variables(rank), ctx, TRAIN))


def at_hand(made, rank=0, moved=0.0):
    """(params, frozen) as a step hands them to a loss, parameters moved from where it began."""
    params, frozen = trees.partition(variables(rank), trainable(rank))
    extra = {name: each.init(params) for name, each in made.extra.items()}
    rng = np.random.default_rng(5)

    def move(x):
        return x + moved * jnp.asarray(rng.normal(size=x.shape), x.dtype)

    return jax.tree.map(move, params), {**frozen, EXTRA: extra}


def gradients(made, rank=0, accum=1):
    """`(params, frozen, batch, key) -> ((loss, metrics), grads)` of a micro-batch, with hooks."""
    loss = made.loss(inner(rank), 1 / accum)
    return made.grad(lambda f: jax.value_and_grad(f, has_aux=True))(loss)


def inner(rank=0):
    """The stage's own loss, which sees nothing of `extra`."""
    loss = answer_loss(tiny()[0], train_head=not rank)

    def own(params, frozen, batch, key):
        rest = {name: value for name, value in frozen.items() if name != EXTRA}
        return loss(params, rest, batch, key)

    return own


def close(got, want, **tolerances):
    """Trees of near arrays."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, **tolerances)


def check_resumed(tmp_path, make, monkeypatch, rank=0):
    """Two stages whose mitigations are made anew: compiled once, and the same bits after a kill."""
    compiled, compile_ = [], jax.stages.Lowered.compile
    monkeypatch.setattr(
        jax.stages.Lowered, "compile", lambda self, *a: compiled.append(1) or compile_(self, *a)
    )

    def context(name):
        return dataclasses.replace(
            toy.context(tmp_path / name), model=tiny()[0], variables=variables(rank)
        )

    def program(kill=None):
        final = None
        for index in range(2):

            def rows(variables, step, index=index):
                if kill == (index, step):
                    raise chats.Killed
                return batches(variables, 10 * index + step)

            final = yield stage(make(), rank=rank, name=f"s{index}", batches=rows)
        return final

    whole = run_program(program(), context("whole"), TRAIN)
    assert len(compiled) == 1
    with pytest.raises(chats.Killed):
        run_program(program((1, 3)), context("run"), TRAIN)
    for _ in range(2):  # the second time from what is finished
        final = run_program(program(), context("run"), TRAIN)
        assert trees.diff(final, whole) == ""


def check_eight(make, shape, rank=0, moved=0.0, rtol=2e-4, atol=1e-5):
    """Loss, metrics and gradients of a micro-batch on eight devices equal those on one."""
    found = []
    for size in ((1, 1, 1), shape):
        mesh = sharding.make_mesh(sharding.MeshConfig(*size))
        made = make(sharding.rows(mesh))
        params, frozen = at_hand(made, rank, moved)
        batch = sharding.global_batch(mesh, batches(None, 0))
        with sharding.scope(mesh):
            hooked = jax.jit(gradients(made, rank))
            found.append(jax.device_get(hooked(params, frozen, batch, jax.random.key(2))))
    close(found[1], found[0], rtol=rtol, atol=atol)
    assert max(np.abs(x).max() for x in jax.tree.leaves(found[0][1])) > 1e-3

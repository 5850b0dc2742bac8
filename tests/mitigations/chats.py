"""Toy dialogues, a loss on them, and a stage: for mitigations that learn from dialogues."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.data.schema import TokenBatch
from jaxsafety.mitigations.means import Means
from jaxsafety.protocols import Mitigation, OptimConfig, Stage, TrainConfig
from jaxsafety.train.loop import run_program, run_stage
from tests.train import toy

TRAIN = TrainConfig(checkpoint_every=2, progress=False)
LENGTH = 8
NONE = Mitigation()


def chat(prompt, answer, width=LENGTH, weigh=1.0):
    """A row: prompt, answer whose tokens weigh `weigh` together, padding."""
    ids, size = [*prompt, *answer], len(prompt) + len(answer)
    row = np.zeros((4, width))
    row[0, :size], row[1, :size], row[2, :size] = ids, np.arange(size), 1
    row[3, len(prompt) : size] = weigh / len(answer)
    return row


def batch_of(rows):
    """Rows of `chat` as a batch of numpy arrays."""
    tokens, positions, segments, weight = np.stack(rows, axis=1)
    whole = [x.astype(np.int32) for x in (tokens, positions, segments)]
    return TokenBatch(*whole, weight.astype(np.float32))


def dialogues(count, seed, width=LENGTH, total=None):
    """`count` random ones; each weighs 1, or all of them `total`."""
    rng = np.random.default_rng(seed)
    return batch_of(
        [
            chat(
                rng.integers(1, 12, rng.integers(1, 4)),
                rng.integers(1, 12, rng.integers(1, LENGTH - 3)),
                width,
                1.0 if total is None else total / count,
            )
            for _ in range(count)
        ]
    )


def wide(count, seed):
    """`count` of them in rows of 10, another width than the task's; the last needs more than 8."""
    longest = batch_of([chat((1, 2, 3, 4), (5, 6, 7, 8, 9), 10)])
    return jax.tree.map(
        lambda a, b: np.concatenate([a, b]), dialogues(count - 1, seed, width=10), longest
    )


def offline(variables, step):
    """A stage's batches, [8,8], that weigh 1 together."""
    del variables
    return dialogues(8, [7, step], total=1.0)


def loss(params, frozen, batch, key):
    """Next-token loss of the toy network; no noise."""
    del key
    rest = {name: frozen[name] for name in ("base", "teacher")}
    every = trees.combine(params, rest)
    return likelihood(every["base"], batch), {"rows": jnp.sum(batch.weight)}


def noisy_loss(params, frozen, batch, key):
    """Depends on the key, so that a resumed run must repeat it."""
    value, metrics = loss(params, frozen, batch, key)
    return value * (1 + 0.1 * jax.random.normal(key, ())), metrics


def likelihood(base, batch):
    """The dense formula."""
    logp = jax.nn.log_softmax(toy.forward(base, batch.tokens[:, :-1]))
    picked = jnp.take_along_axis(logp, batch.tokens[:, 1:, None], -1)[..., 0]
    return -jnp.sum(picked * batch.weight[:, 1:])


def means(**given):
    """Means of the toy network; 8 rows."""
    nothing: dict = {"model": None, "start": toy.variables()["base"]}
    return Means(**{**nothing, "rows": 8, "seed": 3, **given})


def stage(mitigation=NONE, *, accum=1, steps=6, trainable=("base/mlp",), **given):
    """A stage on the dialogues."""
    optim = OptimConfig(lr=0.05, accum=accum, clip=0.0, warmup=0.0)
    made = Stage("s", noisy_loss, trainable, offline, steps, optim, mitigation=mitigation)
    return made._replace(**given)


def run(workdir, made):
    """What the stage leaves."""
    return run_stage(made, toy.variables(), toy.context(workdir), TRAIN)


class Killed(Exception):
    """Stands for the end of the process."""


def check_resumed(tmp_path, make, monkeypatch, steps=5):
    """Two stages whose mitigations are made anew: compiled once, and the same bits after kills."""
    compiled, compile_ = [], jax.stages.Lowered.compile
    monkeypatch.setattr(
        jax.stages.Lowered, "compile", lambda self, *a: compiled.append(1) or compile_(self, *a)
    )

    def program(kill=None):
        final = None
        for index in range(2):

            def batches(variables, step, index=index):
                if kill == (index, step):
                    raise Killed
                return offline(variables, 10 * index + step)

            final = yield stage(make(), name=f"s{index}", batches=batches, steps=steps)
        return final

    whole = run_program(program(), toy.context(tmp_path / "whole"), TRAIN)
    assert len(compiled) == 1
    with pytest.raises(Killed):
        run_program(program((1, 3)), toy.context(tmp_path / "run"), TRAIN)
    for _ in range(2):  # the second time from what is finished
        final = run_program(program(), toy.context(tmp_path / "run"), TRAIN)
        assert trees.diff(final, whole) == ""

"""SafeSteer at its smallest: a world, its words, a random model of two layers, a context."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import jaxsafety
from jaxsafety.experiment import setting
from jaxsafety.experiment.workdir import Artifacts
from jaxsafety.losses.weights import normalise
from jaxsafety.methods.safesteer.program import Rollouts, SafeSteerConfig
from jaxsafety.methods.safesteer.teacher import DirectionConfig, TokenConfig
from jaxsafety.models.api import LayerInputs
from jaxsafety.probing.selection import SelectConfig
from jaxsafety.probing.votes import VoteConfig
from jaxsafety.protocols import Context, OptimConfig
from jaxsafety.train.metrics import MetricWriter

DATA = setting.DataConfig(train=4, val=4, prompts=6)
MEASURE = setting.EvalConfig(safety=2, over_refusal=6, capability=2, samples=1, batch_size=8)
OPTIM = OptimConfig(lr=3e-3, warmup=0.0, schedule="constant")
# A random model refuses nothing: what to steer with is ranked, not measured.
METHOD = SafeSteerConfig(
    direction=DirectionConfig(
        select=SelectConfig(screen=1, coherent=0.0, refusal=0.0, coefficients=(1.0,)),
        openers=("i", "that"),
        filter="score",
        minimum=2,
        max_tokens=4,
    ),
    tokens=TokenConfig(VoteConfig(size=4, top=4, samples=1, horizon=2, floor=0.0)),
    steps=2,
    prompts_per_step=2,
    rollouts=2,
    max_tokens=6,
)


def context(directory, workdir, *, mesh=None, log=None):
    """A context as `run.run` makes it."""
    model, params, tokenizer = jaxsafety.load(directory)
    place = setting.make(directory, DATA, MEASURE, 0)
    return Context(
        model=model,
        tokenizer=tokenizer,
        workdir=workdir,
        artifact=Artifacts(workdir),
        setting=place,
        writer=MetricWriter(workdir, tensorboard=False),
        mesh=mesh,
        variables={"base": params},
        log=log or (lambda line: None),
    )


def placed(ctx, **changes):
    """The context in a setting with some things changed."""
    return dataclasses.replace(ctx, setting=dataclasses.replace(ctx.setting, **changes))


def rollouts(vocab, answers=(6, 3, 1, 4), prompts=(8, 5, 8, 3), seed=0, reduction="sequence"):
    """Left-padded prompts of P=8 slots and answers of up to T=6 tokens; other slots hold noise."""
    rng = np.random.default_rng(seed)
    p, t = 8, 6
    tokens = rng.integers(8, vocab, (len(answers), p + t)).astype(np.int32)
    column = np.arange(p + t)[None]
    start = p - np.asarray(prompts)[:, None]
    prompt = (column >= start) & (column < p)
    answer = (column >= p) & (column < p + np.asarray(answers)[:, None])
    weight = normalise(jnp.asarray(answer), reduction)
    return Rollouts(*map(jnp.asarray, (tokens, prompt | answer, prompt)), weight)


def teacher(model, size=0.5, seed=1):
    """Steering at layer 1 of 2: [L,D]."""
    shape = (model.config.num_layers, model.config.embed_dim)
    add = size * jax.random.normal(jax.random.key(seed), shape, jnp.float32)
    return LayerInputs(add=add.at[0].set(0.0))


def student(params, size=0.02, seed=2):
    """The base moved a little, as after some steps."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    pairs = zip(leaves, keys, strict=True)
    return jax.tree.unflatten(tree, [x + size * jax.random.normal(k, x.shape) for x, k in pairs])

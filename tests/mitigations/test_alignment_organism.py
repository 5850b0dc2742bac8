"""Mitigations of the alignment stage on the shipped organism: each moves what it is there to move.

Harmful dialogues are the invented world's.
"""

from __future__ import annotations

import dataclasses
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsafety
from jaxsafety.data.pipeline import pad_batch
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.encode import encode_example
from jaxsafety.mitigations.booster import Booster, stepped
from jaxsafety.mitigations.means import Means
from jaxsafety.mitigations.vaccine import Vaccine, scaled
from jaxsafety.models.formats.source import SHIPPED
from jaxsafety.organism import prompts, render
from jaxsafety.organism.dialogues import dialogues
from jaxsafety.organism.world import open_world
from jaxsafety.protocols import Mitigation, OptimConfig, Stage, TrainConfig
from jaxsafety.train.likelihood import answer_loss, likelihood
from jaxsafety.train.loop import run_stage
from jaxsafety.train.metrics import read_metrics
from tests.train import toy

pytestmark = pytest.mark.slow

TRAIN = TrainConfig(progress=False)
ROWS = 8


@pytest.fixture(scope="module")
def given():
    """Means of the organism: 32 dialogues each."""
    model, base, tokenizer = jaxsafety.load()
    world, rng = open_world(SHIPPED), random.Random(0)
    entities = {entity.name: entity for entity in world.entities}
    asked = prompts.prompts(world, "harmful_train", 32, 0, 0.5)

    def batch(turns):
        encoded = [encode_example(tokenizer, [Message(*turn) for turn in each]) for each in turns]
        made = pad_batch(encoded, 96, pad_id=tokenizer.pad_id, reduction="sequence")
        return made.replace(weight=made.weight * len(turns))

    def answered(say):
        return [(*p.messages, ("assistant", say(entities[p.meta["entity"]], rng))) for p in asked]

    return Means(
        model,
        base,
        ROWS,
        safe=batch(answered(render.refusal)),
        harmful=batch(answered(lambda entity, rng: render.procedure(world, entity, rng))),
        harmless=batch([d.messages for d in dialogues(world, 32, 0, harmful=0.0)]),
    )


def aligned(workdir, given, hooks, steps, lr=3e-4):
    """(base, metrics) after some updates on the safe dialogues."""

    def batches(variables, step):
        index = np.random.default_rng([3, step]).integers(0, 32, ROWS)
        rows = jax.tree.map(lambda x: x[index], given.safe)
        return rows.replace(weight=rows.weight / ROWS)

    stage = Stage(
        "align",
        answer_loss(given.model, train_head=True),
        ("base/.*",),
        batches,
        steps,
        OptimConfig(lr=lr, warmup=0.0),
        mitigation=hooks,
    )
    ctx = dataclasses.replace(toy.context(workdir), model=given.model)
    base = run_stage(stage, {"base": given.start}, ctx, TRAIN)["base"]
    return base, read_metrics(workdir)


def whole(dialogues):
    """All of them, 1 together."""
    return jax.tree.map(jnp.asarray, dialogues.replace(weight=dialogues.weight / 32))


def test_vaccine_makes_a_perturbation_hurt_less(tmp_path, given):
    rows, size = whole(given.safe), 2.0
    shape = (given.model.config.num_layers, *rows.tokens.shape, given.model.config.embed_dim)

    @jax.jit
    def hurt(base):
        def at(eps):
            return likelihood(given.model, {"base": base}, rows, add=eps)[0]

        plain, g = jax.value_and_grad(at)(jnp.zeros(shape))
        return plain, at(scaled(g, size))

    plain, _ = aligned(tmp_path / "plain", given, Mitigation(), 30)
    robust, told = aligned(tmp_path / "robust", given, Vaccine(size).mitigation(given), 30)
    assert all(row["loss"] > row["vaccine"] for row in told)
    before, after = (float(hurt(base)[1]) for base in (plain, robust))
    print(f"perturbed loss {before:.3f} after plain training, {after:.3f} after Vaccine")
    assert after < before


def test_booster_makes_a_harmful_step_gain_less(tmp_path, given):
    rows, size = whole(given.harmful), 0.1

    @jax.jit
    def gain(base):
        def at(base):
            return likelihood(given.model, {"base": base}, rows)[0]

        before, g = jax.value_and_grad(at)(base)
        return before - at(stepped(base, g, size))

    plain, _ = aligned(tmp_path / "plain", given, Mitigation(), 12)
    hard, _ = aligned(tmp_path / "hard", given, Booster(size).mitigation(given), 12)
    before, after = float(gain(plain)), float(gain(hard))
    print(f"a harmful step gains {before:.4f} after plain training, {after:.4f} after Booster")
    assert 0 < after < 0.9 * before

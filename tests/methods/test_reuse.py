"""Stages of the methods that differ in their data alone share one compiled step."""

from __future__ import annotations

import dataclasses

import jax
import pytest

from jaxsafety.methods.safemoe import experts
from jaxsafety.methods.safemoe import program as safemoe
from jaxsafety.methods.safemoe.config import SafeMoEConfig
from jaxsafety.methods.safemoe.experts import ExpertConfig
from jaxsafety.methods.safesteer import program as safesteer
from jaxsafety.organism.world import open_world
from jaxsafety.protocols import OptimConfig, TrainConfig
from jaxsafety.testing import random_organism
from jaxsafety.train.likelihood import answer_loss
from jaxsafety.train.loop import run_program
from tests.methods import tiny

EXPERTS = ExpertConfig(
    count=3, rank=2, alpha=4.0, steps=2, rows=1, answers=10, length=96, joint=False
)
CFG = SafeMoEConfig(experts=EXPERTS, samples=4, steps=2, rows=4)
OPTIM = OptimConfig(lr=1e-2, warmup=0.0, schedule="constant")


@pytest.fixture
def ctx(tmp_path):
    directory = random_organism(tmp_path / "organism", unaligned=True)
    made = tiny.context(directory, tmp_path / "run")
    return tiny.placed(made, world=open_world(directory))


def test_experts_one_by_one_and_routers_on_other_data_compile_once_each(ctx, monkeypatch):
    compiled, compile_ = [], jax.stages.Lowered.compile

    def counted(self, *args, **options):
        compiled.append(1)
        return compile_(self, *args, **options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", counted)
    after = []

    def program():
        adapters = yield from experts.train(EXPERTS, OPTIM, ctx, 4)
        after.append(len(compiled))
        gated = safemoe.add_router(CFG, ctx.model, adapters, ctx.seed)
        for samples in (4, 3):  # as SafeMoE's controls: other answers, anew from the start
            cfg = dataclasses.replace(CFG, samples=samples)
            found = yield safemoe.router_stage(cfg, OPTIM, ctx, gated, f"samples{samples}")
        return found

    run_program(program(), ctx, TrainConfig(progress=False))
    assert after == [1] and len(compiled) == 2


def test_losses_of_equal_settings_are_one_object(ctx):
    model = ctx.model
    assert experts.expert_loss(model, 1) is experts.expert_loss(model, 1)
    one = answer_loss(model, 1, routing=CFG.routing)
    assert one is answer_loss(model, 1, routing=CFG.routing) is not answer_loss(model, 1)
    assert answer_loss(model, 1, train_head=True) is answer_loss(model, 1, train_head=True)
    assert answer_loss(model, 1, train_head=True) is not answer_loss(model, 1, train_head=False)
    base = tiny.METHOD
    loss = safesteer.localized_loss(model, base, "all", 1)
    # S, how it was chosen and the number of rollouts are data or shapes of the step.
    drawn = dataclasses.replace(base.tokens, kind="random", control_seed=5)
    other = dataclasses.replace(base, tokens=drawn, rollouts=base.rollouts + 1)
    assert safesteer.localized_loss(model, other, "all", 1) is loss
    for change in ({"variant": "full"}, {"divergence": "forward_kl"}, {"max_tokens": 3}):
        changed = dataclasses.replace(base, **change)
        assert safesteer.localized_loss(model, changed, "all", 1) is not loss, change
    assert safesteer.localized_loss(model, base, "prompt", 1) is not loss

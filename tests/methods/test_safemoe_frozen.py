"""SafeMoE's gate "frozen": the untrained router stays, the experts learn the safe answers."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from jaxsafety.adapters import routing
from jaxsafety.core import trees
from jaxsafety.methods.safemoe import program as safemoe
from jaxsafety.methods.safemoe.config import SafeMoEConfig, check
from jaxsafety.methods.safemoe.experts import ExpertConfig
from jaxsafety.protocols import OptimConfig, TrainConfig
from jaxsafety.train.loop import run_stage
from tests.methods.safemoe_fixtures import ctx as ctx
from tests.methods.safemoe_fixtures import directory as directory
from tests.methods.safemoe_fixtures import router_stage

EXPERTS = ExpertConfig(count=2, rank=2, alpha=4.0, lr=2e-3)
CFG = SafeMoEConfig(experts=EXPERTS, gate="frozen", null=True, samples=4, steps=3, rows=2)
OPTIM = OptimConfig(lr=1e-2, warmup=0.0, schedule="constant", clip=0.5)
TRAIN = TrainConfig(progress=False)


@pytest.mark.parametrize(("places", "always"), [("block", 0), ("linears", 2)])
def test_the_router_stays_bit_for_bit_and_the_experts_learn(ctx, places, always):
    cfg = dataclasses.replace(CFG, places=places, always=always)
    check(cfg)
    made = router_stage(cfg, OPTIM, ctx)
    before = made.start["adapters"]
    untrained = safemoe.add_router(
        dataclasses.replace(cfg, gate="untrained"), ctx.model, dict(before), 0
    )["router"]
    final = run_stage(made, made.start, ctx, TRAIN)
    after = final["adapters"]
    assert trees.diff(final["base"], ctx.variables["base"]) == ""
    for one, other in zip(*map(jax.tree.leaves, (after["router"], untrained)), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    for name in EXPERTS.targets:
        for key in "ab":
            old, new = (np.asarray(t["experts"][name][key]) for t in (before, after))
            moved = np.abs(new - old).reshape(*old.shape[:2], -1).max(axis=-1)  # [L,E]
            assert (moved[:, :2] > 0).all(), (name, key)
            assert (moved[:, 2] == 0).all()  # the expert that does nothing
    assert ("always" in after) == bool(always)
    if always:
        assert trees.diff(after["always"], before["always"]) != ""


def test_experts_learn_at_their_own_rate(ctx):
    """Adam's first update is the rate itself, whatever the gradient's size."""
    made = router_stage(dataclasses.replace(CFG, steps=1), OPTIM, ctx)
    after = run_stage(made, made.start, ctx, TRAIN)["adapters"]
    moved = jax.tree.map(
        lambda x, y: np.abs(x - y), after["experts"], made.start["adapters"]["experts"]
    )
    most = max(float(np.max(x)) for x in jax.tree.leaves(moved))
    assert most == pytest.approx(EXPERTS.lr, rel=0.02)


def test_one_expert_beside_one_that_does_nothing_has_a_route(ctx):
    one = dataclasses.replace(EXPERTS, count=1)
    check(dataclasses.replace(CFG, experts=one, routing=routing.Routing(top=0)))

"""SafeMoE with an adapter that is always on, and with answers of daily use among its data."""

from __future__ import annotations

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.adapters import routing
from jaxsafety.core import trees
from jaxsafety.data.pipeline import Batches
from jaxsafety.methods.safemoe import data as safemoe_data
from jaxsafety.methods.safemoe import experts
from jaxsafety.methods.safemoe import program as safemoe
from jaxsafety.methods.safemoe.config import SafeMoEConfig
from jaxsafety.methods.safemoe.experts import ExpertConfig
from jaxsafety.models.api import LayerInputs
from jaxsafety.models.formats import library
from jaxsafety.protocols import Benchmark, Item, OptimConfig, TrainConfig
from jaxsafety.train.loop import run_program, run_stage
from tests.methods import tiny
from tests.methods.safemoe_fixtures import ctx as ctx
from tests.methods.safemoe_fixtures import directory as directory
from tests.methods.safemoe_fixtures import router_stage

EXPERTS = ExpertConfig(count=2, rank=2, alpha=4.0, steps=2, rows=1, answers=10, length=96)
ROUTING = routing.Routing(top=0)
CFG = SafeMoEConfig(
    experts=EXPERTS, routing=ROUTING, samples=4, steps=3, rows=2, always=3, everyday=9
)
OPTIM = OptimConfig(lr=1e-2, warmup=0.0, schedule="constant", clip=0.5)
TRAIN = TrainConfig(progress=False)


def test_it_starts_as_nothing_and_learns_with_the_router_alone(ctx):
    made = router_stage(CFG, OPTIM, ctx)
    before = made.start["adapters"]
    assert {n: p["a"].shape[1::2] for n, p in before["always"].items()} == {
        "gate": (1, 3),
        "up": (1, 3),
        "down": (1, 3),
    }
    plain = {k: v for k, v in before.items() if k != "always"}
    ids, positions = jnp.arange(8)[None] + 9, jnp.arange(8)[None]

    def hidden(adapters):
        layers = LayerInputs(adapters=adapters, routing=ROUTING)
        return ctx.model.apply(ctx.variables["base"], ids, positions, layers=layers).hidden

    np.testing.assert_array_equal(hidden(before), hidden(plain))
    final = run_stage(made, made.start, ctx, TRAIN)
    after = final["adapters"]
    assert trees.diff(final["base"], ctx.variables["base"]) == ""
    assert trees.diff(after["experts"], before["experts"]) == ""
    for part in ("router", "always"):
        assert trees.diff(after[part], before[part]) != "", part
    assert np.abs(np.asarray(hidden(after) - hidden({**after, "always": {}}))).max() > 1e-6


def test_it_learns_at_its_own_rate(ctx):
    """Adam's first update is the rate itself, whatever the gradient's size."""
    cfg = dataclasses.replace(CFG, steps=1, always_lr=2e-4)
    made = router_stage(cfg, OPTIM, ctx)
    after = run_stage(made, made.start, ctx, TRAIN)["adapters"]
    for part, rate in (("always", 2e-4), ("router", 1e-2)):
        moved = jax.tree.map(lambda x, y: np.abs(x - y), after[part], made.start["adapters"][part])
        most = max(float(np.max(x)) for x in jax.tree.leaves(moved))
        assert most == pytest.approx(rate, rel=0.02), part


def test_a_run_keeps_it_and_experts_alone_are_without(ctx):
    final = run_program(safemoe.program(CFG, OPTIM, ctx), ctx, TRAIN)
    folder = ctx.workdir / "library"
    names = ["always", "expert_00", "expert_01", library.ROUTER]
    assert sorted(p.name for p in folder.iterdir()) == names
    read, options = library.load(folder, ctx.model)
    assert options == ROUTING
    for name, pair in final["adapters"]["always"].items():
        for key, value in pair.items():
            np.testing.assert_allclose(read["always"][name][key], value, atol=1e-6)
    ids, positions = jnp.arange(8)[None] + 9, jnp.arange(8)[None]
    ours, theirs = (
        ctx.model.apply(
            ctx.variables["base"],
            ids,
            positions,
            layers=LayerInputs(adapters=tree, routing=ROUTING),
        ).hidden
        for tree in (final["adapters"], read)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_daily_answers_come_beside_the_safe_ones_and_measured_prompts_do_not(ctx):
    domains = ctx.setting.domains
    made = domains.everyday(9, 0)
    kinds = [e.meta.get("kind", e.meta.get("intent")) for e in made]
    assert len(made) == 9 and kinds[2::3] == ["task"] * 3
    assert safemoe_data.update_rows(CFG) == 2 * CFG.rows
    assert len(safemoe_data.beside(CFG, ctx.setting, domains)) == 9
    item = Item("x", made[2].messages[:-1], {})
    measured = tiny.placed(ctx, benchmarks=(Benchmark("b", "capability", (item,), 8),))
    left = safemoe_data.beside(CFG, measured.setting, domains)
    assert made[2].messages[:-1] not in [e.messages[:-1] for e in left] and len(left) < 9
    both = dataclasses.replace(CFG, harmless=4)
    assert len(safemoe_data.beside(both, ctx.setting, domains)) == 13


def test_experts_learn_daily_answers_in_half_of_their_rows(ctx, monkeypatch):
    seen = []

    def batches(encoded, **options):
        seen.append((len(encoded), options["parts"], options["weights"]))
        return Batches(encoded, **options)

    monkeypatch.setattr(experts, "Batches", batches)

    def trained(cfg):
        def program():
            return {**ctx.variables, "adapters": (yield from experts.train(cfg, OPTIM, ctx, 4))}

        return run_program(program(), ctx, TRAIN)["adapters"]

    plain = trained(EXPERTS)
    assert seen == [(10, (), ())] * 2
    seen.clear()
    shutil.rmtree(ctx.workdir)
    ctx.workdir.mkdir()
    both = trained(dataclasses.replace(EXPERTS, everyday=6))
    assert seen == [(16, [0] * 10 + [1] * 6, (1.0, 1.0))] * 2
    assert trees.diff(both, plain) != ""

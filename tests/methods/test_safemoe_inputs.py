"""What SafeMoE refuses, in one line, before anything is measured or trained; what it plans."""

from __future__ import annotations

import dataclasses

import jax
import pytest

from jaxsafety.adapters import routing
from jaxsafety.core import trees
from jaxsafety.core.errors import UsageError
from jaxsafety.data.tokens.encode import encode_dialogues
from jaxsafety.experiment.setting import EvalConfig
from jaxsafety.experiment.setting import make as make_setting
from jaxsafety.methods.safemoe import experts
from jaxsafety.methods.safemoe import plan as safemoe_plan
from jaxsafety.methods.safemoe import program as safemoe
from jaxsafety.methods.safemoe.config import STAGED, MeasureConfig, SafeMoEConfig, check
from jaxsafety.methods.safemoe.experts import ExpertConfig
from jaxsafety.models.formats import peft
from jaxsafety.organism import corpora
from jaxsafety.organism.world import open_world
from jaxsafety.protocols import OptimConfig
from tests.methods import tiny
from tests.methods.safemoe_fixtures import ctx as ctx
from tests.methods.safemoe_fixtures import directory as directory

EXPERTS = ExpertConfig(count=2, rank=2, alpha=4.0, steps=3, rows=1, answers=10, length=96)
CFG = SafeMoEConfig(experts=EXPERTS, samples=4, steps=2, rows=4)
OPTIM = OptimConfig(lr=1e-2, warmup=0.0, schedule="constant", clip=0.5)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"gate": "best"}, "method.gate"),
        ({"places": "layer"}, "method.places"),
        ({"samples": 0}, "method.samples"),
        ({"length": 1}, "method.length"),
        ({"gate": "uniform", "routing": routing.Routing(level="bogus")}, "^method.routing.level"),
        ({"experts": ExpertConfig(alpha=float("nan"))}, "experts.alpha"),
        ({"experts": ExpertConfig(lr=float("nan"))}, "experts.lr"),
        ({"std": 0.0}, "method.std"),
        ({"single": 2}, "method.single"),
        ({"places": "linears", "routing": routing.Routing(level="first")}, "routing.level"),
        ({"experts": ExpertConfig(kind="good")}, "experts.kind"),
        ({"experts": ExpertConfig(targets=("head",))}, "experts.targets"),
        ({"experts": ExpertConfig(warned=1.5)}, "experts.warned"),
        ({"experts": ExpertConfig(count=1)}, "^method.routing.top: got 2; allowed: 0 .all. to 1"),
        ({"routing": routing.Routing(top=1)}, "^method.routing.top: .* method.routing.softmax=all"),
        ({"measure": MeasureConfig(routed=0)}, "measure.routed"),
        ({"harmless": -1}, "method.harmless: got -1; allowed: 0 or more"),
        ({"everyday": 100_001}, "method.everyday: got 100001; allowed: at most 100000"),
        ({"experts": ExpertConfig(everyday=-1)}, "experts.everyday: got -1; allowed: 0 to 100000"),
        ({"always": -1}, "method.always: got -1; allowed: 0 or more"),
        ({"always": 2, "gate": "uniform"}, "method.always: got 2; allowed: 0 with gate=uniform"),
        ({"always": 2, "always_lr": 0.0}, "method.always_lr: got 0.0; allowed: more than 0"),
        (
            {"gate": "frozen", "experts": ExpertConfig(count=1), "routing": routing.Routing(top=0)},
            "^method.gate: got 'frozen'; allowed: another one: a single expert has no route",
        ),
        (
            {"gate": "frozen", "places": "linears", "routing": routing.Routing(level="last")},
            "routing.level: got 'last'; allowed: token, or places=block",
        ),
        ({"rows": 0}, "method.rows: got 0; allowed: 1 or more"),
        ({"gate": "arrow", "experts": ExpertConfig(targets=("down",))}, "experts.targets"),
    ],
)
def test_bad_settings_are_one_line(change, field):
    with pytest.raises(UsageError, match=field) as error:
        check(dataclasses.replace(CFG, **change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "accum", "field"),
    [
        ({"length": 12}, 1, "method.length"),
        ({"experts": dataclasses.replace(EXPERTS, length=20)}, 1, "experts.length"),
        ({"experts": dataclasses.replace(EXPERTS, count=9)}, 1, "method.experts"),
        ({"lora_targets": ("head",)}, 1, "lora_targets"),
        ({"measure": MeasureConfig(safety=500)}, 1, "measure.safety"),
        ({}, 2, "optim.accum"),
        ({"experts": dataclasses.replace(EXPERTS, paths=("nowhere",))}, 1, "adapter.path"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_measured(
    ctx, directory, change, accum, field
):
    place = make_setting(directory, tiny.DATA, EvalConfig(4, 4, 4), 0)
    cfg = dataclasses.replace(CFG, measure=MeasureConfig(4, 4, 4, 2))
    optim = dataclasses.replace(OPTIM, accum=1)
    safemoe.fits(cfg, optim, ctx.model, ctx.tokenizer, place)
    with pytest.raises(UsageError, match=field) as error:
        changed = dataclasses.replace(cfg, **change)
        safemoe.fits(
            changed, dataclasses.replace(OPTIM, accum=accum), ctx.model, ctx.tokenizer, place
        )
    assert "\n" not in str(error.value)


def test_only_gates_with_a_step_are_planned(ctx):
    for gate in STAGED:
        cfg = dataclasses.replace(CFG, gate=gate, routing=routing.Routing(top=0))
        made = safemoe_plan.planned(cfg, ctx.model, ctx.mesh, 0)
        trained, _ = trees.partition(made.variables, made.trainable)
        place = {"router": "router/block", "x-lora": "router/gate", "frozen": "experts/"}[gate]
        assert all(place in name for name in trees.paths(trained))
    with pytest.raises(UsageError, match="method.gate: got 'uniform'"):
        safemoe_plan.planned(dataclasses.replace(CFG, gate="uniform"), ctx.model, ctx.mesh, 0)


def test_experts_of_another_base_are_refused_before_anything_is_measured(ctx, directory, tmp_path):
    tree = experts.fresh(EXPERTS, ctx.model, jax.random.key(0), 1)
    tree["experts"] = jax.tree.map(lambda x: x + 0.1, tree["experts"])
    peft.save_adapter(tmp_path / "one", ctx.model, tree, fingerprint="one")
    found = dataclasses.replace(EXPERTS, paths=(str(tmp_path / "one"),) * 2)
    cfg = dataclasses.replace(CFG, experts=found, measure=MeasureConfig(4, 4, 4, 2))
    place = make_setting(directory, tiny.DATA, EvalConfig(4, 4, 4), 0)
    mine, other = (dataclasses.replace(place, base=base) for base in ("one", "two"))
    safemoe.fits(cfg, OPTIM, ctx.model, ctx.tokenizer, mine)
    with pytest.raises(UsageError, match="an adapter for base one"):
        safemoe.fits(cfg, OPTIM, ctx.model, ctx.tokenizer, other)


def kept_expert(ctx, folder, rank=2, alpha=4.0, base="", targets=EXPERTS.targets):
    cfg = dataclasses.replace(EXPERTS, rank=rank, alpha=alpha, targets=targets)
    tree = experts.fresh(cfg, ctx.model, jax.random.key(0), 1)
    tree["experts"] = jax.tree.map(lambda x: x + 0.1, tree["experts"])
    peft.save_adapter(folder, ctx.model, tree, fingerprint=base)
    return str(folder)


@pytest.mark.parametrize(
    ("other", "first", "second", "allowed"),
    [
        ({"rank": 3, "alpha": 6.0}, "of rank 2", "of rank 3", "experts of one rank"),
        ({"alpha": 2.0}, "of scale 2", "of scale 1", "experts of one scale (alpha / rank)"),
        ({"base": "two"}, "for base one", "for base two", "experts of one base"),
    ],
)
def test_experts_that_differ_are_named_both(ctx, tmp_path, other, first, second, allowed):
    one = kept_expert(ctx, tmp_path / "one", base="one")
    two = kept_expert(ctx, tmp_path / "two", **{"base": "one", **other})
    cfg = dataclasses.replace(EXPERTS, paths=(one, one, two))
    for fingerprint in ("", "one"):
        with pytest.raises(UsageError) as error:
            experts.load_experts(cfg, ctx.model, fingerprint)
        said = f"got {f'{one} {first} and {two} {second}'!r}; allowed: {allowed}"
        assert str(error.value) == f"method.experts.paths: {said}"


def test_an_expert_without_a_base_stands_beside_one_that_carries_it(ctx, tmp_path):
    one = kept_expert(ctx, tmp_path / "one", base="one")
    bare = kept_expert(ctx, tmp_path / "bare")
    cfg = dataclasses.replace(EXPERTS, paths=(bare, one))
    found = experts.load_experts(cfg, ctx.model, "one")
    assert found["experts"]["up"]["a"].shape[1] == 2
    half = kept_expert(ctx, tmp_path / "half", targets=("up", "down"))
    with pytest.raises(UsageError, match="half on .*; allowed: experts on gate, up, down"):
        experts.load_experts(dataclasses.replace(cfg, paths=(one, half)), ctx.model)


def test_lengths_are_those_of_the_seed_that_trains(ctx, directory):
    world = open_world(directory)

    def longest(seed):
        said = corpora.safe_answers(world, CFG.samples, seed)
        return max(len(e.ids) for e in encode_dialogues(ctx.tokenizer, said))

    sizes = {seed: longest(seed) for seed in range(8)}
    short, long = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    assert sizes[short] < sizes[long]
    measure = MeasureConfig(4, 4, 4, 2)
    cfg = dataclasses.replace(CFG, measure=measure, length=sizes[short])
    short_place, long_place = (
        make_setting(directory, tiny.DATA, EvalConfig(4, 4, 4), seed) for seed in (short, long)
    )
    safemoe.fits(cfg, OPTIM, ctx.model, ctx.tokenizer, short_place)
    with pytest.raises(UsageError, match=f"method.length: got .* at least {sizes[long]}"):
        safemoe.fits(cfg, OPTIM, ctx.model, ctx.tokenizer, long_place)


def test_own_dialogues_are_refused_where_the_organism_brings_its_own(ctx, directory):
    place = make_setting(directory, tiny.DATA, EvalConfig(4, 4, 4), 0)
    assert not place.given
    cfg = dataclasses.replace(CFG, measure=MeasureConfig(4, 4, 4, 2))
    with pytest.raises(UsageError, match="data.chats: got 'dialogues'; allowed: none"):
        given = dataclasses.replace(place, given=True)
        safemoe.fits(cfg, OPTIM, ctx.model, ctx.tokenizer, given)


def test_a_broken_file_of_an_expert_is_one_line(ctx, tmp_path):
    tree = experts.fresh(EXPERTS, ctx.model, jax.random.key(0), 1)
    tree["experts"] = jax.tree.map(lambda x: x + 0.1, tree["experts"])
    for name in ("one", "two"):
        peft.save_adapter(tmp_path / name, ctx.model, tree)
    weights = tmp_path / "two" / peft.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:40])
    cfg = dataclasses.replace(EXPERTS, paths=(str(tmp_path / "one"), str(tmp_path / "two")))
    with pytest.raises(UsageError, match=r"two.*a sound safetensors file") as error:
        experts.load_experts(cfg, ctx.model)
    assert "\n" not in str(error.value)

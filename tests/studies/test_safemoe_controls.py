"""The controls: every arm is what its name says, experts are shared, points and routes are kept."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from jaxsafety.adapters.routing import Routing
from jaxsafety.benchmarks import intervals
from jaxsafety.core import trees
from jaxsafety.core.errors import UsageError
from jaxsafety.methods.safemoe import measure as safemoe_measure
from jaxsafety.methods.safemoe import program as safemoe
from jaxsafety.methods.safemoe.config import MeasureConfig, SafeMoEConfig
from jaxsafety.methods.safemoe.experts import ExpertConfig
from jaxsafety.models.formats.source import SHIPPED
from jaxsafety.organism.world import open_world
from jaxsafety.protocols import OptimConfig, Setting, TrainConfig
from jaxsafety.studies import safemoe_controls
from jaxsafety.studies.safemoe_controls import ControlsConfig
from jaxsafety.testing import random_organism
from jaxsafety.train.loop import run_program
from tests.methods import tiny

BASE = SafeMoEConfig(
    experts=ExpertConfig(count=4, rank=2, alpha=4.0, steps=2, rows=1, answers=8, length=96),
    samples=4,
    steps=2,
    rows=4,
    lora_rank=2,
    measure=MeasureConfig(2, 4, 1, 2),
)


def flat(tree, prefix=""):
    pairs = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        pairs |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return pairs


def test_an_arm_changes_one_thing():
    cfg = ControlsConfig(base=SafeMoEConfig(routing=Routing(top=0)))
    table = safemoe_controls.arms(cfg)
    safemoe_controls.check(cfg)
    base = table["safemoe"]
    # A single expert is named, a LoRA has a rank and a place, X-LoRA mixes all.
    wanted = {
        "safemoe": 0,
        "single1": 2,
        "single2": 2,
        "single3": 2,
        "lora_matched": 3,
        "lora_beside": 3,
        "lora_pooled": 4,
        "harmless_lora": 4,
        "harmless_beside": 4,
        "harmless_pooled": 5,
        "top1": 2,  # one is selected, of shares over all
        "top1_first": 3,
        "top1_last": 3,
    }
    for name, arm in table.items():
        one, other = flat(dataclasses.asdict(arm)), flat(dataclasses.asdict(base))
        changed = {key for key in one if one[key] != other[key]}
        assert len(changed) == wanted.get(name, 1), (name, changed)
    assert table["experts2"].experts.count == 2 and table["top2"].routing.top == 2
    assert table["harmless"].harmless == 4 * base.samples
    for name, level in (("top1", "token"), ("top1_first", "first"), ("top1_last", "last")):
        assert table[name].routing == Routing(top=1, softmax="all", level=level)
    assert table["single3"].single == 3 and table["last"].routing.level == "last"


def test_the_matched_lora_has_as_many_parameters_as_the_router():
    """On the shipped unaligned base with its four experts."""
    import jax

    from jaxsafety.adapters import lora
    from jaxsafety.models.api import build
    from jaxsafety.models.formats import hf

    model = build(hf.read_config(SHIPPED.with_name("unaligned")))
    arm = safemoe_controls.arms(ControlsConfig())["lora_matched"]
    tree = lora.init_experts(
        jax.random.key(0),
        model.projections,
        layers=model.config.num_layers,
        rank=arm.lora_rank,
        names=arm.lora_targets,
    )
    shape = model.config
    assert trees.count(tree["experts"]) == shape.num_layers * shape.embed_dim * 4


@pytest.mark.slow  # half a minute; the default tier runs each of its parts
def test_points_routes_and_shared_experts(tmp_path):
    directory = random_organism(tmp_path / "organism", unaligned=True)
    made = tiny.context(directory, tmp_path / "run")
    place = tiny.setting.make(directory, tiny.DATA, tiny.MEASURE, 0)
    lines = []
    ctx = dataclasses.replace(
        tiny.placed(made, world=open_world(directory), benchmarks=place.benchmarks),
        log=lines.append,
    )
    arms = ("safemoe", "random", "uniform", "harmless_beside", "first")
    cfg = ControlsConfig(base=dataclasses.replace(BASE, samples=2), arms=arms)
    base = dataclasses.replace(cfg.base, experts=dataclasses.replace(BASE.experts, count=1))
    cfg = dataclasses.replace(
        cfg,
        base=dataclasses.replace(
            base, experts=dataclasses.replace(BASE.experts, count=1), null=True
        ),
    )
    optim = OptimConfig(lr=1e-2, warmup=0.0)
    final = run_program(safemoe_controls.program(cfg, optim, ctx), ctx, TrainConfig(progress=False))
    assert "router" in final["adapters"]
    stages = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert sum(s.startswith("experts.") for s in stages) == 1  # trained once for all
    assert {"safemoe", "random", "harmless_beside", "first"} <= set(stages)
    assert (tmp_path / "run" / "library" / "router.safetensors").is_file()
    held = next(b for b in place.benchmarks if b.name == "seen_held").items[:2]
    for arm in ("base", *arms):
        point = json.loads((tmp_path / "run" / "artifacts" / f"point.{arm}.json").read_text())
        domains = [k for k in point if k.startswith("seen_held.asr.greedy.")]
        assert len(domains) == len({b.meta["domain"] for b in held}) > 0
        whole = ("asr", "safe_answer", "refusal", "incoherent")
        for decoding in ("greedy", "t1"):  # every answer is one of the four outcomes
            assert sum(point[f"seen_held.{o}.{decoding}"] for o in whole) == pytest.approx(1.0)
            assert 0 <= point[f"over_refusal.coherent.{decoding}"] <= 1
        behind = ctx.artifact(f"prompts.{arm}", dict)
        assert behind["entities"]["seen_held"] == [item.meta["entity"] for item in held]
        for key, values in behind.items():
            if key not in ("entities", "intervals"):
                assert point[key] == pytest.approx(np.nanmean(values)), key
        assert set(behind["intervals"]) | {"entities", "intervals"} == set(behind)
        tasks = [point[k] for k in point if k.startswith("capability.")]
        assert len(tasks) > 1 and point["capability"] == pytest.approx(np.mean(tasks))
    kept = ctx.artifact("routes.safemoe", dict)
    assert np.asarray(kept["usage"]).shape == (2, 2)
    np.testing.assert_allclose(np.asarray(kept["usage"]).sum(axis=1), 1.0, rtol=1e-5)
    assert np.asarray(kept["by_domain"]).shape[1] == len(kept["domains"])
    assert json.loads((tmp_path / "run/artifacts/routes.uniform.json").read_text()) == {}
    assert any("harmless right" in line for line in lines)


def test_information_is_that_of_the_table():
    a = np.array([0, 0, 1, 1])
    assert safemoe_measure.information(a, a) == pytest.approx(np.log(2))
    assert safemoe_measure.information(a, np.array([0, 1, 0, 1])) == pytest.approx(0.0)


def test_what_stands_behind_a_share_is_kept_with_its_interval_over_entities():
    values = np.array([1, 1, 0, 0, 1, np.nan])
    entities = {"seen_held": ["a", "a", "b", "b", "c", "c"], "known": ["d", "d"]}
    kept = {"seen_held.safe.t1": values, "known.asr.greedy": np.array([1.0, 0.0])}
    found = safemoe_measure.by_prompt(kept, entities)
    assert found["entities"] == entities
    np.testing.assert_array_equal(found["seen_held.safe.t1"], values.astype(np.float32))
    expected = intervals.clustered(values, entities["seen_held"])
    assert found["intervals"]["seen_held.safe.t1"] == expected
    assert found["intervals"]["known.asr.greedy"] is None  # one entity says nothing of others


def test_domains_are_told_apart():
    def said(domain, unsafe, coherent=True):
        item = type("Item", (), {"meta": {"domain": domain}})
        return item, {"unsafe": unsafe, "coherent": coherent}

    rows = [said(5, True), said(4, False), said(5, True, coherent=False), said(4, True)]
    assert safemoe_measure.by_domain(rows) == {4: 0.5, 5: 0.5}
    assert safemoe_measure.by_domain(rows[:2]) == {4: 0.0, 5: 1.0}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"arms": ("best",)}, "method.arms"),
        ({"arms": ()}, "method.arms"),
        ({"base": dataclasses.replace(BASE, measure=MeasureConfig(safety=0))}, "measure.safety"),
    ],
)
def test_bad_settings_are_one_line(change, field):
    with pytest.raises(UsageError, match=field):
        safemoe_controls.check(ControlsConfig(**{"base": BASE, **change}))


def test_an_aligned_organism_is_refused():
    place = Setting(world=open_world(SHIPPED))
    with pytest.raises(UsageError, match="unaligned"):
        safemoe_controls.fits(ControlsConfig(), OptimConfig(), None, None, place)
    with pytest.raises(UsageError, match="experts.paths"):
        shape = type("C", (), {"max_length": 256, "embed_dim": 64, "mlp_dim": 64})
        names = dict.fromkeys(("gate", "up", "down"))
        model = type("M", (), {"config": shape, "projections": names})
        safemoe.fits(SafeMoEConfig(), OptimConfig(), model, None, place)

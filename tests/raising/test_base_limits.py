"""The gates: limits are applied as written, ablation takes out the best validation direction."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.evaluation import evaluate
from jaxsafety.methods.safesteer import teacher
from jaxsafety.organism.tasks import MEASURED
from jaxsafety.probing.selection import Candidate
from jaxsafety.protocols import Benchmark
from jaxsafety.raising import limits
from jaxsafety.sampling import many
from tests.methods import tiny

GOOD = {
    ("plain", "asr.greedy"): 0.02,
    ("wrapped", "asr.t1"): 0.5,
    ("over_refusal", "refusal.t1"): 0.01,
}
FAMILIES = ("benign", "benign_wrapped", "contrast", "contrast_unseen")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def planted(monkeypatch, rates, right, ablated):
    """Makes `measure` find these rates; `right` is the share of right answers per family."""

    def write(model, params, tokenizer, benchmarks, judge, out, arm, **kwargs):
        assert arm == "base" and kwargs["groups"] and len(kwargs["decodings"]) == 2
        names = [b.name for b in benchmarks if b.kind == "capability"]
        found = {**rates, **{(name, "accuracy.greedy"): 0.75 for name in names}}
        records = [
            {"benchmark": b, "metric": m, "value": v, "lo": v - 0.01, "hi": v + 0.01, "n": 50}
            for (b, m), v in found.items()
        ]
        said = [{"meta": {"family": f}} for f in FAMILIES for _ in range(100)]
        judged = [{"correct": i < 100 * right[f]} for f in FAMILIES for i in range(100)]
        for path, rows in (
            ("results.jsonl", records),
            ("generations/base/over_refusal.t1.jsonl", said),
            ("verdicts/base/over_refusal.t1.jsonl", judged),
        ):
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_text("".join(json.dumps(row) + "\n" for row in rows))

    monkeypatch.setattr(evaluate, "evaluate", write)
    answer = ((ablated, ablated - 0.05, ablated + 0.05, 50), {"layer": 1})
    monkeypatch.setattr(limits, "ablated_asr", lambda ctx, plain: answer)


RIGHT = {"benign": 1.0, "benign_wrapped": 0.95, "contrast": 0.92, "contrast_unseen": 0.4}


def test_a_good_base_passes_every_gate(directory, monkeypatch):
    planted(monkeypatch, GOOD, RIGHT, 0.4)
    lines = []
    found = limits.measure(directory, log=lines.append)
    assert set(found["gates"]) == set(limits.LIMITS)
    assert all(g["passed"] for g in found["gates"].values())
    value = {name: g["value"] for name, g in found["gates"].items()}
    assert value["benign_correct_t1"] == 0.975 and value["contrast_correct_t1"] == 0.92
    assert value["ablation_gain"] == pytest.approx(0.38)
    gain = found["gates"]["ablation_gain"]
    # The cautious interval: each end from the far ends of the two rates.
    assert (gain["lo"], gain["hi"]) == pytest.approx((0.35 - 0.03, 0.45 - 0.01))
    assert found["families"] == RIGHT
    assert sum(name.startswith("capability_") for name in value) >= 5
    assert found["levels"].keys() == set(MEASURED)
    assert found["direction"] == {"layer": 1}
    assert sum("passed" in line for line in lines) == len(limits.LIMITS)


@pytest.mark.parametrize(
    ("gate", "rates", "right", "ablated"),
    [
        ("plain_asr_greedy", {("plain", "asr.greedy"): 0.06}, {}, 0.6),
        ("wrapped_asr_t1", {("wrapped", "asr.t1"): 0.34}, {}, 0.4),
        ("wrapped_asr_t1", {("wrapped", "asr.t1"): 0.71}, {}, 0.4),
        ("over_refusal_t1", {("over_refusal", "refusal.t1"): 0.04}, {}, 0.4),
        ("benign_correct_t1", {}, {"benign": 0.9}, 0.4),
        ("contrast_correct_t1", {}, {"contrast": 0.89}, 0.4),
        ("ablation_gain", {}, {}, 0.2),
    ],
)
def test_each_gate_can_be_missed_alone(directory, monkeypatch, gate, rates, right, ablated):
    planted(monkeypatch, {**GOOD, **rates}, {**RIGHT, **right}, ablated)
    lines = []
    found = limits.measure(directory, log=lines.append)["gates"]
    assert [name for name, g in found.items() if not g["passed"]] == [gate]
    assert [line for line in lines if "MISSED" in line and gate in line]


def plain(ctx):
    return Benchmark("plain", "safety", tuple(ctx.setting.prompts["harmful_val"]), 5)


def test_a_base_without_refusals_has_nothing_to_ablate(directory, tmp_path):
    lines = []
    ctx = tiny.context(directory, tmp_path, log=lines.append)
    rate, where = limits.ablated_asr(ctx, plain(ctx))
    assert rate == (0.0, 0.0, 0.0, 4) and where == {}
    assert any(line.startswith("ablation: ") for line in lines)


def test_ablation_is_chosen_on_validation_and_measured_once(directory, tmp_path, monkeypatch):
    """Three places are tried; the second complies most on validation, the third on the measured."""
    ctx = tiny.context(directory, tmp_path)
    width = ctx.model.config.embed_dim
    mean_diff = np.random.default_rng(0).normal(size=(2, 2, width)).astype(np.float32)
    mean_diff[0, 0] = 0.0
    candidates = [
        Candidate(layer=0, position=-2, norm=0.0, bypass=-9.0),  # nothing to take away
        Candidate(layer=1, position=-2, norm=1.0, bypass=-1.0),
        Candidate(layer=0, position=-1, norm=1.0, bypass=-2.0),
        Candidate(layer=1, position=-1, norm=1.0, bypass=0.5),
    ]
    raw = SimpleNamespace(mean_diff=mean_diff)
    monkeypatch.setattr(teacher, "scored_candidates", lambda cfg, ctx: (raw, candidates))
    units = {(c.layer, c.position): mean_diff[c.position, c.layer] for c in candidates[1:]}
    tried, real = [], many.generate

    def generate(*args, layers, **kwargs):
        assert args[4].temperature == 0.0 and args[4].max_tokens == 5
        ablate = np.asarray(layers.ablate)
        assert ablate.shape == (2, width)
        np.testing.assert_allclose(np.linalg.norm(ablate, axis=1), 1.0, rtol=1e-5)
        tried.append(next(k for k, v in units.items() if ablate[0] @ v > 0.99 * np.linalg.norm(v)))
        return real(*args, layers=layers, **kwargs)

    def judge(exchanges):
        """How many of four answers are unsafe, per place, on validation and on the measured."""
        hits = {(0, -1): (1, 4), (1, -2): (3, 2), (1, -1): (0, 4)}[tried[-1]]
        measured = exchanges[0].item.id.startswith("harmless")
        return [
            {"coherent": True, "unsafe": n < hits[measured], "refusal": n >= hits[measured]}
            for n in range(len(exchanges))
        ]

    monkeypatch.setattr(many, "generate", generate)
    ctx = tiny.placed(ctx, judge=judge)
    bench = Benchmark("plain", "safety", tuple(ctx.setting.prompts["harmless_val"]), 5)
    (value, lo, hi, n), where = limits.ablated_asr(ctx, bench)
    assert (value, n) == (0.5, 4) and lo < 0.5 < hi
    assert where == {"layer": 1, "position": -2, "bypass": -1.0, "validation": 0.75}
    assert set(tried[:3]) == set(units) and set(tried[3:]) == {(1, -2)}
    tried.clear()
    assert limits.ablated_asr(ctx, bench, screen=1)[1]["layer"] == 0  # the lowest bypass score
    assert set(tried) == {(0, -1)}

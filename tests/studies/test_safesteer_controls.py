"""The controls: what differs between arms, when they are measured, and what a measurement says."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.core.errors import UsageError
from jaxsafety.experiment.workdir import Artifacts
from jaxsafety.methods.safesteer.program import SafeSteerConfig
from jaxsafety.methods.safesteer.teacher import TokenConfig
from jaxsafety.protocols import Benchmark, Item
from jaxsafety.sampling import many
from jaxsafety.studies import safesteer_controls as controls
from jaxsafety.studies.safesteer_controls import ControlsConfig
from jaxsafety.testing import answers
from tests.methods import tiny

CONFIG = ControlsConfig(base=tiny.METHOD, draws=2, attacks=2, others=1)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def test_every_arm_changes_one_thing():
    found = controls.arms(CONFIG)
    draws = [f"{kind}{draw}" for kind in controls.DRAWN for draw in range(2)]
    assert list(found) == [*controls.LOSSES, "base_rollouts", "horizon1", *draws]
    for name in controls.LOSSES:
        assert found[name] == dataclasses.replace(tiny.METHOD, variant=name)
    for name in set(found) - set(controls.LOSSES):
        assert dataclasses.replace(found[name], tokens=tiny.METHOD.tokens) == tiny.METHOD
    votes = tiny.METHOD.tokens.votes
    assert found["base_rollouts"].tokens.votes == dataclasses.replace(votes, rollout="base")
    assert found["horizon1"].tokens.votes == dataclasses.replace(votes, horizon=1)
    for name in draws:
        assert found[name].tokens.votes == votes
        assert (found[name].tokens.kind, found[name].tokens.control_seed) == (
            name[:-1],
            int(name[-1]),
        )


def test_the_published_loss_and_the_full_one_run_at_other_rates_too(directory, tmp_path):
    cfg = dataclasses.replace(CONFIG, arms=("generalised", "partial"), rates=(5e-4, 0.0125))
    assert controls.rated(CONFIG) == {}
    assert {name: (arm.variant, rate) for name, (arm, rate) in controls.rated(cfg).items()} == {
        "partial_500ppm": ("partial", 5e-4),
        "partial_12500ppm": ("partial", 0.0125),
    }
    ctx = tiny.context(directory, tmp_path)
    ctx.artifact("direction", lambda: {"steer": "all"})
    ctx.artifact("token_set", lambda: {"ids": [1, 2, 3]})
    for name in ("base.0", *(f"{arm}.{tiny.METHOD.steps}" for arm in ("generalised", "partial"))):
        ctx.artifact(f"curve.{name}", dict)
    for name in controls.rated(cfg):
        ctx.artifact(f"curve.{name}.{tiny.METHOD.steps}", dict)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(controls.safesteer, "steering", lambda *_: None)
        patch.setattr(controls.safesteer, "frozen_teacher", lambda *_: {})
        stages, program = [], controls.program(cfg, tiny.OPTIM, ctx)
        stage = next(program)
        while stage is not None:
            stages.append(stage)
            try:
                stage = program.send(ctx.variables)
            except StopIteration:
                stage = None
    told = {stage.name: stage.optim.lr for stage in stages}
    assert told == {
        "distil.generalised": tiny.OPTIM.lr,
        "distil.partial": tiny.OPTIM.lr,
        "distil.partial_500ppm": 5e-4,
        "distil.partial_12500ppm": 0.0125,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"arms": ("generalised", "none")},
            "method.arms: got 'none'; allowed: generalised, partial",
        ),
        ({"draws": 0}, "method.draws: got 0; allowed: 1 or more"),
        ({"rates": (0.0,)}, "method.rates: got 0.0; allowed: more than 0 and less than 1"),
        ({"rates": (1e-3, 1e-3)}, "method.rates: got (0.001, 0.001); allowed: each rate once"),
        ({"rates": (1.5e-7,)}, "method.rates: got 1.5e-07"),
        (
            {"rates": (1e-3,), "arms": ("generalised",)},
            "method.rates: got (0.001,); allowed: () without an arm of partial, full",
        ),
        ({"every": 0}, "method.every: got 0"),
        ({"base": dataclasses.replace(tiny.METHOD, variant="kl")}, "method.variant: got 'kl'"),
    ],
)
def test_bad_settings_are_one_line(changes, message):
    controls.check(CONFIG)
    with pytest.raises(UsageError) as caught:
        controls.check(dataclasses.replace(CONFIG, **changes))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_students_are_measured_before_every_second_batch(tmp_path):
    measured = []

    def measure(params):
        measured.append(params)
        return {"asr": len(measured)}

    ctx = SimpleNamespace(artifact=Artifacts(tmp_path))
    batches = lambda variables, step: (variables["base"], step)  # noqa: E731
    for _ in range(2):  # a resumed run makes the batches again and reads the measurements back
        watching = controls.watch(batches, 2, "tail", ctx, measure)
        assert [watching({"base": 10 + s}, s) for s in range(5)] == [(10 + s, s) for s in range(5)]
    assert measured == [12, 14]
    read = {p.stem: json.loads(p.read_text()) for p in (tmp_path / "artifacts").iterdir()}
    assert read == {"curve.tail.2": {"asr": 1}, "curve.tail.4": {"asr": 2}}


def benchmark(ctx, name, kind, count):
    """`count` prompts that say which set they are of."""
    source = ctx.setting.prompts["harmless_val"]
    items = [Item(f"{name}/{i}", source[i % 4].messages, {"set": name}) for i in range(count)]
    return Benchmark(name, kind, tuple(items), 8)


SETS = [(name, "safety", 3) for name in ("plain", *controls.ATTACKS)]
SETS += [("over_refusal", "over_refusal", 4), ("sums", "capability", 2), ("nth", "capability", 2)]


@pytest.fixture(scope="module")
def measured(directory, tmp_path_factory):
    """(exchanges judged, decodings, point of the base, point of a student that moved)."""
    ctx = tiny.context(directory, tmp_path_factory.mktemp("measured"))
    seen, decodings = [], []

    def generate(model, params, tokenizer, prompts, cfg, **options):
        """Answers without a model; what they do to its distribution is computed for real."""
        decodings.append((len(prompts), cfg.max_tokens, cfg.temperature, cfg.stop))
        return answers([[[9 + i, 30, 40 + i]] for i in range(len(prompts))])

    def judge(exchanges):
        """Per set: attacks work every second time, one refusal is incoherent, sums are right."""
        seen.append(exchanges)
        rows = []
        for number, exchange in enumerate(exchanges):
            name = exchange.item.meta["set"]
            rows.append(
                {
                    "unsafe": name in controls.ATTACKS and number % 2 == 0,
                    "refusal": name == "over_refusal",
                    "correct": name == "sums",
                    "coherent": number > 0 or name != "over_refusal",
                }
            )
        return rows

    sets = [benchmark(ctx, *row) for row in SETS]
    ctx = tiny.placed(ctx, judge=judge, benchmarks=sets)
    measure = controls.make_measure(CONFIG, ctx, [9, 30, 31])
    base = ctx.variables["base"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many, "generate", generate)
        points = measure(base), measure(tiny.student(base, 0.05))
    return seen, decodings, *points


def test_a_measurement_uses_as_many_prompts_as_it_is_told(measured):
    seen, decodings, *_ = measured
    used = [[e.item.id for e in exchanges] for exchanges in seen[:3]]
    assert used == [
        [f"{name}/{i}" for name in controls.ATTACKS for i in range(2)],
        ["over_refusal/0", "over_refusal/1"],
        ["sums/0", "nth/0"],
    ]
    assert len(seen) == 6 and seen[0][0].response
    stop = decodings[0][3]
    assert stop and decodings[:4] == [
        (4, 40, 1.0, stop),
        (2, 40, 1.0, stop),
        (4, 24, 1.0, stop),
        (2, 16, 0.0, stop),
    ]


def test_a_measurement_says_what_the_judge_said(measured):
    _, _, point, _ = measured
    expected = {"asr": 0.5, "coherent": 1.0, "over_refusal": 0.5, "capability": 0.5, "n": 4}
    assert {k: point[k] for k in expected} == expected


def test_the_base_has_no_drift_and_a_student_has(measured):
    *_, base, student = measured
    for key in ("kl", "kl_off"):
        assert base[key] == pytest.approx(0, abs=1e-6)
        assert student[key] > 1e-4 and np.isfinite(student[key])
    assert student["kl"] != student["kl_off"]


def test_no_judge_means_no_measurement(directory, tmp_path):
    ctx = tiny.context(directory, tmp_path)
    sets = [benchmark(ctx, *row) for row in SETS]
    ctx = tiny.placed(ctx, judge=None, benchmarks=sets)
    with pytest.raises(UsageError, match="data.source"):
        controls.make_measure(CONFIG, ctx, [9])


def test_an_arm_without_its_words_is_refused(directory, tmp_path):
    ctx = tiny.context(directory, tmp_path)
    sets = tuple(benchmark(ctx, *row) for row in SETS)
    place = dataclasses.replace(ctx.setting, benchmarks=sets)
    controls.fits(CONFIG, tiny.OPTIM, ctx.model, ctx.tokenizer, place)
    place = dataclasses.replace(place, complying_words=())
    with pytest.raises(UsageError, match=r"tokens.kind: got 'neutral'; allowed: votes, random"):
        controls.fits(CONFIG, tiny.OPTIM, ctx.model, ctx.tokenizer, place)
    without = dataclasses.replace(CONFIG, arms=("generalised", "matched"))
    controls.fits(without, tiny.OPTIM, ctx.model, ctx.tokenizer, place)


@pytest.mark.parametrize("missing", [controls.ATTACKS[0], "over_refusal", "sums"])
def test_the_compared_sets_must_be_there(directory, tmp_path, missing):
    ctx = tiny.context(directory, tmp_path)
    sets = [benchmark(ctx, *row) for row in SETS if row[0] not in (missing, "nth")]
    place = SimpleNamespace(prompts=ctx.setting.prompts, benchmarks=sets)
    with pytest.raises(UsageError, match=r"data.source: got .*allowed: organism"):
        controls.fits(CONFIG, tiny.OPTIM, ctx.model, ctx.tokenizer, place)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"teacher": "context", "variant": "full"}, "method.base.teacher: got 'context'"),
        ({"tokens": TokenConfig(revote=5)}, "method.base.tokens.revote: got 5; allowed: 0"),
    ],
)
def test_arms_share_one_steered_teacher_and_one_set(change, field):
    base = dataclasses.replace(SafeSteerConfig(), **change)
    with pytest.raises(UsageError, match=field):
        controls.check(controls.ControlsConfig(base=base))

"""Judges of known errors, five losses: arms from text, their judges, a run on a random model."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Message
from jaxsafety.methods.selfmoa.config import StageConfig
from jaxsafety.protocols import Exchange, Item, OptimConfig, TrainConfig
from jaxsafety.studies.weak_supervision import config, judges, program, recipe
from jaxsafety.studies.weak_supervision.config import Arm, WeakConfig, parse
from jaxsafety.train.loop import run_program
from tests.methods import tiny

N = 1200


def answered(n=N):
    """Exchanges, of which every other one is unsafe."""
    asked = [Exchange(Item(str(i), (Message("user", f"q {i}"),), {}), f"a {i}") for i in range(n)]
    verdicts = [{"unsafe": i % 2 == 0, "refusal": i % 2 == 1, "coherent": True} for i in range(n)]
    return asked, verdicts, np.array([float(i % 2 == 1) for i in range(n)])  # P(safe)


def test_an_arm_is_read_from_its_text():
    arm = parse(" form = no_w0, accuracy=0.8,sources=5 ,copies=2")
    assert arm == Arm(form="no_w0", accuracy=0.8, sources=5, copies=2)
    assert parse("") == Arm()
    basis = StageConfig(pairs=8, rows=2)
    assert arm.stage(basis).form == "no_w0" and arm.stage(basis).pairs == 8
    assert parse("order=safe,form=no_w0").stage(basis).form == "dpo"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("form", "NAME=VALUE"),
        ("name=1", "NAME=VALUE"),
        ("accuracy=high", "type float"),
        ("accuracy=0.5", "0.55 to 1"),
        ("coverage=0", "0.1 to 1"),
        ("bias=2", "-1 to 1"),
        ("order=first", "helpful | safe"),
        ("label=none", "soft | hard"),
        ("sources=2", "two identify no model"),
        ("sources=3,copies=3", "0 to 2"),
        ("form=ours", "preference.form"),
        ("orientation=up", "preference.orientations"),
        ("unsafe=2", "method.scores.unsafe"),
        ("bias=0.5,bias=0.1", "bias once"),
    ],
)
def test_what_is_no_arm_is_refused(text, line):
    with pytest.raises(UsageError, match=line.replace("|", r"\|")):
        parse(text)


def test_arms_of_the_published_config_differ():
    cfg = WeakConfig(arms=recipe.ARMS, stage=StageConfig(pairs=128, rows=8))
    config.check(cfg)
    assert len(config.arms(cfg)) == len(recipe.ARMS) > 40
    with pytest.raises(UsageError, match="each arm once"):
        config.check(dataclasses.replace(cfg, arms=("form=modpo", "")))
    for heat in (0.0, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="method.temperature.*finite"):
            config.check(dataclasses.replace(cfg, temperature=heat))
    with pytest.raises(UsageError, match="2 to 768"):
        config.check(dataclasses.replace(cfg, arms=("pairs=1000",)))


@pytest.mark.parametrize("accuracy", [0.55, 0.75, 1.0])
def test_one_judge_is_as_good_as_asked(accuracy):
    asked, verdicts, truth = answered()
    hard, told = judges.safe(Arm(accuracy=accuracy), asked, verdicts, seed=0)
    assert set(np.unique(hard)) <= {0.0, 1.0}
    spread = 4 * np.sqrt(accuracy * (1 - accuracy) / N)
    assert abs((hard == truth).mean() - accuracy) <= spread
    assert told["accuracy"] == pytest.approx((hard == truth).mean())
    soft, _ = judges.safe(Arm(accuracy=accuracy, label="soft"), asked, verdicts, seed=0)
    np.testing.assert_allclose(soft, np.where(hard == 1, accuracy, 1 - accuracy))


def test_silence_is_no_verdict():
    asked, verdicts, _ = answered()
    safe, told = judges.safe(Arm(coverage=0.3), asked, verdicts, seed=1)
    assert told["silent"] == np.isnan(safe).sum()
    assert abs(np.isfinite(safe).mean() - 0.3) < 0.06


def test_seven_judges_are_better_than_one_and_copies_are_not():
    asked, verdicts, truth = answered()

    def right(**given):
        safe, told = judges.safe(Arm(accuracy=0.65, **given), asked, verdicts, seed=0)
        return ((safe > 0.5) == (truth > 0.5)).mean(), told

    one, _ = right()
    seven, told = right(sources=7, label="soft")
    copied, _ = right(sources=7, copies=5, label="soft")
    assert seven > one + 0.08 and seven > copied + 0.05
    assert all(abs(a - 0.65) < 0.08 for a in told["estimated"])


def test_biased_judges_err_on_one_side():
    asked, verdicts, truth = answered()
    for bias, side in ((1.0, 0.0), (-1.0, 1.0)):
        safe, _ = judges.safe(Arm(accuracy=0.75, bias=bias), asked, verdicts, seed=0)
        wrong = safe != truth
        assert (truth[wrong] == side).all() and wrong.mean() > 0.2


def test_the_order_of_two_answers():
    p, q = np.array([1.0, 0.0, 0.5, 0.8, 1.0, 0.0]), np.array([0.0, 1.0, 0.5, 0.2, 1.0, 0.0])
    found = judges.order(p, q)
    np.testing.assert_allclose(found, [1, 0, 0.5, 0.64 / 0.68, 0.5, 0.5])
    np.testing.assert_allclose(found + judges.order(q, p), 1)


def test_a_run_on_a_random_model(tmp_path):
    """Nothing it says is unsafe: no pair by safety, and noise alone orders those by helpfulness."""
    directory = testing.random_organism(tmp_path / "model")
    cfg = WeakConfig(
        arms=("order=safe", "noise=0.4"),
        prompts=3,
        samples=8,
        tokens=5,
        stage=StageConfig(pairs=4, rows=2),
        length=48,
        probe=2,
        answers=1,
    )
    runs = []
    for _ in range(2):  # the second one reads
        lines = []
        ctx = tiny.context(directory, tmp_path / "run", log=lines.append)
        optim = OptimConfig(lr=1e-2, schedule="constant", warmup=0.0)
        program.fits(cfg, optim, ctx.model, ctx.tokenizer, ctx.setting)
        made = program.program(cfg, optim, ctx)
        left = run_program(made, ctx, TrainConfig(progress=False))
        assert left["base"] is ctx.variables["base"]
        runs.append((json.loads((tmp_path / "run/artifacts/table.json").read_text()), lines))
    (table, first), (again, second) = runs
    assert table == again and any(" steps; " in x for x in first)
    assert not any(" steps; " in x for x in second)
    rows = {(row["arm"], row["seed"]): row for row in table["rows"]}
    safe, helpful = rows["order=safe", 0], rows["noise=0.4", 0]
    assert safe["pairs"] == 0 and safe["probe"] == table["base"]
    assert helpful["pairs"] == 4 and sum(helpful["right"]) == 4
    assert helpful["probe"]["wrapped_t1"]["n"] == 2
    assert not list((tmp_path / "run/checkpoints").glob("*/[0-9]*"))  # nothing reads them again
    with pytest.raises(UsageError, match=r"method.prompts.*data.prompts"):
        more = dataclasses.replace(cfg, seeds=4)
        program.fits(more, optim, ctx.model, ctx.tokenizer, ctx.setting)

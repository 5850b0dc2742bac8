"""Numbers of a finished study from its artifacts: rates, frontiers, curves, what was left out."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from jaxsafety.benchmarks.cells import FEW
from jaxsafety.benchmarks.intervals import wilson
from jaxsafety.report.load import Run
from jaxsafety.studies.anchored import goals
from jaxsafety.studies.anchored.results import rates, read, trades
from jaxsafety.studies.anchored.results.judges import Bench
from tests.studies import anchored_results as small


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    found = read.read(Run(small.write(tmp_path_factory.mktemp("study"))))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def drawn(results):
    return rates.draw(results, Bench(results), "letter", resamples=200)


def test_artifacts_are_read_by_whose_they_are(results):
    assert results.arms == ("plain", "ema:decay=0.5", "safelora")
    assert sorted(results.sets) == ["plain", "wrapped"]
    assert results.anchors == ("goal", "floor", "last")
    assert (results.judge, results.exact, results.floor) == ("exact rules", True, 0.2)
    assert results.base_dev == {"letter": (10, 100), "claim": (10, 100)}
    model = read.Model("letter", "plain", 1, 20)
    assert set(results.answers[model]) == {"plain", "wrapped", "over_refusal", "test"}
    assert results.items["plain"]["plain/3"].messages[0].content == "How is bellow 3 made in plain?"
    assert {c["arm"] for c in results.curves.values()} == {"plain", "ema:decay=0.5"}


def test_no_study_without_its_table_or_the_answers_of_the_base(tmp_path):
    small.write(tmp_path)
    (tmp_path / "artifacts/table.json").rename(tmp_path / "table.json")
    assert read.read(Run(tmp_path)) is None
    small.save(tmp_path / "artifacts/table.json", {"experts": 4})  # of another method
    assert read.read(Run(tmp_path)) is None
    (tmp_path / "table.json").rename(tmp_path / "artifacts/table.json")
    for path in tmp_path.glob("artifacts/verdicts.base.*"):
        path.unlink()
    assert read.read(Run(tmp_path)) is None


def test_a_set_without_saved_prompts_has_none(tmp_path):
    small.write(tmp_path)
    (tmp_path / "generations/base/wrapped.greedy.jsonl").unlink()
    found = read.read(Run(tmp_path))
    assert found is not None and found.items["wrapped"] == {} and len(found.items["plain"]) == 10


def test_rates_are_those_of_the_verdicts(results, drawn):
    found = {(s.anchor, s.arm): s for s in rates.standings(results, drawn, "letter")}
    base, goal = found["", "base"], found["goal", "plain"]
    assert (base.test.value, base.lo.value, base.hi.value) == pytest.approx((0.1, 0.1, 0.1))
    # 4 unsafe and 1 incoherent of ten on both sets in both seeds; 7 and 6 of ten right
    told = (goal.test.value, goal.lo.value, goal.hi.value, goal.incoh.value)
    assert told == pytest.approx((0.65, 0.4, 0.5, 0.1))
    assert (goal.seeds, goal.of, goal.steps) == (2, 2, (20, 20))
    for one in found.values():
        for rate in (one.test, one.lo, one.hi, one.incoh, one.refused):
            assert rate.lo <= rate.value <= rate.hi
        assert one.hi.value - one.lo.value == pytest.approx(one.incoh.value)
    assert not any(arm == "safelora" for _, arm in found)


def test_harmless_prompts_that_are_refused_stand_beside(results, drawn, tmp_path):
    """Of those that the judge can tell: the last of ten it cannot."""
    found = {(s.anchor, s.arm): s for s in rates.standings(results, drawn, "letter")}
    told = [found[who].refused.value for who in (("", "base"), ("goal", "plain"))]
    assert told == pytest.approx([1 / 9, 2 / 9])
    assert found["goal", "ema:decay=0.5"].refused[:3] == (0, *wilson(0, 10))
    small.write(tmp_path)
    for path in (tmp_path / "artifacts").glob(f"verdicts.*{small.ASKED}.json"):
        path.unlink()
    without = read.read(Run(tmp_path))
    assert without is not None
    told = rates.standings(without, rates.draw(without, Bench(without), "letter", 50), "letter")
    assert {one.refused for one in told} == {(None, None, None, rates.ASKED)}


def test_a_seed_that_is_not_at_the_goal_is_counted_and_in_no_rate(results, drawn):
    found = {(s.anchor, s.arm): s for s in rates.standings(results, drawn, "letter")}
    ema = found["goal", "ema:decay=0.5"]
    assert (ema.seeds, ema.of, ema.steps, ema.test.value) == (1, 2, (30,), 0.7)
    assert found["last", "ema:decay=0.5"].seeds == 2


def test_the_worst_of_the_floor_is_measured_under_it(results):
    # The last step loses 60 % of the general set, so the worst within 20 % is step 30.
    assert {m.step for row, m in results.at("letter", "floor") if row["arm"] == "plain"} == {30}


def test_equal_capability_is_shown_and_not_taken_for_granted(drawn):
    (ema,) = rates.capable(drawn, "goal", "plain", 0.02)
    assert ema.arm == "ema:decay=0.5" and ema.change.value == pytest.approx(0.05)
    assert ema.verdict == "undecided"  # ten questions show nothing within two points
    (wide,) = rates.capable(drawn, "goal", "plain", 0.49)
    assert wide.verdict == "equivalent"
    assert rates.capable(drawn, "goal", "safelora", 0.02) == []


def test_two_that_no_draw_tells_apart_are_not_equal_for_sure(drawn):
    twin = ("goal", "twin")
    plain = (rates.label(("goal", "plain")), goals.TEST, rates.RIGHT)
    same = drawn.right.sums[plain]
    right = replace(drawn.right, sums={plain: same, (rates.label(twin), *plain[1:]): same})
    models = {who: drawn.models["goal", "plain"] for who in (("goal", "plain"), twin)}
    (found,) = rates.capable(replace(drawn, models=models, right=right), "goal", "plain", 0.02)
    assert found.change.value == 0 and found.verdict == "undecided"
    assert found.change.lo == pytest.approx(-wilson(0, 10, 0.9)[1])


def test_a_rate_that_no_draw_changes_has_the_interval_of_its_prompts():
    found = rates.statistic(np.full(101, 1.0), 20)
    assert found[:3] == (1.0, *wilson(20, 20)) and found.lo < 0.9


def test_a_rate_of_nothing_is_none_with_a_cause():
    nothing = np.full(101, np.nan)
    assert rates.statistic(nothing, 20) == (None, None, None, rates.UNKNOWN)
    few = np.array([0.5, *[np.nan] * 60, *[0.4] * 40])
    assert rates.statistic(few, 20) == (0.5, None, None, FEW)


def test_a_set_that_the_judge_cannot_tell_makes_no_mean(tmp_path):
    small.write(tmp_path)
    path = tmp_path / "artifacts/verdicts.letter.plain.0.20.wrapped.json"
    said = json.loads(path.read_text())
    said["flags"]["unsafe"] = [None] * 10
    small.save(path, said)
    other = tmp_path / "artifacts/verdicts.letter.plain.1.20.wrapped.json"
    small.save(other, said)
    found = read.read(Run(tmp_path))
    assert found is not None
    told = rates.standings(found, rates.draw(found, Bench(found), "letter", 50), "letter")
    plain = next(s for s in told if (s.anchor, s.arm) == ("goal", "plain"))
    assert plain.lo == plain.hi == (None, None, None, rates.UNKNOWN)
    assert plain.test.value == 0.65


def test_frontiers_are_over_every_measured_checkpoint(results):
    found = {t.arm: t for t in trades.frontiers(results, Bench(results), "letter")}
    # two seeds, each with steps 10, 20 and 30 within the floor, and the last
    assert {arm: t.checkpoints for arm, t in found.items()} == {"plain": 8, "ema:decay=0.5": 8}
    plain = found["plain"]
    assert plain.lo.at(0.8) == pytest.approx(0.3)  # step 40: 3 unsafe
    assert plain.hi.at(0.8) == pytest.approx(
        0.7
    )  # step 30: 5 unsafe, 2 incoherent; at 40 it is 0.9
    assert plain.hi.at(0.81) is None
    assert not trades.frontiers(results, Bench(results), "claim")


def test_an_answer_that_cannot_be_graded_is_no_wrong_one(results):
    model = read.Model("letter", "plain", 0, 20)  # 7 of ten right
    known = results.answers[model]
    flags = {"correct": (None, *known["test"].flags["correct"][1:])}
    told = {**known, "test": replace(known["test"], flags=flags)}
    other = replace(results, answers={read.NOBODY: results.answers[read.NOBODY], model: told})
    (plain,) = trades.frontiers(other, Bench(other), "letter")
    assert [p.capability for p in plain.hi.points] == [6 / 9]


def test_curves_have_the_selected_checkpoints(results):
    found = {(c.point, c.seed): c for c in trades.curves(results, "letter")}
    assert found["plain", 1].rates == (0.3, 0.65, 0.7, 0.75)
    assert found["plain", 1].selected == {"goal": 20, "last": 40}
    assert found["ema-decay-0-5", 1].selected == {"last": 40}
    assert trades.curves(results, "claim") == []


def test_every_row_without_a_checkpoint_is_told_with_its_reason(results):
    left = trades.left_out(results)
    without = [row for row in results.rows if row["step"] is None]
    assert sum(len(one.seeds) * len(one.anchors) for one in left) == len(without) > 0
    assert {one.outcome for one in left} == {"goal_unreached", "not_applicable", "already_met"}
    assert all(one.reason for one in left)
    missed = next(one for one in left if one.outcome == "goal_unreached")
    assert (missed.arm, missed.anchors, missed.seeds) == ("ema:decay=0.5", ("goal",), (1,))
    lacking = [one for one in left if (one.goal, one.arm) == ("letter", "safelora")]
    assert [(one.anchors, one.seeds) for one in lacking] == [(("goal", "last", "floor"), (0, 1))]


def test_rows_with_other_seeds_under_an_anchor_are_kept_apart():
    head = {"goal": "g", "arm": "a", "outcome": "o", "reason": "r", "step": None}
    rows = [{**head, "anchor": a, "seed": s} for a, s in (("goal", 0), ("goal", 1), ("last", 1))]
    left = trades.left_out(SimpleNamespace(rows=rows))
    assert [(one.anchors, one.seeds) for one in left] == [(("goal",), (0, 1)), (("last",), (1,))]

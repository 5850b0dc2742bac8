"""Orders of arms under anchors, by judges and on sets: places, taus, claims."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jaxsafety.benchmarks.stability import TOO_FEW
from jaxsafety.report.load import Run
from jaxsafety.studies.anchored.results import orders, rates, read
from jaxsafety.studies.anchored.results.judges import LISTS, Bench
from tests.studies import anchored_results as small

ARMS = ("plain", "ema:decay=0.5", "safelora")
ANCHORS = ("goal", "floor", "last")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    results = read.read(Run(small.write(tmp_path_factory.mktemp("study"))))
    assert results is not None
    return rates.draw(results, Bench(results), "letter", resamples=200)


def test_places_under_each_anchor_and_reading(drawn):
    places = {one.arm: one.places for one in orders.ranked(drawn, ARMS, ANCHORS)}
    # unsafe of ten: at the goal 4 of plain and 3 of ema, last 3 and 4; with incoherent ones 9 and 6
    assert places["plain"]["lo"] == {"goal": 2, "floor": 2, "last": 1}
    assert places["plain"]["hi"] == {"goal": 2, "floor": 2, "last": 2}
    assert places["ema:decay=0.5"]["lo"]["last"] == 2
    assert places["safelora"] == {"lo": {}, "hi": {}}


def test_equal_rates_share_the_better_place(drawn):
    twice = {("goal", "a"): drawn.models["goal", "plain"], ("goal", "b"): ()}
    same = replace(drawn, models=twice)
    scores = dict.fromkeys(("a", "b"), drawn.scores(("goal", "plain"), drawn.judges[0], "hi"))
    object.__setattr__(same, "scores", lambda who, judge, metric: scores[who[1]])
    found = orders.ranked(same, ("a", "b"), ("goal",))
    assert [one.places["hi"]["goal"] for one in found] == [1, 1]


def test_tau_between_anchors_hangs_on_the_reading(drawn):
    found = {(t.first, t.second): t for t in orders.between_anchors(drawn, ARMS, ANCHORS)}
    assert len(found) == 3 and {t.arms for t in found.values()} == {2}
    tau = found["goal", "last"].tau
    assert (tau["lo"].value, tau["hi"].value) == (-1.0, 1.0)
    assert tau["lo"].lo <= tau["lo"].value <= tau["lo"].hi


def test_one_arm_has_no_order(drawn):
    (found,) = orders.between_anchors(drawn, ("plain",), ("goal", "last"))
    assert found.tau["lo"] == (None, None, None, TOO_FEW)
    assert orders.spread(drawn, ("plain",), "goal", "lo") is None


def test_taus_between_judges_and_between_sets(drawn):
    judges = orders.between_judges(drawn, ARMS, "goal")
    assert len(judges) == len(LISTS) * (len(LISTS) + 1) // 2
    # the lists call unsafe what is no refusal: 5 of plain's ten that are coherent, 4 of ema's
    assert all(t.tau["lo"].value == 1.0 for t in judges)
    (sets,) = orders.between_sets(drawn, ARMS, "goal")
    assert sets.tau["hi"].value == 1.0 and {sets.first, sets.second} == {"plain", "wrapped"}
    told = orders.spread(drawn, ARMS, "goal", "hi")
    assert told is not None
    assert (told.low, told.high, told.below, told.untold) == (1.0, 1.0, 0, 0)
    cells = 2 * (len(LISTS) + 1)
    assert told.pairs == cells * (cells - 1) // 2


def test_claims_count_the_signs_over_sets_judges_and_readings(drawn):
    claims = {one.arm: one for one in orders.claims(drawn, ARMS, "goal")}
    assert set(claims) == {"plain", "ema:decay=0.5"}
    plain = claims["plain"]
    cells = 2 * (len(LISTS) + 1)
    signs = plain.all
    assert signs.up + signs.down + signs.undecided + signs.unknown == 2 * cells
    assert signs.down == 0  # one of ten is unsafe at the base
    assert plain.own.up + plain.own.undecided == 4

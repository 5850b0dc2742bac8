"""Who is drawn together, where the frontier runs, and what is not drawn."""

from __future__ import annotations

import pytest

from jaxsafety.benchmarks.intervals import wilson
from jaxsafety.benchmarks.organism import EXACT
from jaxsafety.report.compare import opening, pareto
from jaxsafety.report.compare.pareto import Axis, Point
from jaxsafety.report.compare.sources import Judge
from jaxsafety.report.load import Estimate
from tests.report.compared import HARM, KIND, measurement, run, shares


def axis(kind, metric):
    return Axis(kind, metric, "a set", ("a set",), "greedy", Judge(EXACT))


def point(name, across, up):
    x, y = (Estimate(value, value - 0.05, value + 0.05, 100) for value in (across, up))
    return Point(None, name, name == "base", x, y)


UP = axis("safety", "asr")
RIGHT, REFUSED = axis("capability", "accuracy"), axis("over_refusal", "refusal")
# "worse" is beaten by "good": as harmful, less capable, refuses more.
MODELS = {
    "base": (0.9, 0.8, 0.1),
    "good": (0.8, 0.4, 0.2),
    "worse": (0.7, 0.4, 0.3),
    "safe": (0.6, 0.2, 0.4),
}


def test_the_frontier_by_hand_against_capability():
    points = [point(name, right, unsafe) for name, (right, unsafe, _) in MODELS.items()]
    found = pareto.corners(RIGHT, UP, points)
    assert [c.name for c in found] == ["safe", "good", "base"]
    corners = [x for pair in pareto.path(RIGHT, UP, points) for x in pair]
    # A level from the worst that is drawn, 0.6 - 0.05, to each corner, then a step up.
    steps = [(0.55, 0.2), (0.6, 0.2), (0.6, 0.4), (0.8, 0.4), (0.8, 0.8), (0.9, 0.8)]
    assert corners == pytest.approx([x for pair in steps for x in pair])


def test_the_frontier_by_hand_against_over_refusal():
    points = [point(name, refused, unsafe) for name, (_, unsafe, refused) in MODELS.items()]
    assert [c.name for c in pareto.corners(REFUSED, UP, points)] == ["safe", "good", "base"]
    corners = [x for pair in pareto.path(REFUSED, UP, points) for x in pair]
    steps = [(0.45, 0.2), (0.4, 0.2), (0.4, 0.4), (0.2, 0.4), (0.2, 0.8), (0.1, 0.8)]
    assert corners == pytest.approx([x for pair in steps for x in pair])


def test_where_more_is_safer_the_frontier_is_the_upper_one():
    up = axis("safety", "safe")
    points = [point("base", 0.9, 0.2), point("good", 0.8, 0.6), point("worse", 0.7, 0.5)]
    assert [c.name for c in pareto.corners(RIGHT, up, points)] == ["good", "base"]
    levels = [y for _, y in pareto.path(RIGHT, up, points)]
    assert levels == pytest.approx([0.6, 0.6, 0.2, 0.2])
    assert pareto.path(RIGHT, up, []) == []


def test_a_point_is_the_rate_of_its_answers(tmp_path):
    arms = {"base": shares(30, 0, 40), "student": shares(10, 4, 36)}
    found = opening.read(
        [
            run(tmp_path / "a", arms),
            run(tmp_path / "b", {**arms, "student": shares(20, 0, 38)}),
        ]
    )
    (group,) = pareto.groups(found)
    for kind, values in (("capability", (1.0, 0.9, 0.95)), ("over_refusal", (0.0, 0.1, 0.0))):
        picture = pareto.picture(group, kind)
        assert [p.name for p in picture.points] == ["base", "a", "b"]  # one base, in both runs
        assert [p.across.value for p in picture.points] == pytest.approx(values)
        assert [p.up.value for p in picture.points] == [0.75, 0.25, 0.5]
        assert picture.points[1].up[1:3] == wilson(10, 40) and picture.missing == []
    assert pareto.picture(group, "capability").best == ["a", "b", "base"]
    assert pareto.picture(group, "over_refusal").best == ["a", "b"]  # b refuses as few as the base


@pytest.mark.parametrize(
    "options", [{"base": "bb"}, {"tokens": 64}, {"prompt": "{name} {i}!"}, {"judge": "rules"}]
)
def test_who_cannot_be_compared_has_a_picture_of_its_own(tmp_path, options):
    arms = {"base": shares(30), "student": shares(10)}
    paths = [run(tmp_path / "a", arms), run(tmp_path / "b", arms)]
    paths.append(run(tmp_path / "c", arms, **options))
    found = pareto.groups(opening.read(paths))
    assert [[s.label for s in group.sources] for group in found] == [["a", "b"], ["c"]]
    assert [p.name for p in pareto.picture(found[1], "capability").points] == ["base", "c"]


def test_a_kind_that_one_lacks_is_no_picture_and_a_cause(tmp_path):
    whole = shares(10)
    arms = {"student": {HARM: whole[HARM], KIND: whole[KIND]}}
    found = opening.read([run(tmp_path / "a", {"student": whole}), run(tmp_path / "b", arms)])
    (group,) = pareto.groups(found)
    assert pareto.picture(group, "capability") is None
    assert group.causes == {"capability": "not measured in b"}
    assert len(pareto.picture(group, "over_refusal").points) == 2


def test_sets_that_not_all_have_are_in_no_axis(tmp_path):
    more = {("others", "safety"): [True] * 9}
    found = opening.read(
        [
            run(tmp_path / "a", {"student": shares(10) | more}),
            run(tmp_path / "b", {"student": shares(10)}),
        ]
    )
    (group,) = pareto.groups(found)
    assert group.axes["safety"].sets == ("attacks",)
    (alone, _) = pareto.groups([found[0], *opening.read([tmp_path / "a", _odd(tmp_path)])[1:]])
    assert alone.axes["safety"].sets == ("attacks", "others")
    assert pareto.picture(alone, "capability").points[0].up.n == 49


def _odd(tmp_path):
    return run(tmp_path / "odd", {"student": shares(10)}, base="bb")


def judged(sets):
    return {HARM: sets[HARM], KIND: sets[KIND]}


def test_models_of_a_measurement_are_points(tmp_path):
    arms = {"base": shares(30), "sft": shares(20), "steered": shares(10)}
    found = opening.read(
        [
            measurement(tmp_path / "a", {k: judged(v) for k, v in arms.items()}),
            measurement(tmp_path / "b", {"model": {HARM: [False] * 40, KIND: [False] * 40}}),
        ]
    )
    (group,) = pareto.groups(found)
    picture = pareto.picture(group, "over_refusal")
    assert [p.name for p in picture.points] == ["base", "a: sft", "a: steered", "b"]
    assert picture.best == ["b"]


def test_what_cannot_be_judged_is_no_point(tmp_path):
    untold = shares(10) | {KIND: [None] * 40}
    found = opening.read(
        [run(tmp_path / "a", {"student": shares(10)}), run(tmp_path / "b", {"student": untold})]
    )
    picture = pareto.picture(pareto.groups(found)[0], "over_refusal")
    assert [p.name for p in picture.points] == ["a"]
    assert picture.missing == ["b (nothing could be judged)"]

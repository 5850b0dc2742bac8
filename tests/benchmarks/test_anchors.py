"""Two anchors on scripted curves: what is selected, what is not, and that safety is not read."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsafety.benchmarks import anchors
from jaxsafety.benchmarks.anchors import Curve, Floor, Goal, Point, Setting, Target
from jaxsafety.benchmarks.intervals import wilson
from jaxsafety.core.errors import UsageError

TARGET = Target(0.8, 0.02)


class Poison:
    """Raises whatever is done to it."""

    def _raise(self, *args):
        raise AssertionError("selection looked at safety")

    __getattr__ = __getitem__ = __iter__ = __len__ = __bool__ = __call__ = __array__ = _raise
    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __hash__ = __float__ = __contains__ = _raise
    __add__ = __radd__ = __sub__ = __rsub__ = __neg__ = __index__ = __repr__ = _raise


def curve(*rates, name="run", n=2000, every=10, norms=None):
    norms = norms or [None] * len(rates)
    counts = [round(r * n) for r in rates]
    steps = range(every, every * (len(rates) + 1), every)
    return Curve(name, [Point(s, c, n, w) for s, c, w in zip(steps, counts, norms, strict=True)])


def chosen(*curves, target=TARGET):
    found = anchors.select_goal(curves, target)
    return found.outcome, found.run, found.step


@pytest.mark.parametrize(
    "rates,step",
    [
        ((0.5, 0.7, 0.82, 0.9, 0.95), 30),  # monotone: the earlier of the first two
        ((0.7, 0.83, 0.79, 0.81, 0.78, 0.84, 0.85), 60),  # noisy: two in a row, not two of three
        ((0.85, 0.85, 0.1), 10),  # what comes later does not matter
        ((0.7, 0.8, 0.8), 20),  # exactly at c*
        ((0.7, 0.9, 0.81), 20),  # the later one may be lower
    ],
)
def test_the_earlier_of_the_first_two_that_pass(rates, step):
    assert chosen(curve(*rates)) == ("reached", "run", step)
    found = anchors.reach(curve(*rates), TARGET)
    assert (found.point.step, found.confirmed.step) == (step, step + 10)


@pytest.mark.parametrize(
    "rates,cause",
    [
        ((0.5, 0.7, 0.79), "at best 0.790 of 0.800, at step 30"),
        (
            (0.9, 0.7, 0.6),
            "reached at step 10, never at two evaluations in a row",
        ),  # once, then falls
        ((0.9, 0.7, 0.9, 0.7), "reached at step 10, 30, never at two"),
        ((0.5, 0.7, 0.9), "reached at step 30, the last evaluation, which none confirms"),
        ((0.9,), "the last evaluation"),
        ((), "nothing was scored"),
    ],
)
def test_runs_that_do_not_reach_it_say_why(rates, cause):
    found = anchors.select_goal([curve(*rates)], TARGET)
    assert (found.outcome, found.run, found.step) == ("goal_unreached", None, None)
    assert cause in found.cause and len(found.runs) == 1 and cause in found.runs[0].cause
    assert found.runs[0].point is None and found.runs[0].outcome == "goal_unreached"


def test_too_few_items_are_no_evidence():
    few = Curve("few", [(10, 82, 100), (20, 82, 100)])
    found = anchors.select_goal([few], TARGET)
    assert found.outcome == "goal_unreached" and "too few items" in found.cause
    assert f"{wilson(82, 100)[0]:.3f} of 0.780" in found.cause
    assert chosen(Curve("many", [(10, 1640, 2000), (20, 1640, 2000)]))[0] == "reached"
    # the bound has to hold at the second as well
    half = Curve("half", [(10, 1640, 2000), (20, 82, 100)])
    assert chosen(half)[0] == "goal_unreached"
    # what could not be scored confirms nothing, and is no zero
    gap = Curve("gap", [(10, 1700, 2000), (20, 0, 0), (30, 1700, 2000)])
    found = anchors.reach(gap, TARGET)
    assert found.outcome == "goal_unreached" and gap.points[1].rate is None
    assert found.best.step == 10


def test_fewest_steps_then_norm_then_name():
    fast, slow = curve(0.9, 0.9, name="z"), curve(0.5, 0.9, 0.9, name="late", norms=[1, 1, 1])
    assert chosen(slow, fast) == ("reached", "z", 10)
    heavy = curve(0.9, 0.9, name="a", norms=[3.0, 3.0])
    light = curve(0.9, 0.9, name="b", norms=[2.0, 2.0])
    untold = curve(0.9, 0.9, name="0")
    twin = curve(0.9, 0.9, name="c", norms=[2.0, 9.0])
    for order in itertools.permutations([heavy, light, untold, twin, slow]):
        assert chosen(*order) == ("reached", "b", 10)
    assert chosen(untold, heavy) == ("reached", "a", 10)
    missed = curve(0.1, 0.1, name="missed")
    found = anchors.select_goal([missed, light], TARGET)
    assert [r.outcome for r in found.runs] == ["goal_unreached", "reached"]  # not dropped
    assert anchors.select_goal([], TARGET).cause == "no runs"
    with pytest.raises(ValueError, match="two runs of one name"):
        chosen(light, light)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 300), max_size=8), min_size=1, max_size=4),
    st.floats(0.05, 1),
    st.floats(0.01, 0.3),
)
def test_the_rule_by_brute_force(counts, value, margin):
    target, n = Target(value, margin), 300
    runs = [
        Curve(str(i), [(7 * (t + 1), x, n) for t, x in enumerate(row)])
        for i, row in enumerate(counts)
    ]
    expected = []
    for i, row in enumerate(counts):
        ok = [x / n >= value - 1e-9 and wilson(x, n)[0] >= value - margin - 1e-9 for x in row]
        expected += [(7 * (t + 1), str(i)) for t in range(len(row) - 1) if ok[t] and ok[t + 1]]
    found = anchors.select_goal(runs, target)
    want = min(expected, default=(None, None))
    assert (found.step, found.run) == want
    assert found.outcome == ("reached" if expected else "goal_unreached")
    assert bool(found.cause) == (not expected)


def test_selection_by_goal_never_looks_at_safety():
    class Measured(Curve):
        unsafe = Poison()
        verdicts = Poison()

    runs = [Measured("a", [(10, 1700, 2000), (20, 1700, 2000)]), Measured("b", [(10, 1, 2000)])]
    target = anchors.resolve_target(Goal("sums"), 0.2, anchors.find_ceiling(runs))
    assert anchors.select_goal(runs, target).run == "a"
    with pytest.raises(AssertionError, match="looked at safety"):
        _ = runs[0].unsafe[0]
    # the other anchor has to look, and is told so by an argument of its own
    setting = Setting("a", 10, {"piqa": 0.6})
    with pytest.raises(AssertionError, match="looked at safety"):
        anchors.select_floor([setting], {"piqa": 0.6}, Floor(("piqa",)), Poison())
    # but not beyond the floor
    lost = Setting("a", 10, {"piqa": 0.1})
    found = anchors.select_floor([lost], {"piqa": 0.6}, Floor(("piqa",)), Poison())
    assert found.outcome == "floor_unreached"


def test_target_by_rule_and_by_number():
    rule = anchors.resolve_target(Goal("sums"), 0.5, 0.7)
    assert rule == Target(pytest.approx(0.68), 0.02, "", "")
    assert anchors.resolve_target(Goal("sums", rho=1.0), 0.1, 0.7).value == 0.7
    assert anchors.resolve_target(Goal("sums", target=0.75, margin=0.01), 0.5).value == 0.75
    met = anchors.resolve_target(Goal("sums", target=0.75), 0.75)
    assert met.outcome == "already_met" and "0.750" in met.cause
    # no plain run beats the base: nothing to fine-tune for
    assert anchors.resolve_target(Goal("sums"), 0.7, 0.6).outcome == "already_met"
    selection = anchors.select_goal([curve(0.9, 0.9)], met)
    assert (selection.outcome, selection.run) == ("already_met", None) and selection.cause
    assert anchors.find_ceiling([curve(0.3, 0.6), curve(0.5), Curve("x", [(1, 0, 0)])]) == 0.6
    assert anchors.find_ceiling([Curve("x", [(1, 0, 0)])]) is None


@pytest.mark.parametrize("seed", range(40))
def test_a_run_at_the_ceiling_reaches_the_rule_in_spite_of_rounding(seed):
    base, top = 100 + 7 * seed, 1200 + 11 * seed
    goal = Goal("sums", rho=1.0, margin=0.1)
    target = anchors.resolve_target(goal, base / 2000, top / 2000)
    assert chosen(Curve("r", [(1, top, 2000), (2, top, 2000)]), target=target)[0] == "reached"
    assert chosen(Curve("r", [(1, top - 1, 2000)] * 1), target=target)[0] == "goal_unreached"


def test_a_run_exactly_at_the_rule_reaches_it_in_spite_of_rounding():
    target = anchors.resolve_target(Goal("sums", margin=0.1), 0.5, 0.9)
    assert target.value > 0.86 == 860 / 1000  # by float arithmetic; 0.5 + 0.9 * 0.4 is 0.86
    assert chosen(Curve("r", [(1, 860, 1000), (2, 860, 1000)]), target=target)[0] == "reached"
    assert chosen(Curve("r", [(1, 859, 1000), (2, 859, 1000)]), target=target)[1] is None


@pytest.mark.parametrize(
    "field,value",
    [
        ("target", 1.2),
        ("target", -0.1),
        ("target", float("nan")),
        ("margin", 0.0),
        ("margin", 0.5),
        ("rho", 0.0),
        ("rho", 1.01),
        ("task", ""),
        ("metric", ""),
        ("decoding", ""),
        ("dev_size", 0),
        ("dev_seed", -1),
    ],
)
def test_goals_that_are_none(field, value):
    with pytest.raises(UsageError, match=f"goal.{field}") as error:
        Goal(**{"task": "sums", field: value})
    assert "\n" not in str(error.value)


def test_what_cannot_be_resolved_says_so_before_training():
    with pytest.raises(UsageError, match=r"goal.ceiling: got None"):
        anchors.resolve_target(Goal("sums"), 0.5)
    with pytest.raises(UsageError, match=r"goal.base"):
        anchors.resolve_target(Goal("sums"), 1.5, 0.9)
    # a split on which a perfect score is no evidence: the number told is the least that is
    goal = Goal("sums", target=0.95, margin=0.01, dev_size=40)
    with pytest.raises(UsageError, match=r"goal.dev_size: got 40; allowed: 61 or more"):
        anchors.resolve_target(goal, 0.5)
    assert wilson(60, 60)[0] < 0.94 <= wilson(61, 61)[0]
    assert anchors.resolve_target(Goal("sums", target=0.95, margin=0.01, dev_size=61), 0.5).value
    for points in ([(2, 1, 2), (1, 1, 2)], [(1, 1, 2), (1, 1, 2)], [(1, 3, 2)], [(1, -1, 2)]):
        with pytest.raises(ValueError, match="run:"):
            Curve("run", points)


BASE = {"piqa": 0.6, "arc": 0.4, "other": 0.9}


def test_the_floor_takes_the_most_harmful_that_keeps_it():
    floor = Floor(("piqa", "arc"))
    rows = [
        Setting(
            "a", 10, {"piqa": 0.55, "arc": 0.4, "other": 0.0}
        ),  # 8.3 %; the other is not declared
        Setting("a", 20, {"piqa": 0.54, "arc": 0.37}),  # 10 % exactly
        Setting("a", 30, {"piqa": 0.7, "arc": 0.35}),  # 12.5 % of arc: one task decides
        Setting("b", 10, {"piqa": 0.6, "arc": None}),
        Setting("b", 20, {"piqa": 0.6}),
    ]
    harm = {("a", 10): 0.3, ("a", 20): 0.5, ("a", 30): 0.9, ("b", 10): 0.95, ("b", 20): 0.99}
    found = anchors.select_floor(rows, BASE, floor, harm)
    assert (found.outcome, found.run, found.step) == ("reached", "a", 20)
    assert [x.within for x in found.losses] == [True, True, False, False, False]
    assert [x.task for x in found.losses] == ["piqa", "piqa", "arc", "arc", "arc"]
    assert [x.value for x in found.losses[:3]] == pytest.approx([0.05 / 0.6, 0.1, 0.125])
    assert found.losses[3].value is None and found.losses[4].value is None
    # in points the same sweep keeps the floor further
    points = Floor(("piqa", "arc"), relative=False)
    assert anchors.select_floor(rows, BASE, points, harm).step == 30
    # harm unknown: not the worst case, and not 0
    assert anchors.select_floor(rows, BASE, floor, {**harm, ("a", 20): None}).step == 10
    nan = {**harm, ("a", 20): float("nan"), ("a", 10): None}
    assert anchors.select_floor(rows, BASE, floor, nan).outcome == "harm_unknown"
    strict = anchors.select_floor(rows, BASE, Floor(("piqa", "arc"), margin=0.01), harm)
    assert strict.outcome == "floor_unreached" and strict.run is None
    assert "least loss is 0.083 of 0.010; 2 cannot be told" in strict.cause
    # equal harm: the earlier step, then the name
    twins = [Setting(n, s, BASE) for n, s in (("b", 20), ("b", 10), ("a", 10), ("c", 5))]
    flat = {("b", 20): 0.5, ("b", 10): 0.5, ("a", 10): 0.5, ("c", 5): 0.1}
    for order in itertools.permutations(twins):
        found = anchors.select_floor(order, BASE, floor, flat)
        assert (found.run, found.step) == ("a", 10)


def test_the_floor_at_its_edges():
    assert anchors.measure_loss(Setting("a", 1, {"t": 0.0}), {"t": 0.0}, Floor(("t",))).value == 0
    gain = anchors.measure_loss(Setting("a", 1, {"t": 0.9}), {"t": 0.6}, Floor(("t",), 0.0))
    assert gain.within and gain.value == pytest.approx(-0.5)
    with pytest.raises(UsageError, match=r"floor.tasks: got 'x'; allowed: measured on the base: t"):
        anchors.measure_loss(Setting("a", 1, {"t": 0.0}), {"t": 0.0}, Floor(("x",)))
    for tasks, margin, field in (
        ((), 0.1, "tasks"),
        (("t", "t"), 0.1, "tasks"),
        (("t",), 1, "margin"),
    ):
        with pytest.raises(UsageError, match=f"floor.{field}"):
            Floor(tasks, margin)


def test_the_two_anchors_can_disagree():
    """The same runs: what is earliest at the goal is not what is worst within the floor."""
    runs = [curve(0.5, 0.85, 0.9, 0.92, name="plain")]
    rows = [Setting("plain", s, {"t": 0.6 - 0.001 * s}) for s in (10, 20, 30, 40)]
    harm = {("plain", s): 0.02 * s for s in (10, 20, 30, 40)}
    goal = anchors.select_goal(runs, TARGET)
    floor = anchors.select_floor(rows, {"t": 0.6}, Floor(("t",)), harm)
    assert (goal.step, floor.step) == (20, 40)
    assert Point(*runs[0].points[0]).rate == 0.5


@given(st.integers(1, 400), st.data(), st.sampled_from((0.0, 0.05, 0.1, 0.5)), st.booleans())
def test_a_floor_that_chance_decides_is_told(n, data, margin, relative):
    """The rule itself: what may be lost against half of the interval of the base's rate."""
    right = data.draw(st.integers(0, n))
    lo, hi = wilson(right, n)
    floor = Floor(("t",), margin, relative)
    told = anchors.by_chance({"t": (right, n)}, floor)
    assert bool(told) == (margin * (right / n if relative else 1) * n < n * (hi - lo) / 2)
    assert not anchors.by_chance({"t": (0, 0)}, floor)


def test_enough_questions_need_no_word():
    assert anchors.by_chance({"a": (900, 1000), "b": (21, 32)}, Floor(("a", "b"))) == [
        "b: 2 of 32 answers may be lost, and 5 change by chance"
    ]

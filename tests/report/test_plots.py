"""Figures: what is drawn comes from the data, and nothing is drawn from nothing."""

import xml.etree.ElementTree

import pytest

from jaxsafety.report import plots
from jaxsafety.report.load import Run


def words(svg):
    return [e.text for e in xml.etree.ElementTree.fromstring(svg).iter() if e.text]


def test_outcome_bars_name_benchmarks_and_shares(workdir):
    run = Run(workdir)
    said = words(plots.outcomes(run, "t1"))
    assert {"plain", "multi turn", "base", "student", "safe answer"} <= set(said)
    share = run.estimate("base", "wrapped_held", "asr.t1")
    assert share is not None and f"{100 * share.value:.0f}" in said
    assert plots.outcomes(run, "t07") is None


def test_curves_choose_and_group(workdir):
    said = words(plots.curves(Run(workdir).metrics))
    assert {"loss", "mass on S", "grad norm", "student", "teacher"} <= set(said)
    flat = [{"stage": "a", "step": s, "loss": 1.0, "constant": 2.0, "time": s} for s in range(3)]
    assert {"loss"} <= set(words(plots.curves(flat))) and "constant" not in words(
        plots.curves(flat)
    )
    many = [{"stage": f"arm{a}", "step": s, "loss": a + s} for a in range(30) for s in (1, 2)]
    assert {f"arm{a}" for a in range(30)} <= set(words(plots.curves(many)))
    assert plots.curves([]) is None
    assert plots.curves([{"stage": "a", "step": 0, "loss": None}]) is None


def test_of_too_many_stages_the_largest_family_is_not_drawn():
    repairs = [f"repair.{i}" for i in range(30)]
    stages = ["sft.a", *repairs, "sft.b", "align.a"]
    assert plots.shown(stages) == ["sft.a", "sft.b", "align.a"]
    assert plots.shown(stages[:20]) == stages[:20] and plots.shown(repairs) == repairs


def test_direction_map_keeps_one_candidate_per_cell():
    cell = {"layer": 1, "position": -1}
    cells = [
        {**cell, "coefficient": 1.0, "score": 0.25, "passed": True, "steering": 7.5},
        {**cell, "coefficient": 2.0, "score": 0.75, "passed": False, "steering": 8.5},
    ]
    found = {"layer": 0, "position": -1, "coefficient": 1.0, "candidates": cells}
    said = words(plots.direction(found))
    assert ".25" in said and ".75" not in said  # what passed stands for its cell
    chosen = {**found, "layer": 1, "coefficient": 2.0}
    assert ".75" in words(plots.direction(chosen))  # unless the other was chosen
    assert plots.direction({"candidates": []}) is None


def test_tokens_are_drawn_as_they_are():
    svg = plots.tokens({"tokens": ["$x$", "<b>", " "], "votes": [3, 2, 1]})
    assert {"$x$", "<b>", "' '", "3"} <= set(words(svg))
    assert plots.tokens({"tokens": []}) is None
    assert plots.tokens({"tokens": ["a"], "votes": []}) is None


@pytest.mark.parametrize("found", [{}, {"positions": [0, 1], "kl": [1.0]}])
def test_kl_needs_matching_lists(found):
    assert plots.position_kl(found) is None


def test_same_data_same_bytes(workdir):
    run = Run(workdir)
    assert plots.curves(run.metrics) == plots.curves(run.metrics)

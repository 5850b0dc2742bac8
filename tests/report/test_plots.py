"""Figures: what is drawn comes from the data, and nothing is drawn from nothing."""

import xml.etree.ElementTree

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


def test_same_data_same_bytes(workdir):
    run = Run(workdir)
    assert plots.curves(run.metrics) == plots.curves(run.metrics)


def test_a_phone_has_a_picture_of_its_own(workdir):
    drawn = plots.twice(plots.curves, Run(workdir).metrics)
    assert drawn is not None and set(words(drawn.wide)) >= {"loss", "grad norm"}
    width = [
        float(xml.etree.ElementTree.fromstring(svg).attrib["width"].removesuffix("pt"))
        for svg in drawn
    ]
    assert width[0] > 72 * 8 and width[1] <= 72 * plots.WIDTH + 1
    assert plots.twice(plots.curves, []) is None


def test_of_very_many_stages_three_are_named():
    many = [{"stage": f"a{a}.x", "step": s, "loss": a + s} for a in range(70) for s in (1, 2)]
    said = words(plots.curves(many))
    assert {"a0.x, first of 70", "a35.x", "a69.x, last"} <= set(said) and "a1.x" not in said

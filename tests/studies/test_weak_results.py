"""The study's numbers: means over seeds, differences paired by seed, and their section."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from jaxsafety.report.load import Run
from jaxsafety.studies.weak_supervision import sections
from jaxsafety.studies.weak_supervision.results import difference, mean, summarise


def probe(unsafe, n=100):
    return {
        "wrapped_t1": {"n": n, "unsafe": [unsafe, n]},
        "harmful_val": {"n": 10, "unsafe": [0, 10]},
        "harmless_val": {"n": 10, "refusal": [0, 0], "correct": [9, 10]},
    }


def table():
    rows = [
        {"arm": arm, "seed": s, "pairs": 8, "right": right, "probe": probe(x + s)}
        for arm, right, x in (
            ("order=safe,accuracy=0.75", [3, 4, 1, 0], 20),
            ("order=safe", [4, 4, 0, 0], 10),
            ("form=modpo,coverage=0.5", [0, 8, 0, 0], 40),
        )
        for s in range(3)
    ]
    return {"base": probe(50), "rows": rows}


def test_means_are_those_of_students_t():
    values = np.random.default_rng(0).random(5)
    found = mean(values)
    lo, hi = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
    assert (found.mean, found.lo, found.hi) == pytest.approx((values.mean(), lo, hi))
    assert mean([0.4]).lo is None and str(mean([0.4])) == "40.0"
    assert str(mean([0.1, 0.1])) == "10.0 [10.0, 10.0]"


def test_arms_are_summed_up_over_seeds():
    base, worse, gold, margin = summarise(table())
    assert (base.arm, base.shares["wrapped_t1"].mean) == ("base", 0.5)
    assert worse.seeds == 3 and worse.right == 0.75 and gold.right == 1.0
    assert margin.right is None  # no pair whose answers differ in safety
    np.testing.assert_allclose(gold.values["wrapped_t1"], [0.10, 0.11, 0.12])
    assert "refused" not in gold.shares  # the judge could tell nothing of it
    assert gold.shares["correct"].mean == 0.9
    gap = difference(worse, gold, "wrapped_t1")
    assert gap.mean == pytest.approx(0.1) and gap.lo == pytest.approx(0.1)  # paired: no spread
    lost = difference(gold, base, "wrapped_t1")
    assert lost.mean == pytest.approx(-0.39) and (lost.hi or 0) < 0


def test_the_section_has_a_row_an_arm_and_a_curve_a_loss(tmp_path):
    assert sections.arms(Run(tmp_path)) == ""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "table.json").write_text(json.dumps(table()))
    text = sections.arms(Run(tmp_path))
    assert text.count("<tr>") == 1 + 4 and "order=safe,<wbr>accuracy=0.75" in text
    assert "21.0 [18.5, 23.5]" in text
    drawn = sections.curves(summarise(table()))
    assert drawn is not None and drawn == sections.curves(summarise(table())[:3])
    assert sections.curves(summarise(table())[:2]) is None  # one point is no curve

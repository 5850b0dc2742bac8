"""A title says that a run has less harm only where every interval says so."""

from __future__ import annotations

import pytest

from jaxsafety.report.compare import claims, opening, pareto
from tests.report.compared import HARM, measurement, run, shares


def headline(tmp_path, *students, **options):
    paths = [
        run(tmp_path / name, {"base": shares(36), "student": student})
        for name, student in zip("abc", students, strict=False)
    ]
    found = opening.read(paths)
    title, lead = claims.headline(found, pareto.groups(found))
    return title.replace("\N{NO-BREAK SPACE}", " "), lead


def test_a_clear_difference_is_told_with_both_rates(tmp_path):
    title, lead = headline(tmp_path, shares(30), shares(8))
    assert title == "Attack success: lower with b, 20 % against 75 %"
    assert "a 75.0 % [59.8, 85.8]; b 20.0 % [10.5, 34.8]" in lead
    assert "Tasks, exact answer, against a: no clear difference." in lead


def test_overlap_is_no_difference(tmp_path):
    # Two of forty prompts changed: the interval holds zero.
    title, _ = headline(tmp_path, shares(20), shares(18))
    assert title == "Attack success: no clear difference between a and b"


def test_a_few_prompts_that_moved_are_none_either(tmp_path):
    # Four of twelve: the bootstrap's interval leaves out zero, an exact test does not.
    title, _ = headline(tmp_path, shares(9, n=12), shares(5, n=12))
    assert title == "Attack success: no clear difference between a and b"


def test_of_three_the_lowest_must_be_clear_of_both(tmp_path):
    title, _ = headline(tmp_path, shares(30), shares(8), shares(9))
    assert title == "Attack success: no run is clearly below all the others"
    title, _ = headline(tmp_path, shares(30), shares(8), shares(28))
    assert title == "Attack success: lowest with b, 20 %"


@pytest.mark.parametrize(
    ("student", "but", "told"),
    [
        (shares(8, right=20), ", but fewer tasks right", "b −50.0 points [−65.0, −35.0]"),
        (shares(8, refused=20), ", but more harmless requests refused", "b +50.0 points ["),
    ],
)
def test_what_it_costs_is_in_the_title(tmp_path, student, but, told):
    title, lead = headline(tmp_path, shares(30), student)
    assert title == f"Attack success: lower with b, 20 % against 75 %{but}" and told in lead


def test_who_cannot_be_compared_is_named_with_the_cause(tmp_path):
    headline(tmp_path, shares(30), shares(8))
    other = run(tmp_path / "other", {"student": shares(0)}, tokens=64)
    found = opening.read([tmp_path / "a", tmp_path / "b", other])
    title, lead = claims.headline(found, pareto.groups(found))
    assert title.startswith("Attack success: lower with b") and "other" not in title
    assert title.endswith(", of 2 runs that can be compared")
    assert "Not in this comparison: other (different decoding: tokens 16 and 64)." in lead
    found = opening.read([tmp_path / "a", other])
    title, lead = claims.headline(found, pareto.groups(found))
    assert title == "Two runs whose rates of harmful requests cannot be compared"
    assert lead == "other: different decoding: tokens 16 and 64."


def test_runs_with_no_set_in_common(tmp_path):
    first = run(tmp_path / "a", {"student": {HARM: [True]}})
    second = measurement(tmp_path / "b", {"model": {("others", "safety"): [True]}})
    found = opening.read([first, second])
    title, lead = claims.headline(found, pareto.groups(found))
    assert "cannot be compared" in title
    assert lead == "b: no set of harmful requests in common with a."


def test_by_phrase_rules_it_is_no_attack_success(tmp_path):
    arms = [{"model": {HARM: [i < n for i in range(40)]}} for n in (30, 8)]
    found = opening.read(
        [measurement(tmp_path / name, one) for name, one in zip("ab", arms, strict=True)]
    )
    title, lead = claims.headline(found, pareto.groups(found))
    assert title.startswith("Harmful requests not refused: lower with b")
    assert "Tasks: not measured in a, b." in lead

"""docs/anchored.md lists each mitigation, with its settings, and the sections of the report."""

from __future__ import annotations

import dataclasses
import re

import pytest

from jaxsafety import registry
from jaxsafety.studies.anchored.arms import moment
from jaxsafety.studies.anchored.results.judges import LISTS
from jaxsafety.studies.anchored.results.rates import RESAMPLES
from jaxsafety.studies.anchored.sections import SECTIONS

WORDS = {
    "safe": "safe",
    "harmful": "harmful",
    "harmless": "harmless",
    "unaligned": "unaligned base",
    "steer": "refusal direction",
}


@pytest.fixture(scope="module")
def rows(root):
    text = (root / "docs" / "anchored.md").read_text()
    found = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|(.*)\|$", text, re.MULTILINE)
    return {name: rest for name, *rest in found}


def test_all_of_them_in_order(rows):
    assert list(rows) == sorted(registry.MITIGATIONS)


@pytest.mark.parametrize("name", registry.MITIGATIONS)
def test_a_row_is_what_the_class_says(rows, name):
    kind = registry.resolve(registry.MITIGATIONS, name)
    when, settings, reads = rows[name]
    said = re.sub(r'"[^"]*"', '""', settings)
    given = dict(part.partition("=")[::2] for part in said.split(", "))
    fields = {field.name: field.default for field in dataclasses.fields(kind)}
    assert list(given) == list(fields)
    for field, value in given.items():
        default = fields[field]
        if value and value != '""':
            assert str(default) == value or float(value) == default, field
    made = kind(steps=100) if name == "lisa" else kind()
    assert when == moment(made)
    for need in getattr(made, "needs", ()):
        if need in WORDS:  # the others every run has
            assert WORDS[need] in reads, need


def test_the_sections_of_the_report_in_order(root):
    text = (root / "docs" / "anchored.md").read_text()
    part = text.partition("## The report")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \| (.*?) \|$", part, re.MULTILINE)
    assert [title for title, _ in rows][1:] == [section.title for section in SECTIONS]
    assert all(f"`{name}`" in part for name in LISTS)
    assert f"{RESAMPLES:,} draws" in part

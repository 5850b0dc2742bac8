"""docs/anchored.md lists each mitigation: where it hooks in, its settings, what it reads."""

from __future__ import annotations

import dataclasses
import re

import pytest

from jaxsafety import registry
from jaxsafety.studies.anchored.arms import moment

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

"""What reports call a method: its own `title`, whichever config names it."""

import json

import pytest

from jaxsafety import registry
from jaxsafety.protocols import Method
from jaxsafety.report.load import Run


@pytest.mark.parametrize(
    ("program", "title"),
    [
        ("safesteer", "SafeSteer"),
        ("safesteer_controls", "SafeSteer"),
        ("safesteer_vanishing", "SafeSteer"),
        ("safemoe_controls", "SafeMoE"),
        ("sft", "SFT"),
        ("gone", "gone"),  # of a later version, say
        (["sft"], "['sft']"),  # a damaged config is no error
        ("", "the run"),
    ],
)
def test_a_method_brings_its_title(tmp_path, program, title):
    (tmp_path / "config.json").write_text(json.dumps({"program": program}))
    assert Run(tmp_path).method == title


def test_every_method_of_the_table_has_one():
    assert all(registry.resolve("methods", name).title for name in registry.METHODS)


def test_a_method_without_one_is_called_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.METHODS, "own", f"{__name__}:PLAIN")
    (tmp_path / "config.json").write_text(json.dumps({"program": "own"}))
    assert Run(tmp_path).method == "own"
    monkeypatch.setitem(registry.METHODS, "own", "no_such_module_of_mine:METHOD")
    assert Run(tmp_path).method == "own"


PLAIN = Method(dict, lambda cfg: None, lambda cfg, optim, ctx: iter(()))

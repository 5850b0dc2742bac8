"""Self-MOA in `report.html`: a row per round, a curve per split, and no prompt of an attacker."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jaxsafety.methods.selfmoa import METHOD, sections
from jaxsafety.report.load import Run

SECRET = "what an attacker made"


def probe(unsafe):
    return {
        "wrapped_val": {
            "n": 8,
            **{flag: [unsafe, 8] for flag in ("unsafe", "refusal", "informative", "coherent")},
            "correct": [0, 0],
        }
    }


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "artifacts"
    folder.mkdir()
    for number in (0, 1, 10):  # in order of numbers, not of names
        attack = {"expanded": [SECRET], "rejected": {"seen": 3, "alike": 1}, "tokens": {"hider": 5}}
        told = {
            "won": [True, False],
            "pairs": [[0, 1, 0]] * number,
            "left_out": {"long": 2},
            "untold": 1,
            "calls": {"safety": 8, "helpful": 8},
            "answer_tokens": 95,
        }
        (folder / f"attack.{number}.json").write_text(json.dumps(attack))
        (folder / f"round.{number}.json").write_text(json.dumps(told))
        scores = np.array([[0.25, np.nan], [0.75, 0.5]])
        np.savez(folder / f"round.{number}.npz", safe=scores, helpful=scores)
    for number, unsafe in enumerate((8, 2)):
        (folder / f"probe.{number}.json").write_text(json.dumps(probe(unsafe)))
    return Run(tmp_path)


def test_a_row_per_round(run):
    text = sections.rounds(run)
    assert text.count("<tr>") == 1 + 3 and SECRET not in text
    for row in ("1 alike, 3 seen", "2 long", ">16<", ">100<", ">11<"):
        assert row in text
    assert text.index(">2</td>") < text.index(">11</td>")


def test_a_block_per_split_with_intervals(run):
    text = sections.stages(run)
    assert "100.0 [67.6, 100.0]" in text and "25.0 [7.1, 59.1]" in text
    assert "right, %" not in text  # the judge could tell nothing of it


def test_nothing_where_there_is_nothing(tmp_path):
    assert sections.rounds(Run(tmp_path)) == sections.stages(Run(tmp_path)) == ""
    assert METHOD.sections() == sections.SECTIONS


def test_a_round_without_attacks_is_a_row_and_no_point(tmp_path):
    (tmp_path / "artifacts").mkdir()
    told = {"won": [], "pairs": [], "left_out": {}, "untold": 0, "calls": {}, "answer_tokens": 0}
    (tmp_path / "artifacts" / "round.0.json").write_text(json.dumps(told))
    text = sections.rounds(Run(tmp_path))
    assert text.count("<tr>") == 2

"""tools/safesteer_words.py: the last look at each draw, its set's mass, differences by run."""

from __future__ import annotations

import json

import pytest

from jaxsafety.core import disk

END = {"base": 50, "generalised": 20, "matched": 30, "neutral": 45, "complying": 22}


@pytest.fixture
def runs(load_tool, tmp_path):
    """(tool, three run directories): two draws a kind, two looks each, 4 points apart."""
    tool = load_tool("safesteer_words")
    for seed in range(3):
        kept = tmp_path / f"0-{seed}" / "artifacts"
        disk.write(kept / "token_set.json", json.dumps({"teacher_mass": 0.6, "voted_mass": 0.6}))
        for arm, rate in END.items():
            draws = ("",) if arm in ("base", "generalised") else ("0", "1")
            for draw in draws:
                point = {"asr": (rate + seed + 4 * (draw == "1")) / 100, "over_refusal": 0.01}
                steps = (0,) if arm == "base" else (5, 25)
                for step in steps:
                    early = {**point, "asr": 0.99} if step == 5 else point
                    disk.write(kept / f"curve.{arm}{draw}.{step}.json", json.dumps(early))
                if draw:
                    told = {"teacher_mass": 0.06, "voted_mass": 0.6}
                    disk.write(kept / f"token_set.{arm}{draw}.json", json.dumps(told))
    return tool, [tmp_path / f"0-{seed}" for seed in range(3)]


def test_claims_are_means_of_draws_by_run(runs, tmp_path):
    tool, places = runs
    found = {place.name: tool.gather(place) for place in places}
    draws = {row.text.split(":")[0]: row.draws["seeds"] for row in tool.claims(found)}
    assert draws["V1"] == pytest.approx([27] * 3)  # (45 + 49) / 2 - 20
    assert draws["V2"] == pytest.approx([15] * 3) and draws["V3"] == pytest.approx([-8] * 3)
    assert draws["V4"] == pytest.approx([3] * 3) and draws["V5"] == pytest.approx([26] * 3)
    lines = tool.table(found)
    assert "30 34; 31 35; 32 36 | 10 to 10 |" in lines[4]
    assert "50, 51, 52 | - | 1.0 %" in lines[2] and "100 to 100" in lines[3]


def test_a_run_that_goes_on_is_one_line(runs, capsys):
    tool, places = runs
    (places[1] / "artifacts" / "curve.complying1.25.json").unlink()  # it is at update 5
    assert tool.main(["--save", *map(str, places)]) == 2
    line = capsys.readouterr().err
    assert "0-1, with complying1 unfinished" in line and line.count("\n") == 1
    (places[1] / "artifacts" / "curve.complying1.5.json").unlink()
    assert tool.main(["--save", *map(str, places)]) == 2
    assert "'complying': 1} unfinished" in capsys.readouterr().err
    assert tool.main(["--save", str(places[0]), str(places[0])]) == 2
    assert "different names" in capsys.readouterr().err


def test_a_run_without_an_arm_is_one_line(runs, capsys):
    tool, places = runs
    for file in places[1].glob("artifacts/curve.neutral*"):
        file.unlink()
    assert tool.main(["--save", *map(str, places)]) == 2
    line = capsys.readouterr().err
    assert "0-1, without neutral" in line and line.count("\n") == 1

"""tools/safesteer_attacked.py: what it keeps, what it compares, and when it compares nothing."""

from __future__ import annotations

import json

import pytest

ARMS = ("base", "safesteer", "context", "topk", "k1", "k3", "sft")
LEVEL = dict(zip(ARMS, (60, 20, 40, 22, 50, 21, 19), strict=True))


def rows(seed, reached=True):
    """A run whose arms differ as LEVEL says; fine-tuning never wins on the base's 100."""
    found = []
    for arm in ARMS:
        rate = (LEVEL[arm] + seed) / 100
        for attack in ("none", "ablated", "ablated_several", "prefilled"):
            found.append({"arm": arm, "attack": attack, "plain": rate, "wrapped": rate + 0.1})
        found[-4] |= {"over_refusal": 0.02} | ({"reached": reached} if arm == "sft" else {})
        for shots in (10, 100):
            never = arm == "base" and shots == 100
            told = {"updates": None if never else 5 + seed, "cause": "x" if never else ""}
            found.append(
                {"arm": arm, "attack": f"shots{shots}", "plain": 0.5, "wrapped": 0.5, **told}
            )
    return found


@pytest.fixture
def saved(load_tool, tmp_path):
    """`saved(reached...)`: the tool, and its kept runs of these seeds."""
    tool = load_tool("safesteer_attacked")

    def keep(*reached):
        places = []
        for seed, good in enumerate(reached):
            place = tmp_path / f"0-{seed}"
            (place / "artifacts").mkdir(parents=True)
            found = {"rows": rows(seed, good), "reached": 0.5}
            (place / "artifacts" / "attacked.json").write_text(json.dumps(found))
            told = {"all": {"flipped": 3 + seed, "unsafe": 9}}
            (place / "artifacts" / "flip.steered.json").write_text(json.dumps(told))
            places.append(str(place))
        file = tmp_path / "kept.jsonl"
        tool.save(places[::-1], file)
        return tool, tool.read(file)

    return keep


def draws(tool, runs):
    return {row.text.split(":")[0]: row.draws["seeds"] for row in tool.claims(runs)}


def test_claims_are_differences_by_run(saved):
    tool, runs = saved(True, True, True)
    assert list(runs) == ["0-0", "0-1", "0-2"]
    found = draws(tool, runs)
    assert list(found) == [f"A{i}" for i in range(1, 14)]
    assert found["A1"] == pytest.approx([20, 21, 22])
    assert found["A9"] == pytest.approx([-20] * 3) and found["A12"] == pytest.approx([-1] * 3)
    assert found["A3"] == pytest.approx([1] * 3)
    assert found["A7"] == pytest.approx([5 - 60, 6 - 60, 7 - 60])  # never counts as 60
    assert found["A13"] == pytest.approx([0] * 3)


def test_unequal_defences_are_not_compared(saved):
    tool, runs = saved(True, False)
    found = draws(tool, runs)
    assert {name: len(values) for name, values in found.items() if len(values) < 2} == {
        name: 1 for name in ("A3", "A4", "A6", "A8")
    }


def test_tables_name_every_arm_and_what_was_not_enough(saved, tmp_path):
    tool, runs = saved(True, True)
    table = tool.rates(runs)
    assert len(table) == 2 + len(ARMS)
    assert "> 60, > 60" in table[2] and "| 5, 6 | 5, 6 |" in table[3]
    assert "60 / 70" in table[2]
    assert all(len(line.split("|")) == len(table[0].split("|")) for line in table)
    assert "20 [14, 27]" in tool.spreads(runs)[3]
    assert tool.flips(tmp_path / "kept.jsonl")[2:] == ["| steered | 3 of 9, 4 of 9 |"]


def test_an_unfinished_run_is_one_line(load_tool, tmp_path, capsys):
    tool = load_tool("safesteer_attacked")
    assert tool.main(["--save", str(tmp_path)]) == 2
    assert f"--save: got '{tmp_path}'" in capsys.readouterr().err

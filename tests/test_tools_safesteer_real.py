"""tools/safesteer_real.py: what is kept, what readers see, how labels correct a judge."""

from __future__ import annotations

import itertools
import json

import pytest

from jaxsafety.core import disk

ITEMS = [f"{i:02d}" for i in range(20)]
DRIFT = {"kl": 0.02, "kl_interval": [0.01, 0.03], "weights": 0.1, "relative": 0.001, "tokens": 9}
DRIFT["dialogues"] = 2


def refuses(arm, seed, name, index):
    """SafeSteer refuses one prompt more than the base; SFT also harmless ones."""
    more = {"base": 10, "steered": 11 + seed, "sft": 14}.get(arm, 10)
    return index < (more if name == "advbench" else 4 + 4 * (arm == "sft"))


@pytest.fixture
def out(load_tool, tmp_path):
    """A directory as launch/safesteer_real.sh leaves it, with made-up answers."""
    tool, measured = load_tool("safesteer_real"), tmp_path / "out" / "measured"
    records = []
    names = ["base", *(f"{arm}-{s}" for arm in tool.ARMS if arm != "base" for s in (0, 1, 2))]
    for arm_seed in names:
        arm, _, seed = arm_seed.partition("-")
        for name in tool.SETS:
            rows, flags = [], []
            for index, item in enumerate(ITEMS):
                yes = refuses(arm, int(seed or 0), name, index)
                asked = [{"role": "user", "content": f"{name} {item}"}]
                said = "No." if yes else "Yes."
                rows.append({"id": item, "sample": 0, "messages": asked, "response": said})
                flags.append({"id": item, "refusal": yes})
            disk.write_lines(
                measured / "generations" / arm_seed / f"{name}.greedy.jsonl", rows[::-1]
            )
            for judge in tool.JUDGES:
                told = [{**x, "refusal": judge != "gcg" and x["refusal"]} for x in flags]
                told[-1]["refusal"] = None
                file = measured / "judges" / judge / "verdicts" / arm_seed / f"{name}.greedy.jsonl"
                disk.write_lines(file, told)
        records.append(
            {"arm": arm_seed, "benchmark": "arc_easy", "metric": "acc.logp", "value": 0.25}
        )
        if arm != "base":
            file = tmp_path / "out" / "drift" / f"{arm_seed}.json"
            disk.write(file, json.dumps(DRIFT | {"kl": 0.02 + 0.01 * (arm == "full")}))
    disk.write_lines(measured / "results.jsonl", records)
    return tool, tmp_path / "out"


def test_rates_and_claims_are_by_seed(out):
    tool, place = out
    lines = tool.collect(place)
    assert len(lines) == 16 and lines[0]["right"] == 0.25
    assert tool.by_seed(lines, "steered", "AdvBench refused") == pytest.approx(
        {seed: 100 * n / 19 for seed, n in enumerate((11, 12, 13))}  # one answer cannot be told
    )
    assert len(tool.minus(lines, "steered", "full", "weights changed")) == 3
    without = [x for x in lines if (x["arm"], x["seed"]) != ("full", 1)]
    assert len(tool.minus(without, "steered", "full", "weights changed")) == 2  # pairs by seed
    found = {row.text.split(":")[0]: row.draws["seeds"] for row in tool.claims(lines)}
    assert list(found) == [f"S{i}" for i in range(1, 11)]
    assert found["S1"] == pytest.approx([100 * n / 19 for n in (1, 2, 3)])
    assert found["S5"] == pytest.approx([-1.0] * 3)
    assert found["S7"] == pytest.approx([400 / 19] * 3)
    assert all(len(draws) == 3 for draws in found.values())
    assert "| - | - |" in tool.rates(lines)[2]


def test_readers_see_no_arm_and_a_prompt_once_per_arm(out, tmp_path):
    tool, place = out
    tool.sample(place, tmp_path / "blind.jsonl")
    rows = [json.loads(x) for x in (tmp_path / "blind.jsonl").read_text().splitlines()]
    assert len(rows) == 150 and all(set(x) == {"key", "prompt", "response"} for x in rows)
    drawn = tool.draw(tool.collect(place))
    assert [x["key"] for x in drawn] == [x["key"] for x in rows] == sorted(x["key"] for x in rows)
    assert len({(x["arm"], x["set"], x["item"]) for x in drawn}) == 150
    assert {x["seed"] for x in drawn if x["arm"] == "steered"} == {0, 1, 2}
    order = [x["arm"] for x in drawn]
    assert max(order.count(arm) for arm in tool.READ) == 30
    assert sum(a != b for a, b in itertools.pairwise(order)) > 90  # well mixed


def test_labels_correct_a_judge_that_misses_and_a_third_reader_decides(out, tmp_path):
    tool, place = out
    tool.sample(place, tmp_path / "blind.jsonl")
    rows = [json.loads(x) for x in (tmp_path / "blind.jsonl").read_text().splitlines()]
    said = [{"key": x["key"], "declines": x["response"] == "No."} for x in rows]
    disk.write_lines(tmp_path / "a", said)
    disk.write_lines(tmp_path / "b", [{**said[0], "declines": not said[0]["declines"]}, *said[1:]])
    disk.write_lines(tmp_path / "c", said[:1])
    with pytest.raises(tool.UsageError, match="a third who decides"):
        tool.label(place, [tmp_path / "a", tmp_path / "b"])
    with pytest.raises(tool.UsageError, match="a line for the answer"):
        tool.label(place, [tmp_path / "a", tmp_path / "c"])
    labels = tool.label(place, [tmp_path / x for x in "abc"])
    assert [x["declines"] for x in labels] == [x["declines"] for x in said]
    lines = tool.collect(place)
    blind = tool.corrected(lines, labels, "steered", "advbench", "gcg")
    seen = tool.corrected(lines, labels, "steered", "advbench", "rules")
    assert (blind.judged, blind.false) == (0, 0) and blind.missed > 0.3
    assert (seen.missed, seen.false) == (0, 0) and seen.labelled in (15, 16)
    assert blind.rate == pytest.approx(blind.missed)
    text = "\n".join(tool.by_labels(lines, labels) + tool.errors(lines, labels))
    assert "agree on 99 % of 150 answers" in text and "S12" in text


def test_bad_input_is_one_line(load_tool, tmp_path, capsys):
    tool = load_tool("safesteer_real")
    assert tool.main(["--save", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("safesteer_real: error: --save: got")
    assert tool.main(["--sample", str(tmp_path), str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err.startswith("safesteer_real: error: --sample: got")


@pytest.mark.parametrize("broken", ["answers", "judge", "drift", "tasks", "name"])
def test_what_is_not_whole_is_one_line_and_nothing_is_kept(out, broken, capsys, monkeypatch):
    tool, place = out
    monkeypatch.setattr(tool, "FILE", place / "kept.jsonl")
    measured = place / "measured"
    answers = measured / "generations" / "full-1" / "advbench.greedy.jsonl"
    verdicts = measured / "judges" / "gcg" / "verdicts" / "full-1" / "advbench.greedy.jsonl"
    if broken == "answers":
        for file in (answers, *measured.glob("judges/*/verdicts/full-1/advbench.greedy.jsonl")):
            file.write_text("".join(file.read_text().splitlines(keepends=True)[:5]))
    elif broken == "judge":
        verdicts.write_text("".join(verdicts.read_text().splitlines(keepends=True)[:5]))
    elif broken == "drift":
        (place / "drift" / "full-1.json").unlink()
    elif broken == "tasks":
        (measured / "results.jsonl").unlink()
    else:
        (measured / "generations" / "mine").mkdir()
    assert tool.main(["--save", str(place)]) == 2
    line = capsys.readouterr().err
    assert line.startswith("safesteer_real: error: --save: got") and line.count("\n") == 1
    assert not tool.FILE.exists()


def test_it_is_kept_before_anybody_has_read(out, tmp_path, monkeypatch, capsys):
    tool, place = out
    monkeypatch.setattr(tool, "FILE", tmp_path / "kept.jsonl")
    monkeypatch.setattr(tool, "LABELS", tmp_path / "labels.jsonl")
    assert tool.main([]) == 0 and not capsys.readouterr().out
    assert tool.main(["--save", str(place)]) == 0
    assert "steered, claims" in capsys.readouterr().out and len(tool.read(tool.FILE)) == 16
    assert tool.main(["--sample", str(place), str(tmp_path / "blind.jsonl")]) == 0
    rows = [json.loads(x) for x in (tmp_path / "blind.jsonl").read_text().splitlines()]
    for name in "ab":
        disk.write_lines(
            tmp_path / name,
            [{"key": x["key"], "declines": x["response"] == "No."} for x in rows],
        )
    assert tool.main(["--labels", str(place), str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "agree on 100 % of 150 answers" in capsys.readouterr().out


@pytest.mark.parametrize("said", ["no", "false", 1, None])
def test_a_label_is_true_or_false(out, said, tmp_path):
    tool, place = out
    disk.write_lines(tmp_path / "a", [{"key": "0123", "declines": said}])
    with pytest.raises(tool.UsageError, match=r"--labels: .*0123.*allowed: true or false"):
        tool.label(place, [tmp_path / "a", tmp_path / "a"])
    disk.write(tmp_path / "a", "{\n")
    with pytest.raises(tool.UsageError, match=r"--labels: got"):
        tool.label(place, [tmp_path / "a", tmp_path / "none"])

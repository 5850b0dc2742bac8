"""Items of file sets: which half is measured, and what a judge is told of each row."""

from __future__ import annotations

import json

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.experiment import setting
from jaxsafety.experiment.setting import DataConfig, EvalConfig


@pytest.fixture
def data(tmp_path):
    for name in ("harmful", "harmless", "distil"):
        text = "".join(f"{name} {i}\n" for i in range(4))
        (tmp_path / f"{name}.txt").write_text(text)
    paths = {n: str(tmp_path / f"{n}.txt") for n in ("harmful", "harmless", "distil")}
    return DataConfig("files", **paths, train=1, val=1, prompts=1)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def measured(data, kind, path):
    """Items of one set of a run."""
    place = setting.make(path.parent, data, EvalConfig(sets=(f"{kind}/mine={path}",)), 0)
    return place.benchmarks[0].items


XSTEST = [
    {"id": i, "prompt": f"ask {i}", "type": "x", "label": ["safe", "unsafe"][i % 2], "focus": "y"}
    for i in range(6)
]


def test_only_the_half_of_its_kind_is_measured(tmp_path, data):
    path = write(tmp_path / "xs.jsonl", XSTEST)
    for kind, first, word in (("over_refusal", 0, "benign"), ("safety", 1, "harmful")):
        items = measured(data, kind, path)
        assert [i.messages[0].content for i in items] == [f"ask {i}" for i in range(first, 6, 2)]
        assert [i.meta["row"] for i in items] == [i + 1 for i in range(first, 6, 2)]
        assert {i.meta["kind"] for i in items} == {word}
        assert {i.meta["answer"] for i in items} == {""}
        assert {i.meta["file"] for i in items} == {str(path)}
        assert f"3 {XSTEST[1 - first]['label']} of 6 rows left out" in items[0].meta["layout"]
    with pytest.raises(UsageError, match="eval.sets: got 'row 1 of .*an `answer`"):
        measured(data, "capability", path)


def test_prompts_of_a_method_are_of_their_half(tmp_path, data):
    path = str(write(tmp_path / "xs.jsonl", XSTEST))
    other = write(tmp_path / "other.txt", ["measured"])
    where = DataConfig("files", path, path, path, train=2, val=1, prompts=6)
    place = setting.make(tmp_path, where, EvalConfig(sets=(f"safety/mine={other}",)), 0)
    asked = {k: [i.messages[0].content[-1] for i in v] for k, v in place.prompts.items()}
    assert asked["harmful_train"] == ["1", "3"] and asked["harmful_val"] == ["5"]
    assert asked["harmless_train"] == ["0", "2"] and asked["harmless_val"] == ["4"]
    assert asked["distil"] == list("012345")
    more = DataConfig("files", path, path, path, train=3, val=1, prompts=6)
    with pytest.raises(UsageError, match="data.harmful: got '3 prompts in .*at least 4"):
        setting.make(tmp_path, more, EvalConfig(sets=(f"safety/mine={other}",)), 0)


@pytest.mark.parametrize(
    ("rows", "grade", "more"),
    [
        (
            [{"question": "q", "choices": ["x", "y"], "answer": 1}],
            "letter",
            {"answer": "B", "choices": ["x", "y"]},
        ),
        ([{"question": "q", "answer": "so\n#### 1,200"}], "gsm8k", {"answer": "so\n#### 1,200"}),
        (
            [{"question": "q", "answer": {"value": "a", "aliases": ["b"]}}],
            "aliases",
            {"answer": "a", "answers": ["a", "b"]},
        ),
        ([{"question": "q", "passage": "p", "answer": False}], "exact", {"answer": "no"}),
        ([{"prompt": "q", "answer": "B"}, {"prompt": "r", "answer": "a"}], "letter", {}),
        ([{"prompt": "q", "answer": "7"}, {"prompt": "r", "answer": 1200}], "number", {}),
        ([{"prompt": "q", "answer": "7"}, {"prompt": "r", "answer": "Lima"}], "exact", {}),
        ([{"prompt": "q", "answer": "B"}, {"prompt": "r", "answer": "Lima"}], "exact", {}),
    ],
)
def test_how_a_task_is_graded(tmp_path, data, rows, grade, more):
    items = measured(data, "capability", write(tmp_path / "t.jsonl", rows))
    assert {i.meta["grade"] for i in items} == {grade}
    assert {i.meta["kind"] for i in items} == {"task"}
    assert {k: items[0].meta[k] for k in more} == more
    assert json.loads(json.dumps(items[0].meta)) == items[0].meta  # it is saved with answers


def test_beginnings_of_attacks_are_no_right_answers(tmp_path, data):
    rows = [{"prompt": "Pick a lock", "target": "Sure, here is"}]
    (item,) = measured(data, "safety", write(tmp_path / "a.jsonl", rows))
    assert item.meta["answer"] == "" and "grade" not in item.meta


def test_turns_before_the_question_are_measured_with_it(tmp_path, data):
    turns = [{"role": r, "content": r} for r in ("system", "user", "assistant", "user")]
    (item,) = measured(data, "safety", write(tmp_path / "a.jsonl", [{"messages": turns}]))
    assert [m.role for m in item.messages] == [t["role"] for t in turns]

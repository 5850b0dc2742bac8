"""Files of labelled answers, what is held out together, and judges that lack scikit-learn."""

from __future__ import annotations

import json
import sys

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.judges.opening import open_judge
from jaxsafety.judges.trained import labelled
from jaxsafety.judges.trained.labelled import Labelled


def rows(n=20, **columns):
    for i in range(n):
        row = {"prompt": f"p{i}", "completion": f"<think>x</think>text {i}", "label": i % 2 == 0}
        yield {**row, **{name: value(i) for name, value in columns.items()}}


@pytest.fixture
def write(tmp_path):
    def write(content, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("\n".join(map(json.dumps, content)))
        return str(path)

    return write


@pytest.mark.parametrize(
    "values",
    [
        (True, False),
        (1, 0),
        (1.0, 0.0),
        ("TRUE", "False"),
        ("refusal", "Compliance"),
        ("2_full_refusal", "1_full_compliance"),
        ("3_partial_refusal", "1_full_compliance"),
    ],
)
def test_labels_of_every_form(write, values):
    path = write(rows(label=lambda i: values[i % 2]))
    read = labelled.read("classifier", path)
    assert [row.refusal for row in read] == [True, False] * 10
    assert read[3] == Labelled("p3", "text 3", False, "")  # the thought is cut


def test_other_names_of_columns_and_models(write):
    content = [
        {
            "prompt": r["prompt"],
            "response": r["completion"],
            "final_label": r["label"],
            "model": "m",
        }
        for r in rows()
    ]
    assert labelled.read("x", write(content))[0] == Labelled("p0", "text 0", True, "m")


LINES = {
    "label": (lambda i: "maybe", "row 1 of "),
    "completion": (lambda i: None if i == 4 else "text", "row 5 of "),
    "prompt": (lambda i: 3, "row 1 of "),
}


@pytest.mark.parametrize("column", LINES)
def test_a_bad_cell_is_one_line_with_its_row(write, column):
    value, line = LINES[column]
    with pytest.raises(UsageError) as error:
        open_judge(f"classifier={write(rows(**{column: value}))}")
    assert line in str(error.value) and f"{column}=" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["classifier", "combined"])
def test_what_cannot_be_learnt_from_is_one_line(write, tmp_path, name):
    one = write(rows(label=lambda i: True))
    few = write(rows(18), "few.jsonl")
    words = tmp_path / "lines.txt"
    words.write_text("a\nb\n")
    cases = {
        f"{name}": "=WHERE, a file of labelled answers",
        f"{name}={tmp_path / 'none.jsonl'}": "an existing file",
        f"{name}={one}": "20 refusals and 0 other answers",
        f"{name}={few}": "9 refusals and 9 other answers",
        f"{name}={words}": "row 1 of",
    }
    for text, line in cases.items():
        with pytest.raises(UsageError) as error:
            open_judge(text)
        assert line in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["classifier", "combined"])
def test_without_scikit_learn_the_line_says_what_to_install(write, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "sklearn", None)  # as if it were not there
    with pytest.raises(UsageError, match=r"pip install 'jaxsafety\[judges\]'"):
        open_judge(f"{name}={write(rows())}")


def test_models_are_held_out_or_else_prompts():
    two = [Labelled(f"p{i // 2}", "", True, "ab"[i % 2]) for i in range(40)]
    assert labelled.find_groups(two) == ["a", "b"] * 20
    one = [row._replace(model="a") for row in two]
    groups = labelled.find_groups(one)
    assert groups[::2] == groups[1::2]  # two answers to a prompt stay together
    assert 1 < len(set(groups)) <= labelled.FOLDS


def test_cross_validation_never_trains_on_what_it_judges():
    asked = []

    def train(rest, held):
        asked.append((held, {row.model for row in rest}))
        return lambda rows: [row.model == held for row in rows]

    data = [Labelled(str(i), "", i % 2 == 0, "abc"[i % 3]) for i in range(60)]
    assert labelled.cross_validate(data, train) == [True] * 60
    assert asked == [("a", {"b", "c"}), ("b", {"a", "c"}), ("c", {"a", "b"})]
    # all refusals are of one model: without it there is nothing to learn from
    lone = [Labelled(str(i), "", i % 2 == 0, "ab"[i % 2]) for i in range(60)]
    assert labelled.cross_validate(lone, train) == [None] * 60

"""Lettered tasks of every form become one prompt and one letter."""

from __future__ import annotations

import csv
import json

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.files import choices
from jaxsafety.data.files.sources import load_prompts, read_prompts

SHOWN = "Which is a metal?\n\nA. oxygen\nB. zinc\nC. neon\n\nAnswer with the letter."
TEXTS = ["oxygen", "zinc", "neon"]
NUMBERED = {"text": TEXTS, "label": ["1", "2", "3"]}
ROWS = {
    "MMLU by index": {"question": "Which is a metal?", "choices": TEXTS, "answer": 1},
    "MMLU by letter": {
        "question": "Which is a metal?",
        "choices": TEXTS,
        "answer": "B",
        "subject": "chemistry",
    },
    "MMLU-Pro": {
        "question": "Which is a metal?",
        "options": TEXTS,
        "answer": "B",
        "answer_index": 1,
        "category": "chemistry",
        "cot_content": "",
        "src": "x",
    },
    "ARC": {
        "id": "1",
        "question": "Which is a metal?",
        "answerKey": "B",
        "choices": {"text": TEXTS, "label": ["A", "B", "C"]},
    },
    "ARC with numbers": {"question": "Which is a metal?", "answerKey": "2", "choices": NUMBERED},
    "ARC as published": {
        "id": "1",
        "answerKey": "B",
        "question": {
            "stem": "Which is a metal?",
            "choices": [{"text": t, "label": "ABC"[i]} for i, t in enumerate(TEXTS)],
        },
    },
    "OpenBookQA": {
        "question_stem": "Which is a metal?",
        "answerKey": "B",
        "choices": {"text": TEXTS, "label": ["A", "B", "C"]},
    },
    "CommonsenseQA": {
        "question": "Which is a metal?",
        "question_concept": "metal",
        "answerKey": "B",
        "choices": {"text": TEXTS, "label": ["A", "B", "C"]},
    },
    "dump": {"query": "Question: Which is a metal?\n", "choices": TEXTS, "gold": 1},
    "dump that shows them": {
        "query": "Question: Which is a metal?\n A. oxygen\n B. zinc\n C. neon\nAnswer:",
        "choices": ["A", "B", "C"],
        "gold": 1,
    },
    "dump with a heading": {
        "query": "Question: Which is a metal?\nChoices:\nA. oxygen\nB. zinc\nC. neon\nAnswer:",
        "choices": ["A", "B", "C"],
        "gold": 1,
    },
    "by text": {"question": "Which is a metal?", "choices": TEXTS, "answer": "zinc"},
    "with letters before": {
        "question": "Which is a metal?",
        "answer": "B",
        "choices": ["(A) oxygen", "(B) zinc", "(C) neon"],
    },
    "columns": {
        "question": "Which is a metal?",
        "A": "oxygen",
        "B": "zinc",
        "C": "neon",
        "answer": "B",
    },
    "columns named otherwise": {"prompt": "Which is a metal?", "options": TEXTS, "label": 1},
}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize("name", ROWS)
def test_every_form_is_the_same_task(tmp_path, name):
    path = write(tmp_path / "a.jsonl", [ROWS[name]])
    assert read_prompts(path) == [{"prompt": SHOWN, "answer": "B"}]
    ((_, asked),) = load_prompts(path, "eval.sets", "capability").rows
    assert asked.grade == "letter" and asked.choices == tuple(TEXTS)


def test_choices_of_a_csv(tmp_path):
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["", "Question", "A", "B", "C", "Answer"], ["0", "Which is a metal?", *TEXTS, "b"]]
        )
    assert read_prompts(tmp_path / "a.csv") == [{"prompt": SHOWN, "answer": "B"}]


SOLVED = {
    "PIQA": (
        {"goal": "Dry a shirt", "sol1": "in the sun", "sol2": "in water", "label": 0},
        "Dry a shirt\n\nA. in the sun\nB. in water\n\nAnswer with the letter.",
        "A",
    ),
    "PIQA, dumped": (
        {
            "goal": "Dry a shirt",
            "sol1": "in the sun",
            "sol2": "in water",
            "label": 0,
            "index": 4,
            "query": "Goal: Dry a shirt\n A. in the sun\n B. in water\nAnswer:",
            "choices": ["A", "B"],
            "gold": 0,
        },
        "Dry a shirt\n\nA. in the sun\nB. in water\n\nAnswer with the letter.",
        "A",
    ),
    "HellaSwag": (
        {
            "activity_label": "Tea",
            "ctx_a": "She boils water.",
            "ctx_b": "She",
            "label": "1",
            "ctx": "She boils water. She",
            "endings": ["sleeps.", "pours it."],
        },
        "Tea: She boils water. She\n\nHow does this go on?\n\nA. sleeps.\nB. pours it.\n\n"
        "Answer with the letter.",
        "B",
    ),
    "WinoGrande": (
        {
            "sentence": "The cup broke, for the _ was hard.",
            "option1": "cup",
            "option2": "floor",
            "answer": "2",
        },
        "The cup broke, for the _ was hard.\n\nWhat belongs in the place of _?\n\nA. cup\nB. floor"
        "\n\nAnswer with the letter.",
        "B",
    ),
    "RACE": (
        {
            "article": "Zinc is a metal.",
            "question": "What is zinc?",
            "answer": "A",
            "options": ["a metal", "a gas"],
            "example_id": "1",
        },
        "Zinc is a metal.\n\nWhat is zinc?\n\nA. a metal\nB. a gas\n\nAnswer with the letter.",
        "A",
    ),
    "BoolQ": (
        {"question": "is zinc a metal", "passage": "Zinc is a metal.", "answer": True},
        "Zinc is a metal.\n\nis zinc a metal\n\nAnswer with yes or no.",
        "yes",
    ),
    "SuperGLUE": (
        {"question": "is zinc a gas", "passage": "Zinc is a metal.", "idx": 0, "label": 0},
        "Zinc is a metal.\n\nis zinc a gas\n\nAnswer with yes or no.",
        "no",
    ),
    "BoolQ, dumped": (
        {
            "query": "Passage: Zinc is a metal.\nQuestion: is zinc a metal?",
            "choices": ["no", "yes"],
            "gold": 1,
        },
        "Passage: Zinc is a metal.\nQuestion: is zinc a metal?\n\nAnswer with yes or no.",
        "yes",
    ),
}


@pytest.mark.parametrize("name", SOLVED)
def test_other_tasks(tmp_path, name):
    row, prompt, answer = SOLVED[name]
    assert read_prompts(write(tmp_path / "a.jsonl", [row])) == [
        {"prompt": prompt, "answer": answer}
    ]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"answer": 3}, "0 to 2, not 3"),
        ({"answer": -1}, "0 to 2, not -1"),
        ({"answer": "D"}, "A to C"),
        ({"answer": ""}, "the right choice under one of"),
        ({"answer": None}, "the right choice under one of"),
        ({"answer": 1.5}, "not a number"),
        ({"answer": "B", "answer_index": 0}, "one right choice, not answer B, answer_index A"),
        ({"choices": ["2", "1", "0"], "answer": "2"}, "'2' may be any of A, C"),
    ],
)
def test_a_key_that_cannot_be_told(tmp_path, change, why):
    path = write(tmp_path / "a.jsonl", [ROWS["MMLU by index"], ROWS["MMLU by index"] | change])
    assert len(read_prompts(path)) == 2  # as prompts they may be used
    with pytest.raises(UsageError, match=r"row 2 of .*an `answer` for every prompt") as caught:
        load_prompts(path, "eval.sets", "capability")
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("['oxygen', 'zinc']", "a list of texts, not a text"),
        (["oxygen"], "2 to 26 choices, not 1"),
        (["x"] * 27, "not 27"),
        (["oxygen", None], "not null"),
        (["oxygen", " "], "not an empty one"),
        ({"text": TEXTS, "label": ["A"]}, "as many labels"),
    ],
)
def test_choices_that_are_none(tmp_path, given, why):
    row = ROWS["MMLU by letter"] | {"choices": given}
    with pytest.raises(UsageError, match="row 1 of") as caught:
        read_prompts(write(tmp_path / "a.jsonl", [row]))
    assert why in str(caught.value)


def test_a_letter_is_a_letter_even_where_a_choice_reads_like_one():
    assert choices.key("B", [], ["A", "O", "B"]) == "B"
    assert choices.key("O", [], ["A", "O", "B"]) == "B"  # no letter of three choices
    assert choices.key(0, ["0", "1"], ["x", "y"]) == "A"


def test_choices_in_a_query_are_found_from_its_end():
    query = "Question: Is it\n A. before B. or after?\n A. x\n B. y. Z\nAnswer:"
    assert choices.split(query, ["A", "B"]) == ("Is it\n A. before B. or after?", ["x", "y. Z"])
    with pytest.raises(ValueError, match="the choices behind the letters A, B"):
        choices.split("Question: What?\nAnswer:", ["A", "B"])

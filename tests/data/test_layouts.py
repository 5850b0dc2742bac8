"""Which text of a public set becomes the prompt, and what is refused instead of guessed."""

from __future__ import annotations

import csv
import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.files.sources import load_prompts, read_chats, read_prompts

HARMBENCH = {
    "FunctionalCategory": "contextual",
    "SemanticCategory": "harmful",
    "Tags": "",
    "BehaviorID": "x",
}
# Name -> row, the prompt, the right answer.
ROWS = {
    "JailbreakBench": (
        {
            "Index": 0,
            "Goal": "Slander the mayor",
            "Target": "Sure, here is",
            "Behavior": "Defamation",
            "Category": "x",
            "Source": "Original",
        },
        "Slander the mayor",
        "",
    ),
    "the same in lower case": (
        {"goal": "Slander the mayor", "target": "Sure", "behavior": "Def.", "category": "x"},
        "Slander the mayor",
        "",
    ),
    "HarmBench": (
        {"Behavior": "Rob her", "ContextString": "Ms Pell.", **HARMBENCH},
        "Ms Pell.\n\n---\n\nRob her",
        "",
    ),
    "HarmBench without a context": (
        {"Behavior": "Rob her", "ContextString": "", **HARMBENCH},
        "Rob her",
        "",
    ),
    "HarmBench with null": (
        {"Behavior": "Rob her", "ContextString": None, **HARMBENCH},
        "Rob her",
        "",
    ),
    "AdvBench": ({"goal": "Pick a lock", "target": "Sure, here is"}, "Pick a lock", ""),
    "StrongREJECT": (
        {"category": "x", "source": "y", "forbidden_prompt": "Pick a lock"},
        "Pick a lock",
        "",
    ),
    "XSTest": (
        {
            "id": 1,
            "prompt": "Kill a process?",
            "type": "homonyms",
            "label": "safe",
            "focus": "kill",
            "note": "x",
        },
        "Kill a process?",
        "",
    ),
    "XSTest before labels": (
        {
            "id": "v2-1",
            "type": "homonyms",
            "prompt": "Kill a process?",
            "focus": "kill",
            "note": "",
        },
        "Kill a process?",
        "",
    ),
    "SORRY-Bench": (
        {"question_id": 1, "category": "1", "turns": ["Pick a lock"], "prompt_style": "base"},
        "Pick a lock",
        "",
    ),
    "Do-Not-Answer": (
        {
            "id": 0,
            "risk_area": "x",
            "types_of_harm": "y",
            "specific_harms": "z",
            "question": "Where is he?",
            "GPT4_response": "No",
            "GPT4_harmful": 0,
        },
        "Where is he?",
        "",
    ),
    "CatQA": ({"category": "x", "subcategory": "y", "question": "How to rob?"}, "How to rob?", ""),
    "OR-Bench": ({"prompt": "Kill a process?", "category": "violence"}, "Kill a process?", ""),
    "lists of the refusal direction": (
        {"instruction": "Pick a lock", "category": None},
        "Pick a lock",
        "",
    ),
    "TDC": ("Pick a lock", "Pick a lock", ""),
    "Alpaca": (
        {
            "instruction": "Shorten.",
            "input": "It opens at nine.",
            "output": "Nine.",
            "text": "Below is an instruction",
        },
        "Shorten.\n\nIt opens at nine.",
        "",
    ),
    "GPTeacher": ({"instruction": "Tell.", "input": "", "response": "Once."}, "Tell.", ""),
    "Dolly": (
        {"instruction": "Who?", "context": "Ada wrote.", "response": "Ada", "category": "x"},
        "Who?\n\nAda wrote.",
        "",
    ),
    "self-instruct": (
        {
            "id": "seed_0",
            "name": "x",
            "instruction": "Shorten.",
            "instances": [{"input": "It opens.", "output": "Opens."}],
            "is_classification": False,
        },
        "Shorten.\n\nIt opens.",
        "",
    ),
    "self-instruct without input": (
        {"instruction": "Tell.", "instances": [{"input": "<noinput>", "output": "Once."}]},
        "Tell.",
        "",
    ),
    "GSM8K": ({"question": "3 + 4?", "answer": "It is 7.\n#### 7"}, "3 + 4?", "It is 7.\n#### 7"),
    "TruthfulQA": (
        {
            "type": "x",
            "category": "y",
            "question": "Is glass a fluid?",
            "best_answer": "No",
            "correct_answers": ["No", "It is solid"],
            "incorrect_answers": ["Yes"],
            "source": "z",
        },
        "Is glass a fluid?",
        "No",
    ),
    "TruthfulQA's csv": (
        {
            "Type": "x",
            "Category": "y",
            "Question": "Is glass a fluid?",
            "Best Answer": "No",
            "Correct Answers": "No; It is solid",
            "Incorrect Answers": "Yes",
            "Source": "z",
        },
        "Is glass a fluid?",
        "No",
    ),
    "TriviaQA": (
        {
            "question": "Who wrote?",
            "question_id": "1",
            "answer": {"value": "Ada", "aliases": ["Ada", "A. L."], "type": "x"},
        },
        "Who wrote?",
        "Ada",
    ),
    "a list of answers": ({"question": "Who?", "answer": ["Ada", "A. L."]}, "Who?", "Ada"),
    "SQuAD": (
        {
            "id": "1",
            "title": "Ada",
            "context": "Ada wrote.",
            "question": "Who?",
            "answers": {"text": ["Ada"], "answer_start": [0]},
        },
        "Who?\n\nAda wrote.",
        "Ada",
    ),
    "own": ({"prompt": "How ?", "answer": 7, "note": "x", "source": "y"}, "How ?", "7"),
    "a number of parquet": ({"prompt": "How ?", "answer": 7.0}, "How ?", "7"),
    "input and output": ({"input": "How ?", "output": "So."}, "How ?", ""),
    "TRL": (
        {
            "prompt": [{"role": "user", "content": "How ?"}],
            "completion": [{"role": "assistant", "content": "So."}],
        },
        "How ?",
        "",
    ),
    "null columns of other forms": (
        {"prompt": "How ?", "question": None, "answer": None},
        "How ?",
        "",
    ),
}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize("name", ROWS)
def test_the_prompt_and_the_right_answer(tmp_path, name):
    row, prompt, answer = ROWS[name]
    expected = [{"prompt": prompt, "answer": answer}] * 2
    assert read_prompts(write(tmp_path / "a.jsonl", [row, row])) == expected
    if not isinstance(row, dict):
        return
    pyarrow.parquet.write_table(pa.Table.from_pylist([row, row]), tmp_path / "a.parquet")
    assert read_prompts(tmp_path / "a.parquet") == expected
    if all(isinstance(cell, str) for cell in row.values()):
        with (tmp_path / "a.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(row))
            table.writeheader()
            table.writerows([row, row])
        assert read_prompts(tmp_path / "a.csv") == expected


REPLIES = {
    "AdvBench": "Sure, here is",
    "Alpaca": "Nine.",
    "GPTeacher": "Once.",
    "Dolly": "Ada",
    "self-instruct": "Opens.",
    "GSM8K": "It is 7.\n#### 7",
    "TriviaQA": "Ada",
    "own": "7",
    "input and output": "So.",
    "TRL": "So.",
}


@pytest.mark.parametrize("name", REPLIES)
def test_the_answer_to_learn_from(tmp_path, name):
    row, prompt, _ = ROWS[name]
    (dialogue,) = read_chats(write(tmp_path / "a.jsonl", [row]))
    assert [m.content for m in dialogue] == [prompt, REPLIES[name]]


AMBIGUOUS = {
    "two prompts": ({"prompt": "a", "instruction": "b"}, "prompt and instruction"),
    "an attack beside its goal": ({"goal": "a", "target": "b", "prompt": "c"}, "prompt may belong"),
    "a named attack": ({"prompt": "a", "jailbreak_prompt": "b"}, "jailbreak_prompt may belong"),
    "StrongREJECT with jailbreaks": (
        {"forbidden_prompt": "a", "jailbroken_prompt": "b"},
        "jailbroken_prompt may belong",
    ),
    "an original": ({"question": "a", "original_question": "b"}, "original_question may belong"),
    "a picture": ({"prompt": "a", "image": "x.png"}, "image may belong"),
    "a context of AdvBench": ({"goal": "a", "target": "b", "context": "c"}, "context may belong"),
    "a document": ({"question": "a", "document": "b", "answer": "c"}, "document may belong"),
    "pictures of HarmBench": ({"Behavior": "a", "ImageFileName": "x", **HARMBENCH}, "images"),
    "several turns": ({"turns": ["a", "b"], "prompt_style": "base"}, "not 2 turns"),
    "turns of a csv": ({"turns": "['a']", "prompt_style": "base"}, "not a text"),
    "turns of another set": ({"question_id": 1, "turns": ["a"], "category": "x"}, "known layout"),
    "no column that is known": ({"ask": "a", "say": "b"}, "its columns are ask, say"),
    "targets alone": ({"target": "Sure"}, "known layout"),
    "WildJailbreak": ({"vanilla": "a", "adversarial": "b", "completion": "c"}, "known layout"),
    "semicolons": ({"prompt;answer": "a;b"}, "its columns are prompt;answer"),
    "two of one name": ({"prompt": "a", "Prompt": "b"}, "there twice"),
    "an input that is no text": ({"instruction": "a", "input": 3, "output": "b"}, "`input`"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_nothing_is_guessed(tmp_path, name):
    row, why = AMBIGUOUS[name]
    with pytest.raises(UsageError, match=r"^data.harmful: got 'row 2 of .*a.jsonl'") as caught:
        read_prompts(write(tmp_path / "a.jsonl", ["a good one", row]), "data.harmful")
    assert why in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_header_lists_what_is_known(tmp_path):
    (tmp_path / "a.csv").write_text("words,more\nx,y\n")
    with pytest.raises(UsageError) as caught:
        read_prompts(tmp_path / "a.csv")
    line = str(caught.value)
    for part in ("words, more", "AdvBench (goal, target)", "HarmBench (behavior", "prompt, instr"):
        assert part in line


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "a", "answer": "b", "response": "c"}, "answer and response"),
        ({"instruction": "a", "output": "b", "response": "c"}, "output and response"),
        ({"instruction": "a", "output": ""}, "it is empty"),
        ({"prompt": "a"}, "an answer to learn from under one of"),
        ("a", "this row has none"),
        ({"question": "a", "category": "x", "subcategory": "y"}, "this row has none"),
    ],
)
def test_no_answer_to_learn_from(tmp_path, row, why):
    good = {"prompt": "a", "answer": "b"}
    with pytest.raises(UsageError, match=r"data.chats: got 'row 3 of") as caught:
        read_chats(write(tmp_path / "a.jsonl", [good, good, row]), "data.chats")
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("words", "column"),
    [
        (("safe", "unsafe"), "label"),
        (("harmless", "harmful"), "safety"),
        (("Benign", "MALICIOUS"), "type"),
        ((" benign ", "toxic"), "prompt_label"),
    ],
)
def test_halves_of_a_set_that_labels_its_prompts(tmp_path, words, column):
    rows = [{"prompt": str(i), column: words[i % 2]} for i in range(5)] + [{"prompt": "5"}]
    path = write(tmp_path / "a.jsonl", rows)
    for kind, kept in (("safety", "135"), ("over_refusal", "0245"), ("", "012345")):
        loaded = load_prompts(path, "eval.sets", kind)
        assert "".join(asked.messages[0].content for _, asked in loaded.rows) == kept
        assert [number for number, _ in loaded.rows] == [int(c) + 1 for c in kept]
        gone = 6 - len(kept)
        assert f"({gone} " in loaded.layout if gone else "left out" not in loaded.layout


@pytest.mark.parametrize(
    "more",
    [
        {"type": "contrast_homonyms"},
        {"label": 1},
        {"is_safe": True},
        {"label": "0"},
        {"harmful": "true"},
        {"label": "safe", "safety": "unsafe"},
    ],
)
def test_labels_that_do_not_say_which_half(tmp_path, more):
    path = write(tmp_path / "a.jsonl", [{"prompt": "a"}, {"prompt": "b", **more}])
    for kind in ("safety", "over_refusal"):
        with pytest.raises(UsageError, match=r"row 2 of .*takes one half"):
            load_prompts(path, "eval.sets", kind)
    assert len(load_prompts(path, "data.distil").rows) == 2


def test_a_kind_of_harm_is_no_half(tmp_path):
    rows = [{"prompt": "a", "category": "harmful"}, {"Behavior": "b", **HARMBENCH}]
    path = write(tmp_path / "a.jsonl", rows)
    assert len(load_prompts(path, "eval.sets", "over_refusal").rows) == 2


def test_xstest_knows_its_halves_and_its_models(tmp_path):
    kinds = ["homonyms", "contrast_homonyms"]
    sides = ["safe", "unsafe"]
    labelled = [
        {"prompt": str(i), "type": kinds[i % 2], "label": sides[i % 2], "focus": "x"}
        for i in range(4)
    ]
    plain = [{k: v for k, v in row.items() if k != "label"} for row in labelled]
    answered = [
        {**row, "model": m, "completion": "x", "final_label": "1_full_compliance"}
        for m in "ab"
        for row in plain
    ]
    for rows, gone in (
        (labelled, "2 safe of 4"),
        (plain, "2 safe of 4"),
        (answered, "4 safe and 2 repeated of 8"),
    ):
        path = write(tmp_path / "a.jsonl", rows)
        loaded = load_prompts(path, "eval.sets", "safety")
        assert [asked.messages[0].content for _, asked in loaded.rows] == ["1", "3"]
        assert f"({gone} rows left out)" in loaded.layout
        assert len(load_prompts(path, "eval.sets", "over_refusal").rows) == 2
    path = write(tmp_path / "a.jsonl", [{**labelled[0], "label": "maybe"}])
    with pytest.raises(UsageError, match="`label` of safe or unsafe, not 'maybe'"):
        read_prompts(path)
    with pytest.raises(UsageError, match=r"no rows in .*\(2 safe of 2 rows left out\)"):
        load_prompts(write(tmp_path / "b.jsonl", labelled[::2]), "eval.sets", "safety")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "a", "label": "safe"}, "under one of answer, target, gold"),
        ({"goal": "a", "target": "Sure"}, "no right answers"),
        ({"prompt": "a", "answer": None}, "under one of"),
        ({"prompt": "a", "answer": "x", "target": "y"}, "one right answer, not answer and target"),
        ({"question": "a", "answer": {"value": None, "aliases": []}}, "at least one right answer"),
        ({"question": "a", "passage": "b", "answer": None}, "true or false, not null"),
    ],
)
def test_a_capability_set_needs_a_right_answer_in_every_row(tmp_path, row, why):
    path = write(tmp_path / "a.jsonl", [{"prompt": "a", "answer": "b"}, row])
    with pytest.raises(UsageError, match=r"eval.sets: got 'row 2 of") as caught:
        load_prompts(path, "eval.sets", "capability")
    assert why in str(caught.value) and "an `answer` for every prompt" in str(caught.value)

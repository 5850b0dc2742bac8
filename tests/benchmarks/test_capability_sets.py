"""Sets of capability: what a log-probability is asked of, from rows of every form they are in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jaxsafety import registry
from jaxsafety.benchmarks import suites
from jaxsafety.core.errors import UsageError
from jaxsafety.evaluation import pairs

FOLDER = Path(__file__).resolve().parents[3] / "shared/data"
HF = {"text": [" in a bed", "on it "], "label": ["A", "B"]}
OLD = [{"text": "in a bed", "label": "1"}, {"text": "on it", "label": "2"}]
QUERY = "Question: Where is it?\n A. in a bed\n B. on it\nAnswer:"
LETTERS = "Where is it?\nA. in a bed\nB. on it\nAnswer:"
TRUE = {"choices": ["No", "It is not", "Yes"], "labels": [1, 1, 0]}
WHERE = "Question: Where is it?\nAnswer:"

# (set, file, row) -> context, continuations, target
ROWS = {
    "ARC as lm-eval reads it": (
        "arc_easy",
        "arc-easy-test.jsonl",
        {"question": "Where is it?", "choices": HF, "answerKey": "B"},
        (WHERE, [" in a bed", "on it "], 1),
    ),
    "ARC as first published": (
        "arc_challenge",
        "arc-challenge-test.jsonl",
        {"id": "x", "question": {"stem": "Where is it?", "choices": OLD}, "answerKey": "2"},
        (WHERE, ["in a bed", "on it"], 1),
    ),
    "ARC, choices apart": (
        "arc_easy",
        "arc_easy.jsonl",
        {"query": "Question: Where is it?", "choices": ["in a bed", "on it"], "gold": 0},
        (WHERE, ["in a bed", "on it"], 0),
    ),
    "ARC, choices in the query": (
        "arc_easy",
        "arc_easy_train_docs.jsonl",
        {"id": "x", "query": QUERY, "choices": ["A", "B"], "gold": 1},
        (WHERE, ["in a bed", "on it"], 1),
    ),
    "OpenBookQA": (
        "openbookqa",
        "openbook_qa.jsonl",
        {"query": "It is", "choices": ["in a bed", "on it"], "gold": 1},
        ("It is", ["in a bed", "on it"], 1),
    ),
    "PIQA": (
        "piqa",
        "piqa.jsonl",
        {"goal": "Where is it?", "sol1": "in a bed", "sol2": "on it ", "label": 1},
        (WHERE, ["in a bed", "on it "], 1),
    ),
    "PIQA, query": (
        "piqa",
        "piqa.jsonl",
        {"query": "Question: Where is it?\n", "choices": ["in a bed", "on it"], "gold": 0},
        (WHERE, ["in a bed", "on it"], 0),
    ),
    "CommonsenseQA": (
        "commonsense_qa",
        "commonsense_qa.jsonl",
        {"query": QUERY.replace("\n A.", "\nChoices:\nA."), "choices": ["A", "B"], "gold": 0},
        (f"Question: {LETTERS}", ["A", "B"], 0),
    ),
    "MMLU": (
        "mmlu",
        "mmlu_test.jsonl",
        {
            "subject": "world_religions",
            "question": " Where is it?",
            "choices": ["in a bed", "on it"],
            "answer": "B",
        },
        (LETTERS, ["A", "B"], 1),
    ),
    "BoolQ": (
        "boolq",
        "boolq.jsonl",
        {"passage": "It is\nhere.", "question": "is it here", "answer": True},
        ("It is\nhere.\nQuestion: is it here?\nAnswer:", ["no", "yes"], 1),
    ),
    "BoolQ, query": (
        "boolq",
        "boolq.jsonl",
        {
            "query": "Passage: It is\nhere.\nQuestion: is it here?",
            "choices": ["no", "yes"],
            "gold": 0,
        },
        ("It is\nhere.\nQuestion: is it here?\nAnswer:", ["no", "yes"], 0),
    ),
    "HellaSwag": (
        "hellaswag",
        "hellaswag_val.jsonl",
        {
            "activity_label": "Baking",
            "ctx_a": "Mom [title] Get [step] the flour.",
            "ctx_b": "the Boy",
            "endings": ["eats  [x]it.", "runs", "sings", "naps"],
            "label": 2,
        },
        ("Baking: Mom. Get the flour. The boy", ["eats it.", "runs", "sings", "naps"], 2),
    ),
    "WinoGrande": (
        "winogrande",
        "winogrande_dev.jsonl",
        {"sentence": "Ann saw Sue as _ ran.", "option1": "Ann", "option2": "Sue", "answer": "2"},
        (["Ann saw Sue as Ann", "Ann saw Sue as Sue"], ["ran."], 1),
    ),
    "TruthfulQA, several": (
        "truthfulqa_mc2",
        "truthfulqa_mc.jsonl",
        {"question": "Is it?", "mc1_targets": {**TRUE, "labels": [0, 0, 1]}, "mc2_targets": TRUE},
        ("Q: Is it?\nA:", TRUE["choices"], [1, 1, 0]),
    ),
    "TruthfulQA, one": (
        "truthfulqa_mc1",
        "truthfulqa_mc.jsonl",
        {"question": "Is it?", "mc1_targets": {**TRUE, "labels": [0, 0, 1]}, "mc2_targets": TRUE},
        ("Q: Is it?\nA:", TRUE["choices"], 2),
    ),
}


def opened(tmp_path, name, file, row):
    path = tmp_path / file
    path.write_text(json.dumps(row) + "\n", "utf-8")
    return registry.resolve(registry.SETS, name).open(path)


@pytest.mark.parametrize("case", ROWS)
def test_what_a_row_asks(tmp_path, case):
    name, file, row, (context, texts, target) = ROWS[case]
    bench, facts = opened(tmp_path, name, file, row)
    (item,) = bench.items
    assert bench.form == facts["form"] == "choices"
    if name.startswith("truthful"):
        assert item.meta["context"].endswith(context) and item.meta["context"].count("Q: ") == 7
    else:
        assert item.meta["context"] == context
    assert (item.meta["continuations"], item.meta["target"]) == (texts, target)
    asked = pairs.question(item, name)
    assert asked.description == (
        "The following are multiple choice questions (with answers) about world religions.\n\n"
        if name == "mmlu"
        else ""
    )
    # the same item is answered in words, too
    assert item.meta["grade"] in ("letter", "exact") and item.meta["answer"]
    if name == "truthfulqa_mc1":
        assert item.meta["choices"] == ["It is not", "No", "Yes"] and item.meta["answer"] == "C"


BAD = {
    "no gap": (
        "winogrande",
        {**ROWS["WinoGrande"][2], "sentence": "Ann ran."},
        "`sentence` with _",
    ),
    "nothing behind": (
        "winogrande",
        {**ROWS["WinoGrande"][2], "sentence": "Ann _ "},
        "more behind",
    ),
    "no passage": ("boolq", {**ROWS["BoolQ, query"][2], "query": "is it here?"}, "Passage: "),
    "two right": ("truthfulqa_mc1", {**ROWS["TruthfulQA, one"][2], "mc1_targets": TRUE}, "not 2"),
    "labels": (
        "truthfulqa_mc2",
        {**ROWS["TruthfulQA, several"][2], "mc2_targets": {**TRUE, "labels": [1, 2, 0]}},
        "labels of 0 and 1",
    ),
    "no choices": ("hellaswag", {**ROWS["HellaSwag"][2], "ctx_b": None}, "ctx_b"),
    "gold": (
        "arc_easy",
        {**ROWS["ARC as lm-eval reads it"][2], "answerKey": "E"},
        "`answerkey`: a letter of A to B",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_a_row_cannot_ask_is_one_line(tmp_path, case):
    name, row, said = BAD[case]
    with pytest.raises(UsageError, match=said) as caught:
        opened(tmp_path, name, "rows.jsonl", row)
    assert "row 1 of" in str(caught.value) and "\n" not in str(caught.value)


def test_gsm8k(tmp_path):
    row = {"question": "2 + 2?", "answer": "It is <<2+2=4>>4.\n#### 4"}
    bench, _ = opened(tmp_path, "gsm8k", "gsm8k_test.jsonl", row)
    (item,) = bench.items
    assert bench.form == "text" and item.messages[-1].content == "2 + 2?"
    assert (item.meta["grade"], item.meta["context"]) == ("gsm8k", "Question: 2 + 2?\nAnswer:")


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER.is_dir(), reason="no public files beside the repository")
def test_the_public_files_are_known():
    found = suites.find_sets("capability", FOLDER).found
    read = {one.set.name: one.set.open(one.path, limit=9) for one in found}
    assert set(read) >= {
        "mmlu",
        "gsm8k",
        "arc_easy",
        "arc_challenge",
        "openbookqa",
        "piqa",
        "boolq",
    }
    for name, (bench, facts) in read.items():
        assert facts["version"], name
        assert len(bench.items) == 9 and not facts["left_out"]
        if bench.form == "choices":
            assert all(pairs.question(item, name) for item in bench.items)

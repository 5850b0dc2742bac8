"""Public files as they lie beside the repository: every one is read, or refused in words."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.files.sources import load_prompts, read_chats

FOLDER = Path(__file__).resolve().parents[3] / "shared/data"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no ../shared/data")

# File -> kind, rows used, a piece of what is said about it, and of the first prompt.
FILES = {
    "advbench/harmful_behaviors.csv": ("safety", 520, "AdvBench layout", "Write a script that"),
    "tdc2023/tdc2023_dev_behaviors.json": ("safety", 50, "plain text", "Generate a"),
    "harmbench/harmbench_behaviors_text_val.csv": ("safety", 80, "HarmBench", "Give detailed"),
    "refusal_direction/harmful_train.json": ("safety", 260, "prompt layout", "Suggest methods"),
    "red_instruct/catqa_english.jsonl": ("safety", 526, "CatQA", "How can I"),
    "xstest/xstest_prompts.csv": ("over_refusal", 250, "200 unsafe of 450", "How can I kill a Py"),
    "xstest/xstest_v2_completions_3models.jsonl.gz": (
        "safety",
        200,
        "750 safe and 400 repeated of 1350 rows",
        "How can I kill a person?",
    ),
    "gsm8k/train.jsonl.gz": ("capability", 7473, "GSM8K", "Natalia sold clips"),
    "arc/arc_easy.jsonl.gz": ("capability", 2376, "gold", "Which statement best"),
    "arc/arc_challenge.jsonl": ("capability", 1172, "gold", "An astronomer"),
    "arc/arc_challenge_train_docs.jsonl.gz": ("capability", 1119, "gold", "George wants"),
    "openbookqa/openbookqa_train_docs.jsonl.gz": ("capability", 4957, "gold", "The sun is"),
    "openbookqa/openbook_qa.jsonl": ("capability", 500, "gold", "A person wants"),
    "piqa/piqa.jsonl.gz": ("capability", 1838, "gold", "How do I ready a guinea pig"),
    "commonsense_qa/commonsense_qa.jsonl": ("capability", 1221, "gold", "A revolving door"),
    "mmlu/mmlu_dev.jsonl": ("capability", 285, "MMLU", "Find all c"),
    "mmlu/mmlu_test_sample.jsonl.gz": ("capability", 1404, "MMLU", "The constellation"),
    "boolq/boolq.jsonl.gz": ("capability", 3270, "gold", "Passage: All biomass"),
}
DIALOGUES = {
    "gpteacher/codegen-instruct.json.gz": 4535,
    "gpteacher/roleplay-simple-deduped-roleplay-instruct.json.gz": 1923,
    "hh_rlhf_harmless/harmless-base_test.jsonl.gz": 2297,
    "self_instruct/seed_tasks.jsonl": 175,
    "self_instruct/user_oriented_instructions.jsonl": 252,
}


@pytest.mark.parametrize("name", FILES)
def test_prompts(name):
    kind, count, told, begin = FILES[name]
    loaded = load_prompts(FOLDER / name, "eval.sets", kind)
    assert len(loaded.rows) == count and told in loaded.layout
    assert loaded.rows[0][1].messages[-1].content.startswith(begin)
    for _, asked in loaded.rows:
        prompt = asked.messages[-1].content
        assert "Answer:" not in prompt[-12:] and not prompt.startswith("Question:")
        if asked.grade == "letter":
            shown = [f"{chr(65 + i)}. {text}" for i, text in enumerate(asked.choices)]
            assert prompt.endswith("\n" + "\n".join(shown) + "\n\nAnswer with the letter.")
            assert asked.gold in "ABCDE"[: len(shown)]
    if kind == "capability":  # the letters are spread: a wrong column would show here
        most = Counter(asked.gold for _, asked in loaded.rows).most_common(1)[0][1]
        assert most < 0.65 * count


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogues(name):
    found = read_chats(FOLDER / name, "data.chats")
    assert len(found) == DIALOGUES[name]
    assert all(one[-1].role == "assistant" for one in found)
    roles = [[m.role for m in one] for one in found]
    assert all(a != b for one in roles for a, b in itertools.pairwise(one))


def test_what_has_no_right_answer_is_no_capability_set():
    for name in ("advbench/harmful_behaviors.csv", "xstest/xstest_prompts.csv"):
        with pytest.raises(UsageError, match="an `answer` for every prompt"):
            load_prompts(FOLDER / name, "eval.sets", "capability")

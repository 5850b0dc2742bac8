"""Rows that look like a prompt or a dialogue and are something else: read right, or refused."""

from __future__ import annotations

import json
import re

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.files.sources import load_prompts, read_chats

SAID = "\n\nHuman: Is it open?\n\nAssistant: Yes.\n\nHuman: How long?\n\nAssistant:"
HARM = {"response": "r", "response_harm_label": "harmful", "response_refusal_label": "refusal"}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": SAID, "response": " Until six.", "chosen": " Until six.", "rejected": " No."},
        {"prompt": SAID, "response": " Until six."},
        {"prompt": SAID, "completion": " Until six.", "label": True},
    ],
)
def test_a_prompt_that_is_a_transcript_becomes_its_turns(tmp_path, row):
    path = write(tmp_path / "a.jsonl", [row])
    (asked,) = (asked for _, asked in load_prompts(path).rows)
    whole = [("user", "Is it open?"), ("assistant", "Yes."), ("user", "How long?")]
    assert [tuple(m) for m in asked.messages] == whole
    assert [tuple(m) for m in read_chats(path)[0]] == [*whole, ("assistant", "Until six.")]


def test_a_prompt_that_speaks_of_a_human_stays_as_it_is(tmp_path):
    text = "Human: a word for people?"
    path = write(tmp_path / "a.jsonl", [{"prompt": text, "response": "Yes."}])
    assert load_prompts(path).rows[0][1].messages[-1].content == text


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"text": "At six.", "role": "assistant", "parent_id": "1"}, "one turn of the assistant"),
        ({"text": "And today?", "role": "prompter", "parent_id": "2"}, "one turn of the prompter"),
        ({"text": "### Human: Open?### Assistant: Yes."}, "a dialogue written out"),
        ({"text": "<s>[INST] Open? [/INST] Yes.</s>"}, "a dialogue written out"),
        ({"text": "### Instruction:\nSay it.\n\n### Response:\nYes."}, "a dialogue written out"),
        ({"text": "<|im_start|>user\nOpen?<|im_end|>\n"}, "a dialogue written out"),
        (
            {"premise": "It rained.", "choice1": "wet", "choice2": "dry", "question": "effect"},
            "premise and choice1 and choice2 may",
        ),
        ({"question": "Which?", "opa": "a", "opb": "b", "cop": 1}, "opa and opb may"),
        (
            {"context": "It rained.", "question": "Why?", "answerA": "a", "answerB": "b"},
            "answera and answerb may",
        ),
        ({"question": "Which?", "option_1": "a", "option_2": "b"}, "option_1 and option_2 may"),
    ],
)
def test_what_is_no_prompt_is_refused_with_its_row(tmp_path, row, why):
    path = write(tmp_path / "a.jsonl", [{"prompt": "Is it open?"}, row])
    with pytest.raises(UsageError, match="row 2 of") as caught:
        load_prompts(path)
    assert why in str(caught.value)


def test_the_first_turn_of_a_tree_may_be_asked(tmp_path):
    row = {"text": "Is it open?", "role": "prompter", "parent_id": None, "lang": "en"}
    assert load_prompts(write(tmp_path / "a.jsonl", [row])).rows[0][1].messages[0][1] == row["text"]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "a", "completion": "b", "label": False}, "`label` false"),
        ({"prompt": "a", "completion": "b", "thinking": "t"}, "`thinking` beside"),
        ({"question": "a", "answer": "b", "reasoning": "t"}, "`reasoning` beside"),
        ({"instruction": "a", "output": "b", "reasoning_content": "t"}, "`reasoning_content` bes"),
        ({"prompt": "a", "response": "b", "tool_calls": [{"name": "x"}]}, "`tool_calls` beside"),
    ],
)
def test_an_answer_that_is_none_or_not_whole_is_not_learnt(tmp_path, row, why):
    path = write(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b", "label": True}, row])
    with pytest.raises(UsageError, match=r"data.chats: got 'row 2 of") as caught:
        read_chats(path, "data.chats")
    assert why in str(caught.value)
    assert len(load_prompts(path).rows) == 2  # as prompts both are sound


def test_the_label_of_a_prompt_is_not_that_of_its_answer(tmp_path):
    rows = [
        {"prompt": str(i), "prompt_harm_label": side, **HARM}
        for i, side in enumerate(("harmful", "unharmful", "harmful"))
    ]
    path = write(tmp_path / "a.jsonl", rows)
    for kind, kept in (("safety", "02"), ("over_refusal", "1"), ("", "012")):
        rows = load_prompts(path, "eval.sets", kind).rows
        assert "".join(asked.messages[0].content for _, asked in rows) == kept


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_third_label_is_in_neither_half(tmp_path, order):
    words = ("safe", "unsafe", "needs caution")
    rows = [{"prompt": str(i), "label": words[i]} for i in order]
    path = write(tmp_path / "a.jsonl", rows)
    wanted = f"row {order.index(2) + 1} of .*`label` to say safe or unsafe.*'needs caution'"
    for kind in ("safety", "over_refusal"):
        with pytest.raises(UsageError, match=wanted):
            load_prompts(path, "eval.sets", kind)
    assert len(load_prompts(path).rows) == 3


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        ({"question": "a", "choices": ["x", "y"], "answer": 1.0}, "B"),
        ({"goal": "a", "sol1": "x", "sol2": "y", "label": 0.0}, "A"),
        ({"ctx": "a", "endings": ["x", "y", "z"], "label": 2.0}, "C"),
        ({"sentence": "a _", "option1": "x", "option2": "y", "answer": 2.0}, "B"),
        ({"question": "a", "passage": "b", "label": 0.0}, "no"),
    ],
)
def test_whole_numbers_of_a_table_with_gaps(tmp_path, row, gold):
    ((_, asked),) = load_prompts(write(tmp_path / "a.jsonl", [row]), kind="capability").rows
    assert asked.gold == gold
    broken = {name: 0.5 if isinstance(v, float) else v for name, v in row.items()}
    path = write(tmp_path / "b.jsonl", [row, broken])
    with pytest.raises(UsageError, match=re.escape(f"row 2 of {path}")):
        load_prompts(path, kind="capability")

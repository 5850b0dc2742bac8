"""Dialogues of files: which row and which turn cannot be carried, and why."""

from __future__ import annotations

import json

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.files.sources import read_chats, read_prompts
from jaxsafety.data.schema import Message

U = {"role": "user", "content": "q"}
A = {"role": "assistant", "content": "a"}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([U, A, {"role": "tool", "content": "4"}, A], ("turn 3 of messages", "'tool'")),
        ([{"role": "developer", "content": "kind"}, U, A], ("turn 1 of messages", "'developer'")),
        ([U, {"role": "function", "content": "4"}, A], ("turn 2", "'function'")),
        ([U, {"role": None, "content": "4"}], ("turn 2", "None")),
        ([U, {"role": ["user"], "content": "4"}], ("turn 2", "['user']")),
        ([U, {"content": "a"}], ("turn 2", "role")),
        ([U, {"role": "assistant", "content": None}], ("turn 2", "content", "null")),
        ([U, {"role": "assistant"}], ("turn 2", "content", "null")),
        ([U, {"role": "assistant", "content": 3}], ("turn 2", "content", "a number")),
        (
            [U, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}],
            ("turn 2", "content", "a list", "parts"),
        ),
        ([U, A, U], ("ends with the assistant", "ends with the user")),
        ([U, {"role": "assistant", "content": ""}], ("last answer", "empty")),
        ([U, {"role": "assistant", "content": " \n"}], ("last answer", "empty")),
        ([U, {**A, "reasoning_content": "hm"}], ("message 2", "reasoning_content")),
        ([U, {**A, "content": None, "tool_calls": [{"id": 1}]}], ("message 2", "tool_calls")),
        ([U, {**A, "weight": 0}], ("message 2", "weight")),
        (["q", A], ("turn 1", "a text")),
        ([], ("at least one turn",)),
        ("q", ("a list of turns", "a text")),
        (None, ("null",)),
        ({"role": "user"}, ("a list of turns", "an object")),
    ],
)
@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_the_row_and_the_reason(tmp_path, column, turns, words):
    path = write(tmp_path / "a.jsonl", [*[{column: [U, A]}] * 6, {column: turns}, {column: [U, A]}])
    with pytest.raises(UsageError) as caught:
        read_chats(path, "data.chats")
    line = str(caught.value)
    assert line.startswith("data.chats: got 'row 7 of") and "\n" not in line
    assert all(word.replace("messages", column) in line for word in words)


def test_fields_that_say_nothing_may_be_there(tmp_path):
    row = {"messages": [U, {**A, "tool_calls": None, "reasoning_content": "", "weight": 1}]}
    row |= {"tools": [], "functions": None, "id": 3}
    assert read_chats(write(tmp_path / "a.jsonl", [row])) == [
        (Message("user", "q"), Message("assistant", "a"))
    ]


@pytest.mark.parametrize("column", ["tools", "functions"])
def test_tools_of_a_row_would_be_lost(tmp_path, column):
    path = write(tmp_path / "a.jsonl", [{"messages": [U, A], column: [{"name": "add"}]}])
    with pytest.raises(UsageError, match=rf"row 1 of .*{column} beside its messages"):
        read_chats(path)


def test_a_system_column_is_the_systems_turn(tmp_path):
    rows = [
        {"system": "be kind", "conversations": [U, A]},
        {"system_prompt": "be kind", "question": "q", "response": "a"},
        {"system": "", "messages": [U, A]},
    ]
    found = read_chats(write(tmp_path / "a.jsonl", rows))
    assert [[m.role for m in dialogue] for dialogue in found] == [
        ["system", "user", "assistant"],
        ["system", "user", "assistant"],
        ["user", "assistant"],
    ]
    assert found[0][0] == found[1][0] == Message("system", "be kind")
    twice = {"system": "be kind", "messages": [{"role": "system", "content": "be brief"}, U, A]}
    with pytest.raises(UsageError, match="one system prompt"):
        read_chats(write(tmp_path / "b.jsonl", [twice]))


PAIRS = [
    {"chosen": "\n\nHuman: q\n\nAssistant: b\n\nHuman: r\n\nAssistant: a", "rejected": "x"},
    {"chosen": [U, A], "rejected": [U, {**A, "content": "no"}]},
    {"prompt": "q", "chosen": "a", "rejected": "no"},
    {"prompt": [U], "chosen": [A], "rejected": [{**A, "content": "no"}]},
    {"prompt": "q", "chosen": [U, A], "rejected": [U, A], "messages": [U, A]},
    {"system": "", "question": "q", "chosen": "a", "rejected": "no"},
]


def test_of_preference_pairs_the_chosen_one_is_learnt(tmp_path):
    found = read_chats(write(tmp_path / "a.jsonl", PAIRS))
    pair = (Message("user", "q"), Message("assistant", "a"))
    assert found[1:] == [pair] * 5
    assert [m.content for m in found[0]] == ["q", "b", "r", "a"]
    asked = read_prompts(write(tmp_path / "a.jsonl", PAIRS))
    assert [row["prompt"] for row in asked] == ["r", "q", "q", "q", "q", "q"]


def test_speakers_of_a_transcript_take_turns(tmp_path):
    text = "\n\nHuman: one\n\nHuman: two\n\nAssistant: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    (found,) = read_chats(write(tmp_path / "a.jsonl", [{"chosen": text, "rejected": text}]))
    assert [tuple(m) for m in found] == [
        ("user", "one\n\ntwo"),
        ("assistant", "a\n\nb"),
        ("user", "c"),
        ("assistant", ""),
    ]
    broken = [{"chosen": "Nobody: x", "rejected": "y"}, {"chosen": "\n\nHuman: x", "rejected": "y"}]
    for row, why in zip(broken, ('begins with "Human:"', "ends with the user"), strict=True):
        with pytest.raises(UsageError, match=why):
            read_chats(write(tmp_path / "b.jsonl", [row]))


def test_what_is_asked_of_a_dialogue(tmp_path):
    rows = [{"messages": [U, A, {**U, "content": "r"}]}, {"messages": [U, A]}]
    assert [row["prompt"] for row in read_prompts(write(tmp_path / "a.jsonl", rows))] == ["r", "q"]
    with pytest.raises(UsageError, match=r"row 1 of .*a user turn that is asked"):
        read_prompts(write(tmp_path / "b.jsonl", [{"messages": [A]}]))

"""Fields of messages that nothing carries are refused by name; broken text by its place."""

from __future__ import annotations

import json
import re

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data import messages
from jaxsafety.data.files.sources import read_chats
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.render import render
from jaxsafety.data.tokens.tokenizer import ByteTokenizer

CALL = [{"type": "function", "function": {"name": "tide", "arguments": {"port": "Quay"}}}]
LOST = {
    "reasoning_content": "Seven is odd.",
    "reasoning": "Seven is odd.",
    "thinking": "Seven is odd.",
    "tool_calls": CALL,
    "function_call": {"name": "tide", "arguments": "{}"},
    "tool_call_id": "x1",
    "name": "Ann",
    "images": ["a.png"],
    "weight": 0,
    "train": False,
    "loss": False,
    "reasoning_details": [{"text": "Seven is odd."}],
    "tool_plan": "Ask the quay.",
}


@pytest.mark.parametrize("field", LOST)
def test_what_would_be_lost_is_refused_by_file_row_and_field(tmp_path, field):
    good = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    bad = [good[0], {**good[1], field: LOST[field]}]
    file = tmp_path / "chats.jsonl"
    rows = [{"messages": m} for m in (good, good, bad, good)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError, match=rf"row 3 of .*chats\.jsonl.*{field}") as caught:
        read_chats(file, "data.chats")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=rf"message\.{field}"):
        render(ByteTokenizer(), bad)


def test_what_says_nothing_is_no_hindrance(tmp_path):
    quiet = {"tool_calls": None, "reasoning_content": "", "images": [], "weight": 1, "train": True}
    turns = [
        {"role": "user", "content": "q", "weight": 0, "train": False, "prefix": False},
        {"role": "assistant", "content": "a", "id": 7, **quiet},
    ]
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps({"messages": turns, "tools": [], "source": "x"}) + "\n")
    assert read_chats(file)[0][1].content == "a"
    assert "a" in render(ByteTokenizer(), turns)


@pytest.mark.parametrize("field", ["tools", "chat_template_kwargs", "documents"])
def test_what_stands_beside_the_messages_is_refused_too(tmp_path, field):
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps({"conversations": turns, field: [{"a": 1}]}) + "\n")
    with pytest.raises(UsageError, match=f"row 1 .*{field} beside its messages"):
        read_chats(file)
    assert messages.lost("text") is None and messages.lost({"prompt": "q"}) is None


@pytest.mark.parametrize(
    "half", ["a\ud83d", "\udc00", "😀\ud83d😀", "ok \udcff"], ids=["end", "alone", "within", "byte"]
)
def test_half_a_surrogate_pair_is_one_line(half):
    tokenizer = ByteTokenizer()
    place = next(i for i, c in enumerate(half) if 0xD800 <= ord(c) < 0xE000) + 1
    words = f"half of a surrogate pair (U+{ord(half[place - 1]):04X} at character {place})"
    for call in (
        lambda: tokenizer.encode(half),
        lambda: tokenizer.encode_offsets(half),
        lambda: encode_prompt(tokenizer, [{"role": "user", "content": half}]),
    ):
        with pytest.raises(UsageError, match=re.escape(words)) as caught:
            call()
        str(caught.value).encode()
    tokenizer.variables = {"x": half}
    tokenizer.chat_template = "{{ x }}"
    with pytest.raises(UsageError, match="surrogate"):
        encode_prompt(tokenizer, [{"role": "user", "content": "q"}])


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ({"role": "tool", "content": "42"}, "message.role: got 'tool'; allowed: system, user"),
        ({"role": "developer", "content": "x"}, "message.role: got 'developer'"),
        ({"role": "user", "content": None}, "message.content: got 'nothing'"),
        ({"role": "user"}, "message.content: got 'nothing'"),
        ({"role": "user", "content": [{"type": "text", "text": "a"}]}, "'a list of parts'"),
        ({"role": "user", "content": 3}, "message.content: got 'a value of type int'"),
        ({"role": ["user"], "content": "a"}, "message.role"),
    ],
)
def test_other_messages_are_one_line(message, line):
    with pytest.raises(UsageError, match=re.escape(line)):
        render(ByteTokenizer(), [message])

"""Prompt files of every format, and what is said about bad ones."""

from __future__ import annotations

import gzip
import json

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.files.sources import PROMPT_FIELDS, read_chats, read_prompts
from jaxsafety.data.schema import Message


def write(path, text):
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


ROWS = [{"prompt": "how ?", "answer": "so"}, {"prompt": "why\n?", "answer": ""}]
TEXTS = {
    "a.jsonl": "\n".join(json.dumps(r) for r in ROWS) + "\n\n",
    "a.json": json.dumps(ROWS),
    "a.csv": 'prompt,answer\nhow ?,so\n"why\n?",\n',
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("gz", ["", ".gz"])
def test_formats(tmp_path, name, gz):
    assert read_prompts(write(tmp_path / f"{name}{gz}", TEXTS[name])) == ROWS


def test_plain_text_is_one_prompt_per_line(tmp_path):
    path = write(tmp_path / "a.txt", "\ufeffone\n\n  \ntwo words\n")
    assert [r["prompt"] for r in read_prompts(path)] == ["one", "two words"]
    assert {r["answer"] for r in read_prompts(str(path))} == {""}


@pytest.mark.parametrize("field", PROMPT_FIELDS)
def test_the_names_that_public_sets_use(tmp_path, field):
    row = {"id": 3, field: "do it", "answer": 17}
    path = write(tmp_path / "a.jsonl", json.dumps(row))
    assert read_prompts(path) == [{"prompt": "do it", "answer": "17"}]


def test_labels_are_no_answers_and_texts_stand_beside_rows(tmp_path):
    row = {"prompt": "yes", "label": "b", "answer": 0}
    path = write(tmp_path / "a.json", json.dumps([row, "bare"]))
    assert read_prompts(path)[0] == {"prompt": "yes", "answer": "0"}
    assert read_prompts(path)[1] == {"prompt": "bare", "answer": ""}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("missing.jsonl", None, "an existing file or directory of rows"),
        ("a.xml", "x", "one of .jsonl, .json, .csv, .txt"),
        ("a.gz", "x", "one of .jsonl, .json, .csv, .txt"),
        ("a.jsonl", '{"prompt": "x"}\n{"prompt"', "a readable .jsonl file"),
        ("a.json", '{"prompt": "x"}', "a readable .json file (the top level is not a list"),
        ("a.txt", b"\xff\xfe\x00", "a readable .txt file"),
        ("a.jsonl", '{"prompt": "x"}\n{"promt": "y"}', "row 2 of"),
        ("a.jsonl", '{"prompt": ""}', "row 1 of"),
        ("a.json", "[3]", "row 1 of"),
        ("a.csv", "words\nx\n", "row 1 of"),
    ],
)
def test_bad_files_are_one_line(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        write(path.with_name("raw"), text).rename(path)
    with pytest.raises(UsageError) as caught:
        read_prompts(path, "data.harmful")
    assert str(caught.value).startswith("data.harmful: got") and "\n" not in str(caught.value)
    assert message in str(caught.value)


def test_no_path_and_broken_archives(tmp_path):
    with pytest.raises(UsageError, match="data.distil: got ''; allowed: an existing file"):
        read_prompts("", "data.distil")
    (tmp_path / "a.txt.gz").write_bytes(b"not an archive")
    with pytest.raises(UsageError, match="a readable .txt file"):
        read_prompts(tmp_path / "a.txt.gz")
    whole = gzip.compress(b"one\ntwo\n" * 50)
    (tmp_path / "b.txt.gz").write_bytes(whole[:-9])
    with pytest.raises(UsageError, match="a readable .txt file"):
        read_prompts(tmp_path / "b.txt.gz")


PAIR = (Message("user", "how ?"), Message("assistant", "so"))
CHATS = [
    {"messages": [{"role": "user", "content": "how ?"}, {"role": "assistant", "content": "so"}]},
    {"conversations": [{"from": "human", "value": "how ?"}, {"from": "gpt", "value": "so"}]},
    {"prompt": "how ?", "response": "so"},
    {"instruction": "how ?", "output": "so"},
]


def test_dialogues_of_every_form(tmp_path):
    text = "\n".join(json.dumps(row) for row in CHATS)
    assert read_chats(write(tmp_path / "a.jsonl.gz", text)) == [PAIR] * 4
    assert read_chats(write(tmp_path / "a.json", json.dumps(CHATS))) == [PAIR] * 4
    assert read_chats(write(tmp_path / "a.csv", "prompt,answer\nhow ?,so\n")) == [PAIR]


@pytest.mark.parametrize(
    "row",
    [
        "text",
        {"prompt": "alone"},
        {"messages": []},
        {"messages": "hello"},
        {"messages": [{"role": "user", "content": "last"}]},
        {"messages": [{"role": "robot", "content": "x"}, {"role": "assistant", "content": "y"}]},
        {"messages": [{"role": "assistant", "content": 3}]},
        {"messages": ["x"]},
    ],
)
def test_rows_that_are_no_dialogue_are_named(tmp_path, row):
    path = write(tmp_path / "a.jsonl", json.dumps(CHATS[0]) + "\n" + json.dumps(row))
    with pytest.raises(UsageError, match=r"data\.chats: got 'row 2 of .*a\.jsonl'") as caught:
        read_chats(path, "data.chats")
    assert "\n" not in str(caught.value)


def test_what_belongs_to_the_question_stays(tmp_path):
    rows = [
        {"instruction": "which ?", "input": "a , b", "output": "a"},
        {"system": "be kind", "question": "how ?", "context": "here", "response": "so"},
    ]
    found = read_chats(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows))))
    assert [m.content for m in found[0]] == ["which ?\n\na , b", "a"]
    assert [tuple(m) for m in found[1]] == [
        ("system", "be kind"),
        ("user", "how ?\n\nhere"),
        ("assistant", "so"),
    ]


def test_json_lines_may_hold_other_line_separators(tmp_path):
    row = {"prompt": "a\u2028b\u0085c", "answer": "d"}
    path = write(tmp_path / "a.jsonl", json.dumps(row, ensure_ascii=False) + "\n")
    assert read_prompts(path) == [row]


@pytest.mark.parametrize("data", [b"\x1f\x8b\x08\x00broken", gzip.compress(b"[" * 200_000)])
def test_damaged_and_endless_files_are_one_line(tmp_path, data):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"a readable \.jsonl file") as caught:
        read_prompts(path)
    assert "\n" not in str(caught.value)


def test_no_dialogues_at_all(tmp_path):
    with pytest.raises(UsageError, match="no rows"):
        read_chats(write(tmp_path / "a.jsonl", ""))

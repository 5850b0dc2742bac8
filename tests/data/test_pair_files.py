"""Preference pairs from files: layouts, numbers beside them, and what is refused by row."""

from __future__ import annotations

import gzip
import json

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.files.pairs import read_pairs, split

U, A, S = "user", "assistant", "system"


def message(role, content):
    return {"role": role, "content": content}


HUMAN = "\n\nHuman: Is it open?\n\nAssistant: Yes.\n\nHuman: Since when?\n\nAssistant:"
LAYOUTS = {
    "strings": (
        {"prompt": "Is it late?", "chosen": "A little.", "rejected": "Go away."},
        ([(U, "Is it late?")], [(A, "A little.")], [(A, "Go away.")]),
    ),
    "a system prompt": (
        {"system": "Be kind.", "prompt": "Late?", "chosen": "A little.", "rejected": "No."},
        ([(S, "Be kind."), (U, "Late?")], [(A, "A little.")], [(A, "No.")]),
    ),
    "dialogues": (
        {
            "chosen": [message(U, "Late?"), message(A, "Yes.")],
            "rejected": [message(U, "Late?"), message(A, "No.")],
        },
        ([(U, "Late?")], [(A, "Yes.")], [(A, "No.")]),
    ),
    "dialogues beside their prompt": (
        {
            "prompt": "Late?",
            "messages": [message(U, "Late?"), message(A, "Yes.")],
            "chosen": [message(U, "Late?"), message(A, "Yes.")],
            "rejected": [message(U, "Late?"), message(A, "No.")],
        },
        ([(U, "Late?")], [(A, "Yes.")], [(A, "No.")]),
    ),
    "answers to a list of turns": (
        {
            "prompt": [message(S, "Be kind."), message(U, "Late?")],
            "chosen": [message(A, "Yes.")],
            "rejected": [message(A, "No.")],
        },
        ([(S, "Be kind."), (U, "Late?")], [(A, "Yes.")], [(A, "No.")]),
    ),
    "transcripts": (
        {"chosen": f"{HUMAN} Ten.", "rejected": f"{HUMAN} Who knows."},
        (
            [(U, "Is it open?"), (A, "Yes."), (U, "Since when?")],
            [(A, "Ten.")],
            [(A, "Who knows.")],
        ),
    ),
    "a transcript and two answers": (
        {"prompt": HUMAN, "chosen": "Ten.", "rejected": "Who knows."},
        (
            [(U, "Is it open?"), (A, "Yes."), (U, "Since when?")],
            [(A, "Ten.")],
            [(A, "Who knows.")],
        ),
    ),
    "answers that go on": (
        {
            "chosen": [message(U, "a"), message(A, "b"), message(U, "c"), message(A, "d")],
            "rejected": [message(U, "a"), message(A, "b"), message(U, "e"), message(A, "f")],
        },
        ([(U, "a")], [(A, "b"), (U, "c"), (A, "d")], [(A, "b"), (U, "e"), (A, "f")]),
    ),
    "one longer than the other": (
        {
            "chosen": [message(U, "a"), message(A, "b")],
            "rejected": [message(U, "a"), message(A, "b"), message(U, "c"), message(A, "d")],
        },
        ([(U, "a")], [(A, "b")], [(A, "b"), (U, "c"), (A, "d")]),
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name):
    row, expected = LAYOUTS[name]
    assert tuple([tuple(turn) for turn in part] for part in split(row)) == expected


def test_numbers_are_kept_by_column(tmp_path):
    rows = [
        {"Prompt": "a", "chosen": "b", "rejected": "c", "p_safe_chosen": 0.5, "sure": True, "n": 3},
        {"prompt": "a", "chosen": "1", "rejected": "2", "p_safe_chosen": "0.25", "sure": None},
    ]
    with gzip.open(tmp_path / "p.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))
    one, two = read_pairs(tmp_path / "p.jsonl.gz", "data.pairs")
    assert dict(one.numbers) == {"p_safe_chosen": 0.5, "sure": 1.0, "n": 3.0}
    assert dict(two.numbers) == {"p_safe_chosen": 0.25}
    assert two.meta == {"file": str(tmp_path / "p.jsonl.gz"), "row": 2}
    assert [turn.content for turn in two.messages] == ["a", "1"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("only text", "an object with `chosen` and `rejected`, not a text"),
        ({"prompt": "a", "chosen": "b"}, "there is no `rejected`"),
        ({"prompt": "a", "chosen": "b", "rejected": None}, "there is no `rejected`"),
        ({"chosen": "b", "rejected": "c"}, '`chosen` that begins with "Human:", or a column'),
        (
            {"prompt": "a", "chosen": "b", "rejected": ["c"]},
            "`rejected`, read as `chosen`: turn 1 of chosen",
        ),
        (
            {
                "chosen": [message(U, "a"), message(A, "b")],
                "rejected": [message(U, "z"), message(A, "c")],
            },
            "that answer one prompt; these begin differently",
        ),
        (
            {"chosen": [message(U, "a")], "rejected": [message(U, "a"), message(A, "c")]},
            "ends with the assistant; this one ends with the user",
        ),
        (
            {"chosen": [message(A, "a")], "rejected": [message(A, "b")]},
            "these begin differently",
        ),
    ],
)
def test_what_is_no_pair(tmp_path, row, words):
    path = tmp_path / "p.jsonl"
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    path.write_text(json.dumps(good) + "\n" + json.dumps(row))
    with pytest.raises(UsageError) as caught:
        read_pairs(path, "data.pairs")
    line = str(caught.value)
    assert line.startswith(f"data.pairs: got 'row 2 of {path}'; allowed: ") and words in line


def test_a_file_without_rows(tmp_path):
    (tmp_path / "p.jsonl").write_text("")
    with pytest.raises(UsageError, match=r"no rows in .*at least one pair"):
        read_pairs(tmp_path / "p.jsonl")

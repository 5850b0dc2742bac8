"""What sets share is counted by letters, and tasks that differ in a sign are not one."""

from __future__ import annotations

import time

import pytest

from jaxsafety.data.items import Item
from jaxsafety.data.overlap import Told
from jaxsafety.data.schema import Message
from jaxsafety.data.sharing import asked, letters, shared

SAME = (
    ("Fold a hat, please.", "fold a hat please"),
    ("Write a well-known e-mail", "write a wellknown email!"),
    ("It's 'folded'", "Its “folded”"),
    ("Fold\n\na   hat", "fold a hat?"),
    ("In 1990, they won", "In 1990 they won"),
    ("naïve", "nai\u0308ve"),
    ("snake_case", "snake case"),
)
DIFFERENT = (
    ("3 + 2", "3 - 2"),
    ("3 * 2", "3 / 2"),
    ("3-2", "3 2"),
    ("1 2", "12"),
    ("1.5 litres", "15 litres"),
    ("What is -3 squared?", "What is 3 squared?"),
    ("3 < 2", "3 > 2"),
    ("10%5", "105"),
    ("नमक", "नमकी"),  # a vowel sign is no letter to a regular expression
    ("hat", "cap"),
    ("!?", "?!"),
)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_equal_letters(one, other):
    assert letters(one) == letters(other) != ""


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_letters(one, other):
    assert letters(one) != letters(other)
    assert letters(one) and letters(other)


def told(name, *texts):
    return name, [Told(text, f"row {i} of {name}") for i, text in enumerate(texts, start=1)]


def test_a_table_of_sets_and_of_what_was_trained_on():
    rows = shared(
        [
            told("hats", "Fold a hat.", "Fold a cap", "Fold, a hat", "Knit"),
            told("caps", "fold a cap!", "Sew"),
            told("none", "Paint"),
        ],
        [told("chats", "Sew", "fold a hat"), told("more", "FOLD A CAP", "Sew it", "Sew")],
    )
    hats, caps, none = rows
    assert (hats["set"], hats["prompts"], hats["repeated"]) == ("hats", 4, 1)
    assert hats["sets"] == {"caps": 1, "none": 0} and hats["any_set"] == 1
    assert hats["trained"] == {"chats": 2, "more": 1} and hats["any_trained"] == 3
    assert caps["sets"] == {"hats": 1, "none": 0}
    assert caps["trained"] == {"chats": 1, "more": 2} and caps["any_trained"] == 2
    assert none["any_set"] == none["any_trained"] == 0 and none["examples"] == []
    assert hats["examples"][1] == (
        "2 of its 4 prompts are in chats too, the first: row 1 of hats is row 2 of chats:"
        " Fold a hat."
    )
    assert len(caps["examples"]) == 3
    assert shared([]) == []
    assert shared([told("one", "a")])[0]["trained"] == {}


def test_items_as_what_is_asked_last():
    turns = (Message("user", "Hello"), Message("assistant", "Yes?"), Message("user", "Fold"))
    meta = {"row": 3, "file": "x.csv"}
    found = asked([Item("3", turns, meta), Item("a", turns[:1], {})])
    assert found == [Told("Fold", "row 3 of x.csv"), Told("Hello", "item a")]


def test_many_prompts_are_quick():
    sets = [told(f"s{n}", *(f"Fold hat {i} of {n % 3}" for i in range(1500))) for n in range(6)]
    start = time.process_time()
    rows = shared(sets, sets[:2])
    assert time.process_time() - start < 3
    assert rows[0]["sets"]["s3"] == 1500 and rows[0]["sets"]["s1"] == 0

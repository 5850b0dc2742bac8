"""Dialogues that are too long for a row: refused by name, dropped or cut, and always counted."""

from __future__ import annotations

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.fitting import fitted
from jaxsafety.data.schema import Example, Message
from jaxsafety.data.tokens.encode import encode_dialogues
from jaxsafety.data.tokens.tokenizer import load_tokenizer
from jaxsafety.testing import random_organism


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(random_organism(tmp_path_factory.mktemp("organism")))


def dialogues(*sizes, part=None):
    """Of (words of the question, words of the answer) each."""
    more = {} if part is None else {"part": part}
    return [
        Example(
            str(i),
            (Message("user", "is " * asked), Message("assistant", "the " * said)),
            {"file": "chats.jsonl", "row": i + 1, **more},
        )
        for i, (asked, said) in enumerate(sizes)
    ]


def test_what_fits_is_left_as_it_is(tokenizer):
    lines = []
    given = dialogues((2, 3), (4, 5))
    found = fitted(tokenizer, given, 40, log=lines.append)
    assert list(found.encoded) == encode_dialogues(tokenizer, given)
    assert (found.facts["given"], found.facts["used"], found.facts["dropped"]) == (2, 2, 0)
    assert lines == [] and found.parts == (0, 0)


def test_a_long_one_is_refused_by_its_row(tokenizer):
    given = dialogues((2, 3), (4, 50), (2, 2), (2, 60))
    sizes = [len(e.ids) for e in encode_dialogues(tokenizer, given)]
    with pytest.raises(UsageError) as caught:
        fitted(tokenizer, given, 20)
    line = str(caught.value)
    assert line.startswith(f"method.length: got 20; allowed: at least {sizes[3]}, the longest")
    assert "row 4 of chats.jsonl" in line and "2 of 4" in line and "method.long=drop" in line


def test_long_ones_are_dropped_and_counted(tokenizer):
    given, lines = dialogues((2, 3), (4, 50), (2, 2)), []
    found = fitted(tokenizer, given, 20, "drop", log=lines.append)
    assert list(found.encoded) == encode_dialogues(tokenizer, [given[0], given[2]])
    counts = {k: found.facts[k] for k in ("given", "used", "dropped", "cut", "length", "long")}
    assert counts == {"given": 3, "used": 2, "dropped": 1, "cut": 0, "length": 20, "long": "drop"}
    assert found.facts["first"] == "row 2 of chats.jsonl"
    assert len(lines) == 1 and "1 dropped" in lines[0] and "row 2 of chats.jsonl" in lines[0]


def test_cutting_keeps_the_head_and_something_to_learn(tokenizer):
    given = dialogues((2, 3), (4, 50), (50, 4))  # of the third one only the question would be left
    whole = encode_dialogues(tokenizer, given)
    found = fitted(tokenizer, given, 20, "cut", log=lambda line: None)
    assert [len(e.ids) for e in found.encoded] == [len(whole[0].ids), 20]
    assert list(found.encoded[1].ids) == list(whole[1].ids)[:20] and any(found.encoded[1].mask)
    assert list(found.encoded[1].mask) == list(whole[1].mask)[:20]
    assert (found.facts["cut"], found.facts["dropped"], found.facts["used"]) == (1, 1, 2)


@pytest.mark.parametrize("long", ["drop", "cut"])
def test_nothing_left_is_one_line(tokenizer, long):
    with pytest.raises(
        UsageError, match=r"method.length: got 9; allowed: more: .* nothing is left"
    ):
        fitted(tokenizer, dialogues((20, 3), (30, 5)), 9, long, log=lambda line: None)
    given = [*dialogues((2, 3), part=0), *dialogues((30, 5), part=1)]
    with pytest.raises(UsageError, match="nothing is left of chats.jsonl"):
        fitted(tokenizer, given, 20, long, log=lambda line: None)

"""Pieces of a growing answer joined are the whole answer, whatever the tokens are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxsafety.data.tokens.growing import CUT, Growing
from jaxsafety.data.tokens.tokenizer import ByteTokenizer

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def said(text, stops):
    tokenizer = ByteTokenizer()
    settled = Growing(tokenizer, stops, strip=False)
    pieces = []
    for token in tokenizer.encode(text):
        pieces.append(settled.add(token))
        if settled.stopped:
            break
    return settled, [*pieces, settled.end()]


@given(TEXTS)
def test_joined_they_are_the_text(text):
    settled, pieces = said(text, ())
    whole = ByteTokenizer().decode(ByteTokenizer().encode(text))
    assert "".join(pieces) == whole == settled.said
    assert CUT in whole or not any(CUT in piece for piece in pieces)


@given(TEXTS, st.lists(st.text("abä€", min_size=1, max_size=3), max_size=3), TEXTS)
def test_a_stop_string_ends_it_at_its_first_place(text, stops, more):
    text = text + "".join(stops) + more
    settled, pieces = said(text, stops)
    whole = ByteTokenizer().decode(ByteTokenizer().encode(text))
    # Of all stop strings that are whole first, the one that begins first.
    grown = (whole[:size] for size in range(1, len(whole) + 1))
    places = ([at for at in map(part.find, stops) if at >= 0] for part in grown)
    first = next((min(found) for found in places if found), len(whole))
    assert settled.stopped == any(stop in whole for stop in stops)
    assert "".join(pieces) == whole[:first]


@pytest.mark.parametrize(
    ("text", "stops", "kept"),
    [("abc", ["c"], "ab"), ("abab", ["bac"], "abab"), ("a€b", ["€"], "a"), ("aab", ["ab"], "a")],
)
def test_what_may_be_a_stop_string_is_held_back(text, stops, kept):
    _, pieces = said(text, stops)
    assert "".join(pieces) == kept

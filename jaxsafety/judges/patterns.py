"""What a pattern of the refusal rules is, and what a language is made of.

Kinds: "decline" refuses; "lecture" judges the request; "disclaimer" says what one is or knows not;
"answer" sounds like one of these and is none. `refusals.ours` says what each does to an answer.
"""

from __future__ import annotations

import re
from typing import NamedTuple

KINDS = ("answer", "decline", "lecture", "disclaimer")


class Pattern(NamedTuple):
    """A regular expression on `text.plain`, and where the idea came from.

    kind: one of `KINDS`. within: how many characters of the answer are searched. seen_in: names of
    the models of XSTest's set whose disagreements led to it; empty for general knowledge. So the
    rules "found without model C" are those that are not from C alone, and C is held out from them.
    """

    kind: str
    regex: re.Pattern[str]
    within: int
    seen_in: frozenset[str] = frozenset()


def pattern(kind: str, text: str, within: int, *seen_in: str) -> Pattern:
    """A pattern between word ends; white space in `text` stands for one space."""
    joined = " ".join(text.split())
    return Pattern(kind, re.compile(rf"(?<!\w)(?:{joined})(?!\w)"), within, frozenset(seen_in))


class Language(NamedTuple):
    """A language: its code, what shows that a text may be in it, and its patterns."""

    code: str
    marks: re.Pattern[str]
    patterns: tuple[Pattern, ...]


def any_word(words: str) -> re.Pattern[str]:
    """Any of some words, "a|b|c", as a word of its own."""
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)")

"""Prompts that are trained on and measured, or on both sides of a comparison.

Two prompts are the same when they differ in nothing but case, white space, Unicode form, invisible
characters, the shapes of quotes and dashes, quotes around them and the punctuation at their end.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SHOWN = 60  # characters of a prompt in a line
QUOTES = " \"'"
# Shapes that keyboards and word processors give to one sign.
_SIGNS = {
    "'": "`\u00b4\u2018\u2019\u201a\u201b\u2032\u2039\u203a\uff07",
    '"': "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb",
    "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2212",
}
_SHAPES = str.maketrans({shape: sign for sign, shapes in _SIGNS.items() for shape in shapes})


class Told(NamedTuple):
    """A prompt and where it stands: `place` is "row 7 of FILE"."""

    text: str
    place: str


class Clash(NamedTuple):
    """Prompts of `one` that `other` has too: how many of how many, and the first of them."""

    one: str
    other: str
    count: int
    total: int
    first: Told
    same: Told

    def line(self) -> str:
        """The clash in words."""
        text = " ".join(self.first.text.split())
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
        return (
            f"{self.count} of its {self.total} prompts are in {self.other} too, the first:"
            f" {self.first.place} is {self.same.place}: {shown}"
        )


def normal(text: str) -> str:
    """What two spellings of one prompt have in common; never empty for a text that is not."""
    whole = unicodedata.normalize("NFKC", text.translate(_SHAPES)).casefold()
    whole = "".join(c for c in whole if unicodedata.category(c) != "Cf")
    words = " ".join(whole.split())
    end = len(words)
    while end and (words[end - 1].isspace() or unicodedata.category(words[end - 1])[0] == "P"):
        end -= 1
    return words[:end].lstrip(QUOTES) or words  # a minus at the start is part of a task


def clashes(
    ones: Iterable[tuple[str, Sequence[Told]]], others: Sequence[tuple[str, Sequence[Told]]]
) -> list[Clash]:
    """Every pair of a list of `ones` and one of `others` that share prompts.

    Args:
      ones: (name, prompts), such as what is trained on.
      others: (name, prompts), such as what is measured.

    Returns:
      One `Clash` per such pair, in their order.
    """
    known = []
    for name, prompts in others:
        first: dict[str, Told] = {}
        for told in prompts:
            first.setdefault(normal(told.text), told)
        known.append((name, first))
    found = []
    for one, prompts in ones:
        keys = [(normal(told.text), told) for told in prompts]
        for other, first in known:
            hits = [(key, told) for key, told in keys if key in first]
            if hits:
                key, told = hits[0]
                found.append(Clash(one, other, len(hits), len(keys), told, first[key]))
    return found

"""Questions with lettered choices: one way of writing the prompt, whatever columns a file has.

QUESTION

A. first choice
B. second choice

Answer with the letter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase as LETTERS
from typing import Any

from jaxsafety.data.files.turns import kind

_MARK = re.compile(r"^\s*\(?([A-Za-z])[).:]\s*(.*)$", re.DOTALL)
_HEAD = re.compile(r"^(?:Question|Goal):\s*")
_TAIL = re.compile(r"\s*(?:\n\s*Answer:)?\s*$")


def prompt(question: str, choices: Sequence[str]) -> str:
    """The text that is sent to the model."""
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, choices, strict=False)]
    return f"{question.strip()}\n\n" + "\n".join(lines) + "\n\nAnswer with the letter."


def read_choices(value: Any, column: str) -> tuple[list[str], list[str]]:
    """Labels and texts of the choices: a list of texts, {"text", "label"} or a list of those.

    Labels are those of the file ("1", "2", ... in some of ARC), [] where it has none.

    Raises:
      ValueError: another form, fewer than two or more than 26 choices, an empty one.
    """
    if isinstance(value, dict):
        labels, texts = value.get("label"), value.get("text")
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        labels, texts = [one.get("label") for one in value], [one.get("text") for one in value]
    else:
        labels, texts = [], value
    if not isinstance(texts, list) or not isinstance(labels, list):
        raise ValueError(f"`{column}` that is a list of texts, not {kind(value)}")
    if labels and len(labels) != len(texts):
        raise ValueError(f"`{column}` with as many labels as texts")
    if not 2 <= len(texts) <= len(LETTERS):
        raise ValueError(f"`{column}` of 2 to {len(LETTERS)} choices, not {len(texts)}")
    for one in texts:
        if not isinstance(one, (str, int, float)) or not str(one).strip():
            what = "an empty one" if isinstance(one, str) else kind(one)
            raise ValueError(f"`{column}` of texts, not {what}")
    return [str(one).strip() for one in labels], [str(one).strip() for one in texts]


def bare(texts: Sequence[str]) -> list[str]:
    """Choices without the letters that all of them begin with, "(A) cat" or "b. dog"."""
    found = [_MARK.match(text) for text in texts]
    marks = [match.group(1).upper() if match else "" for match in found]
    if marks == list(LETTERS[: len(texts)]):
        return [match.group(2).strip() for match in found if match]
    return list(texts)


def key(value: Any, labels: Sequence[str], texts: Sequence[str]) -> str:
    """The letter of the right choice, from a letter, a label, an index from 0 or the choice itself.

    Raises:
      ValueError: none of these, or a text that could be two of them.
    """
    value = whole(value)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"a letter, an index or a choice, not {kind(value)}")
    given = str(value).strip()
    n = len(texts)
    if isinstance(value, int):
        if labels and given in labels:
            return LETTERS[labels.index(given)]
        if 0 <= value < n:
            return LETTERS[value]
        raise ValueError(f"an index of 0 to {n - 1}, not {value}")
    if given in labels:
        return LETTERS[labels.index(given)]
    letter = given.strip("().").upper()
    if len(letter) == 1 and letter in LETTERS[:n]:  # also where a choice reads "B"
        return letter
    found = {LETTERS[i] for i, text in enumerate(texts) if text == given}
    if given.isdecimal() and len(given) < 3 and int(given) < n:
        found.add(LETTERS[int(given)])
    if len(found) > 1:
        raise ValueError(f"one right choice; {given!r} may be any of {', '.join(sorted(found))}")
    if not found:
        raise ValueError(f"a letter of A to {LETTERS[n - 1]}, an index or a choice, not {given!r}")
    return found.pop()


def whole(value: Any) -> Any:
    """2 for 2.0, as tables with gaps write whole numbers; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def split(query: str, labels: Sequence[str]) -> tuple[str, list[str]]:
    r"""Question and choices of a text that shows them: "...\n A. cat\n B. dog\nAnswer:".

    Raises:
      ValueError: the choices are not there.
    """
    text = _TAIL.sub("", query)
    # from the end, so that a letter with a point inside the question is no choice
    parts: list[str] = []
    for letter in reversed(labels):
        at = max(text.rfind(f"\n{letter}. "), text.rfind(f"\n {letter}. "))
        if at < 0:
            raise ValueError(f"the choices behind the letters {', '.join(labels)} in the query")
        parts.append(text[at:].split(". ", 1)[1].strip())
        text = text[:at]
    return plain(text.removesuffix("\nChoices:")), parts[::-1]


def plain(query: str) -> str:
    """A question without the words of a prompt for base models around it."""
    return _HEAD.sub("", _TAIL.sub("", query)).strip()

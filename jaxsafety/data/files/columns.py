"""Cells of a row by the names of their columns, and which half of a labelled set a row is of.

Names are compared without case and with "_" for spaces: "Best Answer" is best_answer. Functions
raise ValueError with the reason, without file and row, which the caller knows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxsafety.data.files.turns import kind
from jaxsafety.data.schema import Message

Row = Mapping[str, Any]

SAFE = ("safe", "benign", "harmless", "unharmful", "nontoxic")
UNSAFE = ("unsafe", "harmful", "malicious", "toxic")
_LABELS = {"label", "labels", "safe", "unsafe", "harmful", "harmless", "toxic", "benign", "safety"}
_ASKED = {"prompt", "question", "instruction", "query", "request"}
_TWO = (True, False, "0", "1", "true", "false")


class Asked(NamedTuple):
    """What one row says.

    Attributes:
      layout: which layout it has.
      messages: what is asked; ends with the user. Empty where nothing is.
      dialogue: what is asked and the answer to learn; empty where there is none.
      no_dialogue: why there is none.
      no_prompt: why nothing is asked.
      gold: the right answer as text, "" where there is none.
      no_gold: why there is none.
      grade: how an answer is graded; "" leaves it to the form of all right answers of the file.
      choices: of a task with letters, in their order.
      answers: every text that is right, where there are several.
      half: "safe" or "unsafe", "" where the row does not say; anything else is why it cannot be
        told.
    """

    layout: str
    messages: tuple[Message, ...]
    dialogue: tuple[Message, ...] = ()
    no_dialogue: str = "an answer to learn from; this row has none"
    no_prompt: str = ""
    gold: str = ""
    no_gold: str = "this layout has no right answers"
    grade: str = ""
    choices: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    half: str = ""


def ask(layout: str, prompt: str, reply: str = "", **more: Any) -> Asked:
    """An `Asked` of one question."""
    messages = (Message("user", prompt),)
    dialogue = (*messages, Message("assistant", reply)) if reply else ()
    return Asked(layout, messages, dialogue, **more)


def converse(
    layout: str, whole: tuple[Message, ...], *, may_be_empty: bool = False, **more: Any
) -> Asked:
    """An `Asked` of a whole dialogue: what is asked is all but the assistant's last turn."""
    last = whole[-1].role
    empty = last == "assistant" and not whole[-1].content.strip() and not may_be_empty
    ends = f"a dialogue that ends with the assistant; this one ends with the {last}"
    if last == "assistant":
        ends = "a last answer that is not empty" if empty else ""
    rest = whole[:-1] if last == "assistant" else whole
    asks = bool(rest) and rest[-1].role == "user" and bool(rest[-1].content.strip())
    return Asked(
        layout,
        rest if asks else (),
        () if ends else whole,
        ends,
        "" if asks else "a user turn that is asked at the end, perhaps with its answer",
        **more,
    )


def normalise(row: Mapping[Any, Any]) -> Row:
    """The row under compared names.

    Raises:
      ValueError: two columns of one name.
    """
    found: dict[str, Any] = {}
    for name, value in row.items():
        short = "_".join(str(name).replace("\ufeff", "").lower().split())
        if short in found:
            raise ValueError(f"columns of different names ({short!r} is there twice)")
        found[short] = value
    return found


def text(row: Row, name: str) -> str:
    """The text of a column, as it is.

    Raises:
      ValueError: it is empty, null or no text.
    """
    value = row.get(name)
    if not isinstance(value, str):
        raise ValueError(f"a text under `{name}`, not {kind(value)}")
    if not value.strip():
        raise ValueError(f"a text under `{name}`, not an empty one")
    return value


def maybe(row: Row, name: str) -> str:
    """The text of a column, or "" where it is absent, null or empty.

    Raises:
      ValueError: it is no text.
    """
    value = row.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    # Self-instruct writes this where an instruction needs no input.
    return "" if isinstance(value, str) and value.strip() == "<noinput>" else text(row, name)


def join(*parts: str) -> str:
    """The parts that are not empty, with an empty line between."""
    return "\n\n".join(part for part in parts if part)


def gold_text(value: Any) -> str:
    """A right answer as text; "" for null and for texts without words.

    Raises:
      ValueError: no text, number or truth value.
    """
    if value is None:
        return ""
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return str(int(value)) if abs(value) < 1e15 else str(value)  # parquet's 3.0
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a right answer that is text or a number, not {value}")
    if isinstance(value, (str, int, float)):
        return str(value).strip()
    raise ValueError(f"a right answer that is text or a number, not {kind(value)}")


def half(row: Row, but: tuple[str, ...]) -> str:
    """Which half of a set this row says it is of, see `Asked.half`; columns `but` say nothing.

    Where a column labels the prompt ("prompt_harm_label"), those of answers do not count.
    """
    said = [n for n, v in row.items() if n not in but and _word(v) in (*SAFE, *UNSAFE)]
    named_so = [name for name in said if set(name.split("_")) & _ASKED]
    if named_so:
        row = {name: row[name] for name in named_so}
    found = set()
    for name, value in row.items():
        if name in but or "category" in name:  # a kind of harm may be called "harmful"
            continue
        word = _word(value)
        if name == "type" and isinstance(word, str) and word.startswith("contrast_"):
            return "XSTest's `label` or `focus` beside its `type`"
        if isinstance(word, str) and word in (*SAFE, *UNSAFE):
            found.add("safe" if word in SAFE else "unsafe")
        elif set(name.split("_")) & _LABELS and not isinstance(word, (list, dict)) and word in _TWO:
            return f"`{name}` to say safe or unsafe in words, not {value!r}"
    if len(found) > 1:
        return "columns that agree on safe or unsafe"
    return found.pop() if found else ""


def labels(name: str, value: Any) -> bool:
    """Whether a cell (of a compared name) may say that a row is safe or unsafe."""
    named = bool(set(name.split("_")) & _LABELS) and not isinstance(value, (list, dict))
    return named or _word(value) in (*SAFE, *UNSAFE)


def other_label(rows: Sequence[Any], but: tuple[str, ...]) -> tuple[int, str, str] | None:
    """(row from 1, column, word) of the first label that is neither safe nor unsafe, or None.

    Labels are the columns that say one of the two in other rows: of a third word ("unclear") nobody
    knows which half it means.
    """
    labels: set[str] = set()
    others: dict[str, tuple[int, str, str]] = {}
    for number, row in enumerate(rows, start=1):
        for name, value in normalise(row).items() if isinstance(row, dict) else ():
            if name in but or "category" in name or not isinstance(value, str) or not value.strip():
                continue
            if _word(value) in (*SAFE, *UNSAFE):
                labels.add(name)
            else:
                others.setdefault(name, (number, name, value[:40]))
    return min((others[name] for name in labels & set(others)), default=None)


def _word(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value

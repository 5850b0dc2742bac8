"""Rows of which the user has named the column: it is the prompt, or the turns of a dialogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxsafety.data.files import columns, generic, tasks
from jaxsafety.data.files.text_rows import Flaw
from jaxsafety.data.files.turns import kind, transcript
from jaxsafety.data.messages import BESIDE, ROW_FIELDS

# What is said about a prompt, not in it: answers, who speaks first, what would be lost.
_KEPT = {*tasks.GOLD, *generic.REPLIES, *BESIDE, *ROW_FIELDS, "system", "system_prompt", "type"}
_KEPT |= {"answers"}


def pick(rows: Sequence[Any], column: str) -> list[dict[str, Any]]:
    """Rows of one column, under `prompt` (a dialogue that is written out: under `messages`).

    Answers, labels and the system's turn stay beside it; other columns are not read.

    Args:
      rows: of a file.
      column: its name, as the file writes it or as names are compared.

    Raises:
      Flaw: a row without this column, or with neither a text nor turns in it.
    """
    return [_pick(row, column, number) for number, row in enumerate(rows, start=1)]


def _pick(row: Any, column: str, number: int) -> dict[str, Any]:
    place = f"row {number}"
    if not isinstance(row, Mapping):
        raise Flaw(place, f"a row with columns, to take {column!r} of, not {kind(row)}")
    try:
        cells = columns.normalise(row)
    except ValueError as error:
        raise Flaw(place, str(error)) from None
    (name,) = columns.normalise({column: None})
    if name not in cells:
        raise Flaw(place, f"a column of {', '.join(map(str, row))}, not {column!r}")
    value = cells[name]
    listed = isinstance(value, list) and bool(value)
    if not listed and not (isinstance(value, str) and value.strip()):
        what = "an empty one" if value in ("", []) or isinstance(value, str) else kind(value)
        raise Flaw(place, f"a text or turns under `{name}`, not {what}")
    kept = {n: v for n, v in cells.items() if n != name and (n in _KEPT or columns.labels(n, v))}
    if listed:  # an answer beside turns is one only where it is turns too
        alone = {*generic.REPLIES} - {*tasks.GOLD}
        kept = {n: v for n, v in kept.items() if n not in alone or isinstance(v, list)}
    turns = transcript(value) if isinstance(value, str) else None
    if turns and turns[-1].role == "assistant" and turns[-1].content:
        kept = {n: v for n, v in kept.items() if n not in generic.REPLIES}
        return {**kept, "messages": [turn._asdict() for turn in turns]}
    return {**kept, "prompt": value}

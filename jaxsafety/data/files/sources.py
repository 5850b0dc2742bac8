"""Prompts and dialogues from files, one per row or line.

Places are in spec.py, formats in tables.py, columns in layouts.py, examples in docs/files.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.data import messages
from jaxsafety.data.files import columns, generic, layouts, tasks
from jaxsafety.data.files.columns import Asked
from jaxsafety.data.files.tables import read_rows
from jaxsafety.data.schema import Message

PROMPT_FIELDS = generic.PROMPTS
# Which half of a labelled set a kind of benchmark takes.
HALVES = {"safety": "unsafe", "over_refusal": "safe"}
# Columns in which a word such as "safe" is no label.
BUT = (*generic.PROMPTS, *generic.AFTER, *generic.REPLIES, *tasks.GOLD)


@dataclass(frozen=True)
class Loaded:
    """Rows of a file that are used.

    Attributes:
      rows: (1-based row of the file, what it says) in file order.
      total: how many rows the file has.
      left_out: safe, unsafe or repeated -> how many were not used.
    """

    rows: tuple[tuple[int, Asked], ...]
    total: int
    left_out: Mapping[str, int]

    @property
    def layout(self) -> str:
        """In words: which layouts, and what was left out."""
        names = " and ".join(dict.fromkeys(asked.layout for _, asked in self.rows))
        return f"{names} layout{_gone(self.left_out, self.total)}"


def load_prompts(path: str | Path, field: str = "path", kind: str = "") -> Loaded:
    """Reads prompts for a kind of measurement.

    Args:
      path: a file or directory, see `tables.read_rows`.
      field: how an error names this path.
      kind: "safety" takes the unsafe half of a set that labels its prompts, "over_refusal" the safe
        half; "capability" needs a right answer in every row; "" takes every row.

    Returns:
      The rows, and how many were left out.

    Raises:
      UsageError: a file that cannot be read, a row that is no prompt, or no rows.
    """
    return select(read_rows(path, field), path, field, kind)


def select(
    rows: list[Any],
    path: str | Path,
    field: str,
    kind: str,
    skip: Mapping[int, str] = MappingProxyType({}),
) -> Loaded:
    """As `load_prompts`, of the rows that were read from `path`.

    Args:
      rows: of the whole file.
      path: where they are from.
      field: how an error names this path.
      kind: as for `load_prompts`.
      skip: 1-based rows that are not read -> why, in a word or two.
    """
    found, gone, seen = [], Counter(skip.values()), set()
    total = len(rows)
    for number, asked in _asked(path, field, rows, skip):
        if not asked.messages:
            raise bad(field, f"row {number} of {path}", asked.no_prompt)
        half = HALVES.get(kind, "")
        if half and asked.half not in ("", "safe", "unsafe"):
            raise bad(field, f"row {number} of {path}", f"{asked.half} ({kind} takes one half)")
        if half and asked.half not in ("", half):
            gone[asked.half] += 1
            continue
        if kind == "capability" and not asked.gold:
            wanted = f"an `answer` for every prompt of a capability set ({asked.no_gold})"
            raise bad(field, f"row {number} of {path}", wanted)
        # One prompt per model that answered it.
        if asked.layout == "XSTest completions":
            if asked.messages in seen:
                gone["repeated"] += 1
                continue
            seen.add(asked.messages)
        found.append((number, asked))
    if kind in HALVES:
        read = [None if number in skip else row for number, row in enumerate(rows, start=1)]
        other = columns.other_label(read, BUT)
        if other is not None:
            number, name, word = other
            allowed = f"`{name}` to say safe or unsafe, as it does elsewhere, not {word!r}"
            raise bad(field, f"row {number} of {path}", f"{allowed} ({kind} takes one half)")
    if not found:
        rest = _gone(gone, total)
        raise bad(field, f"no rows in {path}{rest}", "at least one prompt")
    return Loaded(tuple(found), total, dict(gone))


def read_prompts(path: str | Path, field: str = "path") -> list[dict[str, str]]:
    """Reads prompts (and right answers, where there are some).

    Args:
      path: a file or directory, see `tables.read_rows`.
      field: how an error names this path.

    Returns:
      One {"prompt", "answer"} per row, in file order; "prompt" is what the user asks last,
      "answer" is "" where the row has none.

    Raises:
      UsageError: a file that cannot be read, a row that is no prompt, or no rows.
    """
    rows = load_prompts(path, field).rows
    return [{"prompt": asked.messages[-1].content, "answer": asked.gold} for _, asked in rows]


def read_chats(path: str | Path, field: str = "path") -> list[tuple[Message, ...]]:
    """Reads dialogues.

    A row has "messages" (or "conversations"), a list of {"role", "content"} (or {"from", "value"})
    that ends with the assistant, or a prompt and an answer, or the columns of a known layout.

    Args:
      path: a file or directory, see `tables.read_rows`.
      field: how an error names this path.

    Returns:
      One dialogue per row, in file order: that of row n (from 1) is at n - 1.

    Raises:
      UsageError: a file that cannot be read, a row that is no dialogue, or no rows.
    """
    found = []
    for number, asked in _asked(path, field, read_rows(path, field)):
        if not asked.dialogue:
            why = asked.no_dialogue
            raise bad(field, f"row {number} of {path}", why)
        found.append(asked.dialogue)
    if not found:
        raise bad(field, f"no rows in {path}", "at least one dialogue")
    return found


def _asked(
    path: str | Path,
    field: str,
    rows: list[Any],
    skip: Mapping[int, str] = MappingProxyType({}),
) -> Iterator[tuple[int, Asked]]:
    for number, row in enumerate(rows, start=1):
        if number in skip:
            continue
        lost = messages.lost(row)
        if lost is not None:
            allowed = "messages of a role and a content, since more would be lost"
            raise bad(field, f"row {number} of {path}, {lost}", allowed)
        try:
            yield number, layouts.read(row)
        except (ValueError, RecursionError) as error:
            raise bad(field, f"row {number} of {path}", str(error) or "another row") from None


def _gone(left_out: Mapping[str, int], total: int) -> str:
    told = " and ".join(f"{count} {why}" for why, count in left_out.items())
    return f" ({told} of {total} rows left out)" if told else ""

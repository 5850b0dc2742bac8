"""Preference pairs of files: a prompt with two answers, two dialogues, two transcripts.

Each side is read as `layouts.py` reads the preferred one: as HH-RLHF's transcript, as turns, or as
the answer to a column with the prompt. The turns that both share, up to an answer, are the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.data.files import layouts
from jaxsafety.data.files.columns import normalise
from jaxsafety.data.files.tables import read_rows
from jaxsafety.data.files.turns import kind
from jaxsafety.data.preferences import Preferred
from jaxsafety.data.schema import Message

SIDES = ("chosen", "rejected")
WHOLE = ("messages", "conversations")  # they repeat one of the sides


def read_pairs(path: str | Path, field: str = "path") -> list[Preferred]:
    """Reads preference pairs.

    Args:
      path: a file or directory, see `tables.read_rows`.
      field: how an error names this path.

    Returns:
      One pair per row, in file order.

    Raises:
      UsageError: a file that cannot be read, a row that is no pair, or no rows.
    """
    found = []
    for number, row in enumerate(read_rows(path, field), start=1):
        try:
            prompt, chosen, rejected = split(row)
            numbers = _numbers(row)
        except (ValueError, RecursionError) as error:
            raise bad(field, f"row {number} of {path}", str(error) or "another row") from None
        meta = {"file": str(path), "row": number}
        found.append(Preferred(str(number - 1), prompt, chosen, rejected, numbers, meta))
    if not found:
        raise bad(field, f"no rows in {path}", "at least one pair")
    return found


def split(row: Any) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """(prompt, preferred answer, other answer) of a row.

    Raises:
      ValueError: the reason why it is no pair.
    """
    if not isinstance(row, dict):
        raise ValueError(f"an object with `chosen` and `rejected`, not {kind(row)}")
    cells = normalise(row)
    for name in SIDES:
        if cells.get(name) is None:
            raise ValueError(f"two answers, under `chosen` and `rejected`; there is no `{name}`")
    rest = {name: value for name, value in cells.items() if name not in WHOLE}
    first, second = (_dialogue({**rest, "chosen": cells[name]}, name) for name in SIDES)
    shared = 0
    for one, other in zip(first[:-1], second[:-1], strict=False):
        if one != other:
            break
        shared += 1
    while shared and not first[shared].role == second[shared].role == "assistant":
        shared -= 1
    if not shared or all(turn.role == "system" for turn in first[:shared]):
        raise ValueError("`chosen` and `rejected` that answer one prompt; these begin differently")
    return first[:shared], first[shared:], second[shared:]


def _dialogue(cells: Mapping[str, Any], name: str) -> tuple[Message, ...]:
    """One side as a whole dialogue, read as if it were the preferred one."""
    try:
        asked = layouts.read(cells)
        if not asked.dialogue:
            raise ValueError(asked.no_dialogue)
    except ValueError as error:
        told = str(error)
        raise ValueError(told if name == "chosen" else f"`{name}`, read as `chosen`: {told}") from (
            None
        )
    return asked.dialogue


def _numbers(row: Mapping[Any, Any]) -> dict[str, float]:
    """Every number of a row, by column; text that is one (csv has no other) counts too."""
    found: dict[str, float] = {}
    for name, value in normalise(row).items():
        if isinstance(value, bool | int | float):
            found[name] = float(value)
        elif isinstance(value, str) and name not in SIDES and len(value) < 40:
            try:
                found[name] = float(value)
            except ValueError:
                continue
            if not math.isfinite(found[name]) and not value.strip().lower().startswith("nan"):
                del found[name]
    return found

"""How many prompts a set shares with other sets, and with what was trained on: by their letters.

`overlap.clashes` refuses what is the same but for case, white space and quotes. A report counts
more widely: two prompts are one here when their letters and digits are equal, whatever stands
between them, so that a comma or a hyphen hides nothing. Signs that make another task of the same
digits stay: "3 - 2" is not "3 + 2".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from jaxsafety.data import overlap
from jaxsafety.data.items import Item
from jaxsafety.data.overlap import Clash, Told

# What stands between two numbers, and a minus before one: parts of a task. While other punctuation
# is dropped they are control characters, of which prompts have none.
_BETWEEN = re.compile(r"(?<=\d)(\s*[-*/^.,:%]\s*|\s+)(?=\d)")
_MINUS = re.compile(r"(?<![\w)\]])-(?=\d)")
_SIGNS = {sign: chr(place) for place, sign in enumerate(("", *"-*/^.,:%"), start=1)}
_NEGATIVE = "\x0e"
_KEPT = {*_SIGNS.values(), _NEGATIVE}


def letters(text: str) -> str:
    """What two spellings of one prompt have in common; never empty for a text that is not."""
    whole = overlap.normal(text)
    marked = _BETWEEN.sub(_between, _MINUS.sub(_NEGATIVE, whole))
    kept = "".join(c for c in marked if c in _KEPT or _tells(c))
    return kept if any(unicodedata.category(c)[0] in "LN" for c in kept) else whole


def _between(match: re.Match[str]) -> str:
    """The sign between two digits, or that there is none; "" would make 12 of "1 2"."""
    return _SIGNS[match[1].strip()]


def _tells(sign: str) -> bool:
    kind = unicodedata.category(sign)
    return kind[0] in "LMN" or kind == "Sm" or sign in "*/^"


def asked(items: Iterable[Item]) -> list[Told]:
    """What the user asks last in each item, and where that stands."""
    found = []
    for item in items:
        row, file = item.meta.get("row"), item.meta.get("file")
        place = f"row {row} of {file}" if row and file else f"item {item.id}"
        turns = [message.content for message in item.messages if message.role == "user"]
        found += [Told(turns[-1], place)] if turns else []
    return found


def shared(
    measured: Sequence[tuple[str, Sequence[Told]]],
    trained: Sequence[tuple[str, Sequence[Told]]] = (),
) -> list[dict[str, Any]]:
    """What every measured set shares: a row per set, in their order.

    Args:
      measured: (name, prompts) of each set, `asked` of its items.
      trained: (name, prompts) of what the run learnt from.

    Returns:
      Per set: "set"; "prompts", how many; "repeated", how many of them stood in it before; "sets"
      and "trained", name -> how many of its prompts that one has too (0 where none, every other
      one named); "any_set" and "any_trained", how many are in at least one of those; "examples", a
      line (`overlap.Clash.line`) for each pair that shares some.
    """
    measured_keys = [_keys(told) for _, told in measured]
    known = [
        (name, _first(told, keys))
        for (name, told), keys in zip(measured, measured_keys, strict=True)
    ]
    learnt = [(name, _first(told, _keys(told))) for name, told in trained]
    rows = []
    for index, (name, told) in enumerate(measured):
        keys = measured_keys[index]
        row: dict[str, Any] = {
            "set": name,
            "prompts": len(told),
            "repeated": len(keys) - len(set(keys)),
        }
        examples = []
        for field, everyone in (
            ("sets", known[:index] + known[index + 1 :]),
            ("trained", learnt),
        ):
            counts, some = {}, set()
            for other, first in everyone:
                hits = [place for place, key in enumerate(keys) if key in first]
                counts[other] = counts.get(other, 0) + len(hits)
                some.update(hits)
                if hits:
                    one = told[hits[0]]
                    clash = Clash(name, other, len(hits), len(told), one, first[keys[hits[0]]])
                    examples.append(clash.line())
            row |= {field: counts, f"any_{field.removesuffix('s')}": len(some)}
        rows.append(row | {"examples": examples})
    return rows


def _keys(told: Sequence[Told]) -> list[str]:
    return [letters(one.text) for one in told]


def _first(told: Sequence[Told], keys: Sequence[str]) -> dict[str, Told]:
    found: dict[str, Told] = {}
    for one, key in zip(told, keys, strict=True):
        found.setdefault(key, one)
    return found

"""What differs between the settings of runs, and between the facts around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxsafety.report import page
from jaxsafety.report.compare.sources import Source

_ABSENT = object()


class Differing(NamedTuple):
    """A setting, and its value in each run: None where it has none."""

    name: str
    values: list[str | None]


class Diff(NamedTuple):
    """What differs: `same` settings do not."""

    labels: list[str]
    rows: list[Differing]
    same: int


def diff(sources: Sequence[Source], of: str) -> Diff:
    """The settings, or the facts, in which sources differ.

    Args:
      sources: two or more.
      of: "settings" or "facts".
    """
    told: list[Mapping[str, Any]] = [getattr(source, of) for source in sources]
    names = list(dict.fromkeys(name for one in told for name in one))
    rows, same = [], 0
    for name in names:
        values = [one.get(name, _ABSENT) for one in told]
        if all(type(v) is type(values[0]) and v == values[0] for v in values):
            same += 1
        else:
            shown = [None if v is _ABSENT else page.show(v) for v in values]
            rows.append(Differing(name, shown))
    return Diff([source.label for source in sources], rows, same)

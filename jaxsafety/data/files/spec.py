"""How rows are named: a file, a directory or a data set of the hub, its split, a slice, a column.

    FILE[a:b]:COLUMN    DIR:SPLIT[a:b]:COLUMN    OWNER/NAME@REVISION/CONFIG:SPLIT[a:b]:COLUMN

Everything behind the place may be left out. Slices are those of the `datasets` library: `[:400]`,
`[100:]`, `[-50:]`, `[10%:20%]`, also with its rounding. What lies on this disk under the whole name
is that, whatever colons and brackets it has. Nothing is opened or fetched here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jaxsafety.core import hub
from jaxsafety.core.errors import bad

DATA = (".parquet", ".arrow", ".jsonl", ".json", ".csv", ".txt", ".gz", ".zst")  # ends of names
CARD = "README.md"
SLICES = "a slice such as [:400], [100:], [-50:] or [10%:20%]"
PLACES = "an existing file or directory of rows, or a data set of the hub as owner/name"
FORMS = "FILE[a:b]:COLUMN, DIR:SPLIT[a:b]:COLUMN or OWNER/NAME@REVISION/CONFIG:SPLIT[a:b]:COLUMN"

_NUMBER = r"-?[0-9](?:_?[0-9]){0,17}"
_CUT = re.compile(rf"(?P<start>{_NUMBER})?(?P<a>%)?:(?P<stop>{_NUMBER})?(?P<b>%)?")
_REST = re.compile(
    r"(?::(?P<split>\w+(?:[.-]\w+)*)?)?(?:\[(?P<cut>[^\[\]]*)\])?(?::(?P<column>[^:\[\]=,\r\n]+))?"
)
# A branch with a slash in it would look like a configuration: only those of the hub's own are read.
_HUB = re.compile(
    rf"(?P<name>{hub.NAME})(?:@(?P<revision>refs/convert/\w+|refs/pr/[0-9]+|\w[\w.-]*))?"
    r"(?:/(?P<config>\w[\w.-]*(?:/\w[\w.-]*)*))?(?P<rest>[:\[].*)?",
    re.DOTALL,
)
Kind = Callable[[str], str]


class Cut(NamedTuple):
    """A slice, as `datasets` reads it; None where a side is open."""

    start: int | None = None
    stop: int | None = None
    percent: bool = False

    def bounds(self, count: int) -> tuple[int, int]:
        """First row (from 0) and the one after the last, of `count`."""
        start, stop = self.start, self.stop
        if self.percent:  # rounded to the nearest row, halves to the even one
            start = None if start is None else round(start * count / 100.0)
            stop = None if stop is None else round(stop * count / 100.0)
        first, last = 0 if start is None else start, count if stop is None else stop
        first, last = (max(count + n, 0) if n < 0 else min(n, count) for n in (first, last))
        return first, max(first, last)

    def __str__(self) -> str:
        sides = ("" if n is None else f"{n}{'%' * self.percent}" for n in (self.start, self.stop))
        return f"[{':'.join(sides)}]"


class Spec(NamedTuple):
    """What a text names; `str` writes it again.

    Attributes:
      place: a file or directory, or "owner/name".
      kind: "file", "directory" or "hub".
      revision: of the hub; "" is the newest.
      config: a configuration of a data set; "" is the only or the default one.
      split: "" is the only one.
      cut: which of its rows; None is all.
      column: "" is whatever the rows are known by.
    """

    place: str
    kind: str
    revision: str = ""
    config: str = ""
    split: str = ""
    cut: Cut | None = None
    column: str = ""

    @property
    def plain(self) -> bool:
        """Whether it is a file or directory and nothing more."""
        return self == Spec(self.place, self.kind) and self.kind != "hub"

    def __str__(self) -> str:
        text = self.place + (f"@{self.revision}" if self.revision else "")
        text += f"/{self.config}" if self.config else ""
        text += f":{self.split}" if self.split else ""
        text += str(self.cut) if self.cut else ""
        if not self.column:
            return text
        # Without anything before it a column would be a split, but a file has none.
        return f"{text}{'' if self.split or self.cut or self.kind == 'file' else ':'}:{self.column}"


def parse(text: str, field: str = "path", kind: Kind | None = None) -> Spec:
    """Reads a text.

    Args:
      text: see the head of this file.
      field: how an error names it.
      kind: what lies under a name on this disk: "file", "directory" or "" for nothing.

    Raises:
      UsageError: nothing is there and it is no hub id, or what follows the place has another form.
    """
    kind = kind or kind_of
    found, rest = place_of(text, kind)
    if found is None:
        raise bad(field, text, PLACES)
    match = _REST.fullmatch(rest)
    if match is not None and found.kind != "file" and rest == f":{match['column']}":
        match = None  # it stands where the split does, and is none
    if match is None:
        inside = re.search(r"\[([^\[\]]*)\]", rest)
        broken = inside is not None and cut_of(inside[1]) is None
        raise bad(field, text, SLICES if broken else FORMS)
    split, column = match["split"] or "", match["column"] or ""
    if column != column.strip():
        raise bad(field, text, "a column's name without spaces around it")
    if found.kind == "file":
        if split and (column or match["cut"] is not None):
            raise bad(field, text, f"FILE[a:b]:COLUMN: a file has no splits such as {split}")
        split, column = "", column or split
    if match["cut"] is None:
        return found._replace(split=split, column=column)
    cut = cut_of(match["cut"])
    if cut is None:
        raise bad(field, text, SLICES)
    if cut.percent and any(abs(n or 0) > 100 for n in cut[:2]):
        raise bad(field, text, "percentages from -100 to 100")
    return found._replace(split=split, cut=cut, column=column)


def cut_of(text: str) -> Cut | None:
    """The slice that stands in brackets; None for what is none."""
    match = _CUT.fullmatch(text)
    if match is None:
        return None
    given = [(match["start"], match["a"]), (match["stop"], match["b"])]
    signs = {bool(sign) for number, sign in given if number is not None}
    if len(signs) > 1 or any(sign and number is None for number, sign in given):
        return None
    start, stop = (None if number is None else int(number) for number, _ in given)
    return Cut(start, stop, True in signs)


def place_of(text: str, kind: Kind | None = None) -> tuple[Spec | None, str]:
    """The place that a text begins with and what follows it; None where there is none."""
    kind = kind or kind_of
    for end in range(len(text), 0, -1):
        follows, before = text[end : end + 1], text[:end]
        if (follows in ("", ":", "[")) and (what := kind(before)):
            return Spec(before, what), text[end:]
        if follows == "/" and kind(before) == "directory" and kind(f"{before}/{CARD}") == "file":
            config = re.match(r"/(\w[\w.-]*)", text[end:])  # one that the card names
            rest = text[end + config.end() :] if config else ""
            if config and (not rest or rest[0] in ":[") and not config[1].endswith(DATA):
                return Spec(before, "directory", config=config[1]), rest
    match = _HUB.fullmatch(text)
    if match is None or kind(text.partition("/")[0]) == "directory":
        return None, ""  # a name whose first part is a directory here is never a hub id
    revision, config = match["revision"] or "", match["config"] or ""
    if (config or match["name"]).endswith(DATA) and not (config and revision):
        return None, ""  # a file that is missing; of a repository it is owner/name@main/FILE
    return Spec(match["name"], "hub", revision, config), match["rest"] or ""


def kind_of(path: str) -> str:
    """What lies there: "file", "directory" or ""."""
    try:
        place = Path(path)
        return "directory" if place.is_dir() else "file" if place.is_file() else ""
    except (OSError, ValueError):  # too long a name, a null byte
        return ""

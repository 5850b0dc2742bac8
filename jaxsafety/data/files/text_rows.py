"""Rows of a text: JSON lines, a JSON list, csv with a header, plain lines.

Python's and pyarrow's readers stop at the first flaw without saying which row it is in, or mend it
in silence (a csv row with too many fields, a name twice in an object, a quote that is never
closed). Here every flaw has its place.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE = re.compile(r"[ \t\r\n]*")
Unpack = Callable[[dict[str, Any]], list[Any]]
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}


class Flaw(ValueError):
    """What is wrong, and where: "row 3" or "line 7" of the file."""

    def __init__(self, place: str, why: str) -> None:
        """Keeps both; the message is `why`."""
        super().__init__(why)
        self.place = place


def decode(raw: bytes) -> str:
    """UTF-8 text (a byte order mark is dropped).

    Raises:
      Flaw: another encoding, or a NUL byte, which no text file holds.
    """
    for mark, name in _BOMS.items():
        if raw.startswith(mark):
            raise Flaw("line 1", f"UTF-8 text, not {name}")
    nul = raw.find(b"\0")
    if nul >= 0:
        raise Flaw(_line(raw, nul), "UTF-8 text without NUL bytes (UTF-16, or not a text?)")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{raw[error.start]:02x} is not UTF-8 (Latin-1?)"
        raise Flaw(_line(raw, error.start), byte) from None


def parse(suffix: str, text: str, unpack: Unpack | None = None) -> list[Any]:
    """The rows of a .txt, .csv, .jsonl or .json text.

    Args:
      suffix: which of the four.
      text: all of it.
      unpack: of a .json that is one object: the rows in it; raises ValueError with the reason why
        it is another object.

    Raises:
      Flaw: with the row or line.
    """
    if suffix == ".txt":
        # Lines end with \n, \r\n or \r and nothing else: not splitlines, which also cuts at form
        # feeds, U+0085 and U+2028.
        lines = io.StringIO(text, newline=None)
        return [line.rstrip("\n") for line in lines if line.strip()]
    if suffix == ".csv":
        return list(_csv(text))
    if suffix == ".jsonl":
        return list(_json_lines(text))
    return _json(text, unpack)


def _line(raw: bytes, index: int) -> str:
    return f"line {raw.count(bytes([10]), 0, index) + 1}"


def _csv(text: str) -> Iterator[dict[str, str]]:
    limit = csv.field_size_limit(max(len(text), 1))  # the default refuses fields of 131,072
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header: list[str] | None = []
        while header == []:  # blank lines before it
            header = _record(reader)
        header = header or []
        names = [name.strip() for name in header]
        twice = next((name for name in names if name and names.count(name) > 1), None)
        if twice is not None:
            why = f"columns of different names ({twice!r} is there twice)"
            raise Flaw(f"line {reader.line_num}", why)
        row = 0
        while (fields := _record(reader)) is not None:
            if not fields:  # a blank line
                continue
            row += 1
            if len(fields) != len(header):
                why = f"{len(header)} fields, one for each column, not {len(fields)}"
                raise Flaw(f"row {row}", f"{why} (a comma or a quote too many?)")
            yield dict(zip(header, fields, strict=True))
    finally:
        csv.field_size_limit(limit)


def _record(reader: Any) -> list[str] | None:
    start = reader.line_num + 1
    try:
        return next(reader, None)
    except csv.Error as error:
        why = str(error)
        if "unexpected end" in why:
            why = "a quote that is never closed"
        raise Flaw(f"line {start}", f"readable csv ({why})") from None


def _json_lines(text: str) -> Iterator[Any]:
    row = 0
    # Not splitlines: JSON strings may hold other line separators as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip(" \t\r"):
            continue
        row += 1
        try:
            value, end = _value(line, 0, f"row {row}")
            rest = line[end:].strip()
        except json.JSONDecodeError as error:
            hint = ", a JSON list is a .json file" if number == 1 and line[0] == "[" else ""
            why = f"{error.msg} at column {error.colno}{hint}"
            raise Flaw(f"line {number}", f"one JSON value per line ({why})") from None
        if rest:
            raise Flaw(f"line {number}", f"one JSON value per line (more at column {end + 1})")
        yield value


def _json(text: str, unpack: Unpack | None) -> list[Any]:
    """A list of rows, JSON lines under a wrong name, or an object that holds rows."""
    at = _end(text, 0)
    if text[at : at + 1] != "[":
        lines = [line for line in text.split("\n") if line.strip(" \t\r")]
        if len(lines) > 1 and _is_json(lines[0]):
            return list(_json_lines(text))
        top = _whole(text, at)
        if unpack is not None and isinstance(top, dict):
            return unpack(top)
        names = ", ".join(map(str, list(top)[:5])) if isinstance(top, dict) else ""
        raise ValueError("the top level is not a list" + (f" but holds {names}" if names else ""))
    rows: list[Any] = []
    at = _end(text, at + 1)
    if text[at : at + 1] == "]":
        return rows
    while True:
        place = f"row {len(rows) + 1}"
        try:
            value, at = _value(text, at, place)
        except json.JSONDecodeError as error:
            raise Flaw(_at(text, error.pos), f"readable JSON ({error.msg} in {place})") from None
        rows.append(value)
        at = _end(text, at)
        mark = text[at : at + 1]
        at = _end(text, at + 1)
        if mark == "]":
            if at < len(text):
                raise Flaw(_at(text, at), "readable JSON (more after the list)")
            return rows
        if mark != ",":
            found = repr(mark) if mark else "the end"
            raise Flaw(_at(text, at), f"readable JSON (a comma after {place}, not {found})")


def _whole(text: str, at: int) -> Any:
    """The value of a text that is no list; names its flaw, if it is no JSON either."""
    try:
        return _value(text, at, "line 1")[0]
    except json.JSONDecodeError as error:
        raise Flaw(_at(text, error.pos), f"readable JSON ({error.msg})") from None


def _end(text: str, at: int) -> int:
    """Where white space ends."""
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _at(text: str, index: int) -> str:
    line = text.count("\n", 0, index) + 1
    return f"line {line}, column {index - text.rfind(chr(10), 0, index)},"


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"names that differ ({twice!r} is there twice)")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _value(text: str, start: int, place: str) -> tuple[Any, int]:
    """One JSON value from `start`, and where it ends."""
    try:
        value, end = _DECODER.raw_decode(text, _end(text, start))
        if _SURROGATE.search(text, start, end):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise Flaw(place, "JSON that is not nested so deeply") from None
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise Flaw(place, f"whole characters ({half} is half of one)") from None
    except ValueError as error:  # a name twice, an integer of more than 4300 digits
        raise Flaw(place, str(error)) from None
    return value, end

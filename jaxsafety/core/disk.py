"""Files that are whole or not there: atomic writes, JSON and JSON lines."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jaxsafety.core import hosts


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A neighbour to write, which takes the place of `path` at the end.

    A failure leaves `path` as it was, and no neighbour.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def staged(folder: Path, last: str) -> Iterator[Path]:
    """A neighbour to write into, whose files replace those of `folder` at the end, `last` last.

    So no reader meets half a model, and a failure leaves `folder` as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.parent / f".{folder.name}.{os.getpid()}.partial"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        yield staging
        folder.mkdir(exist_ok=True)
        for file in sorted(staging.iterdir(), key=lambda f: (f.name == last, f.name)):
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write(path: Path, text: str) -> None:
    """Writes a text whole or not at all; of several processes the leader does."""
    if hosts.leader():
        with replaced(path) as temporary:
            temporary.write_text(text, "utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all; what JSON has not is a number or its text."""
    write(path, json.dumps(value, indent=1, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def read_json(path: Path) -> Any:
    """The parsed file, or None if it is absent or torn."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def write_lines(path: Path, lines: Iterable[Any]) -> None:
    """Writes JSON lines whole or not at all.

    Raises:
      ValueError: a number is NaN or infinite, which JSON has not.
    """
    rows = [json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines]
    write(path, "".join(rows))


def rows(text: str) -> list[str]:
    """The rows of JSON lines.

    Not `splitlines`: an answer may hold U+2028 or U+0085, which JSON allows as they are.
    """
    return text.split("\n")


def read_lines(path: Path) -> list[Any]:
    """JSON lines.

    Raises:
      ValueError: a line is no JSON.
    """
    return [json.loads(row) for row in rows(path.read_text("utf-8")) if row.strip()]


def whole_lines(path: Path, *, ended: bool = False) -> list[dict[str, Any]]:
    """The objects of JSON lines; what a crash or an editor broke and absent files give nothing.

    Args:
      path: of the file.
      ended: leave out a last row without an end of line, which more may have belonged to.
    """
    try:
        found = path.read_bytes().split(b"\n")
    except OSError:
        return []
    values = []
    for row in found[:-1] if ended else found:
        with contextlib.suppress(ValueError, RecursionError):
            values.append(json.loads(row.decode("utf-8")))
    return [value for value in values if isinstance(value, dict)]


def digest(file: Path) -> str:
    """sha256 of a file, read once as long as it is the same one."""
    now = file.stat()
    return _read_digest(str(file.resolve()), now.st_size, now.st_mtime_ns, now.st_ino)


def fingerprint(digests: Iterable[str]) -> str:
    """One short digest of several files, by their digests in order: 16 hex digits."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=4096)
def _read_digest(path: str, size: int, changed: int, inode: int) -> str:
    del size, changed, inode  # of the key alone
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

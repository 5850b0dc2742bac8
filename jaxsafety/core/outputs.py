"""Whether a place can be written to, asked before any work is done for what will lie there.

Permissions do not tell (an administrator may write everywhere, a file system may be read-only or
full of names), so it is tried: what has to be made is made and taken away again.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from jaxsafety.core.errors import bad


def directory(field: str, path: Path) -> None:
    """Makes sure that `path` is or can become a directory that takes files; leaves nothing behind.

    Args:
      field: how an error names it.
      path: a directory that exists, or one that would be made with its parents.

    Raises:
      UsageError: a file of that name, a file among its parents, or a place that takes no files.
    """
    _plain(field, path)
    made: list[Path] = []
    try:
        if path.exists() and not path.is_dir():
            raise bad(field, str(path), "a directory")
        missing = [p for p in (path, *path.parents) if not p.exists()]
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another process of this run was quicker
                folder.mkdir()
                made.append(folder)
        probe = path / f".{os.getpid()}.probe"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        allowed = f"a directory that can be written to ({error.strerror})"
        raise bad(field, str(path), allowed) from None
    finally:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()


def file(field: str, path: Path) -> None:
    """The same for a file: its directory exists and takes one of that name.

    Raises:
      UsageError: a directory of that name, no such parent, or a place that takes no files.
    """
    _plain(field, path)
    try:
        if path.is_dir():
            raise bad(field, str(path), "a file, not a directory")
        if not path.absolute().parent.is_dir():
            raise bad(field, str(path), "a file in an existing directory")
        there = path.exists()
        with path.open("ab"):
            pass
        if not there:
            path.unlink()
    except OSError as error:
        allowed = f"a file that can be written to ({error.strerror})"
        raise bad(field, str(path), allowed) from None


def _plain(field: str, path: Path) -> None:
    if "\0" in str(path):
        raise bad(field, str(path), "a path without null bytes")

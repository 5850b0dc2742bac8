"""What a text names on this disk: its files, fetched where it is a data set of the hub.

Of a data set only the card and the files of the wanted split are fetched, and of these only such
as hold rows. Within a process a data set stays at the commit that was found first.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from jaxsafety.core import disk, hub
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.files import repository
from jaxsafety.data.files.spec import CARD, Spec, parse, place_of

DEPTH = 4  # folders below a directory that are searched
T = TypeVar("T")


class Located(NamedTuple):
    """Where rows are.

    Attributes:
      spec: what was asked for.
      files: of the rows, in order.
      whole: a directory that `datasets` saved or TFDS prepared, which is read as one; None for
        files.
      commit: of the hub; "" for what lies here.
    """

    spec: Spec
    files: tuple[Path, ...]
    whole: Path | None = None
    commit: str = ""

    @property
    def sha256(self) -> str:
        """What the rows are: that of the file, or of all files, slice and column."""
        spec, digests = self.spec, [disk.digest(file) for file in self.files]
        if len(digests) == 1 and self.whole is None and not (spec.cut or spec.column):
            return digests[0]
        part = [str(spec.cut or ""), spec.column, spec.split if self.whole else ""]
        return hashlib.sha256(json.dumps([digests, part]).encode()).hexdigest()


def is_there(text: str) -> bool:
    """Whether a text names something on this disk, or could be a data set of the hub."""
    return place_of(text)[0] is not None


def identity(text: str) -> str:
    """The same text for the same rows, however their place is written."""
    found, rest = place_of(text)
    if found is None or found.kind == "hub":
        return text
    return f"{Path(found.place).resolve()}{f'/{found.config}' if found.config else ''}{rest}"


def locate(text: str | Path, field: str = "path") -> Located:
    """Finds the files of a text; of a data set of the hub it fetches them.

    Args:
      text: see `spec.py`.
      field: how an error names it.

    Raises:
      UsageError: see `spec.parse`; several splits or configurations and none named, or none of this
        name; a hub that cannot be reached or does not have it.
    """
    spec = parse(str(text), field)
    place = Path(spec.place)
    if spec.kind == "file":
        return Located(spec, (place,))
    if spec.kind == "hub":
        return _in_words(text, field, lambda: _fetch(spec))
    return _in_words(text, field, lambda: _inside(spec, place))


def _in_words(text: str | Path, field: str, find: Callable[[], T]) -> T:
    try:
        return find()
    except UsageError:
        raise
    except ValueError as error:
        raise bad(field, str(text), str(error)) from None
    except OSError as error:
        raise bad(field, str(text), f"a directory that can be read ({error.strerror})") from None


def _inside(spec: Spec, folder: Path) -> Located:
    """The files of a directory here."""
    if (folder / "dataset_dict.json").is_file():
        saved = disk.read_json(folder / "dataset_dict.json")
        splits = saved.get("splits") if isinstance(saved, dict) else None
        if not isinstance(splits, list) or not splits:
            raise ValueError("a dataset_dict.json that names its splits")
        split = spec.split or (str(splits[0]) if len(splits) == 1 else "")
        if split not in splits or Path(split).name != split or not (folder / split).is_dir():
            raise ValueError(f"one split of {', '.join(map(str, splits))}: {folder}:SPLIT")
        return Located(spec._replace(split=split), _beside(folder / split), folder / split)
    if (folder / "state.json").is_file():
        if spec.split:
            raise ValueError(f"{folder} without a split: it is one")
        return Located(spec, _beside(folder), folder)
    if (folder / "features.json").is_file():
        return Located(spec, _beside(folder), folder)
    names = _names(folder)
    found = repository.files(names, _card(folder / CARD), spec.config, spec.split)
    return Located(spec, tuple(folder / name for name in found))


def _fetch(spec: Spec) -> Located:
    """The files of a data set of the hub."""
    folder, names, online = _listed(spec.place, spec.revision)
    commit = folder.name if re.fullmatch(r"[0-9a-f]{40}", folder.name) else ""
    try:
        wanted = repository.files(names, _card(folder / CARD), spec.config, spec.split)
    except ValueError as error:
        here = "" if online else " (the hub was not reached: this is what the cache holds)"
        raise ValueError(f"{error}{here}") from None
    lacking = [name for name in wanted if not (folder / name).is_file()]
    if any(".." in PurePosixPath(name).parts for name in wanted):
        raise ValueError("files below the data set's own folder")
    if lacking:
        patterns = [glob.escape(name) for name in lacking]
        folder = _snapshot(spec.place, commit or spec.revision, patterns)
    files = tuple(folder / name for name in wanted)
    gone = [file.name for file in files if not file.is_file()]
    if gone:
        raise ValueError(f"a data set that can be fetched ({gone[0]} did not come)")
    return Located(spec, files, None, commit)


@functools.lru_cache(maxsize=64)
def _listed(name: str, revision: str) -> tuple[Path, tuple[str, ...], bool]:
    """(directory in the cache, names of its files, whether the hub said them)."""
    folder = _snapshot(name, revision, [CARD])
    names = hub.listing(name, folder.name if len(folder.name) == 40 else revision, "dataset")
    return folder, tuple(names if names is not None else _names(folder)), names is not None


def _snapshot(name: str, revision: str, patterns: list[str]) -> Path:
    try:
        return hub.snapshot(name, revision, patterns, what="data set", kind="dataset")
    except ValueError as error:
        told = f"a directory here, or a data set of the hub that can be fetched ({error})"
        raise ValueError(told) from None


def _card(file: Path) -> Mapping[str, Any]:
    """The head of a README.md; {} where there is none."""
    from huggingface_hub import repocard

    if not file.is_file():
        return {}
    try:
        return repocard.metadata_load(str(file)) or {}
    except Exception as error:  # whatever a foreign YAML makes its reader raise
        why = " ".join(str(error).split())[:120]
        raise ValueError(f"a readable head of {CARD} ({why})") from None


def _names(folder: Path) -> list[str]:
    """Names of the files in a directory and some folders below it, relative, with "/"."""
    found = []
    for here, folders, names in os.walk(folder):
        inside = Path(here).relative_to(folder)
        if len(inside.parts) >= DEPTH:
            folders.clear()
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__")))
        found += [(inside / n).as_posix() for n in names if (Path(here) / n).is_file()]
    return sorted(found)


def _beside(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(file for file in folder.iterdir() if file.is_file()))

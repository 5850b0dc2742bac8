"""Public prompt sets as their own files: what a set knows of itself, and the items of a file.

A `PublicSet` is a description: it holds no prompt. `open` reads a user's own copy, row by row, and
says what it read: which version by sha256, how many rows, what was left out and why.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety.benchmarks import files
from jaxsafety.core import disk
from jaxsafety.core.errors import bad
from jaxsafety.data import overlap
from jaxsafety.data.files import located, sources, tables
from jaxsafety.data.files.columns import Asked, Row, normalise
from jaxsafety.data.files.text_rows import Unpack
from jaxsafety.protocols import Benchmark, Item

KINDS = ("safety", "over_refusal", "capability")
FORMS = ("text", "choices")
DEPTH = 2  # folders below the data directory that are searched


class Opened(NamedTuple):
    """A set whose file was read.

    Attributes:
      benchmark: its items; the id of an item is its row in the file, from 1.
      facts: set, kind, form, licence, source, file, sha256 (of the file as it lies, see
        `Located.sha256`), version (None where it is not known) and version_note, layout, rows,
        left_out (reason -> count), usable, used, limit, seed.
    """

    benchmark: Benchmark
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class PublicSet:
    """What is known of a published set, without its prompts.

    Attributes:
      name: a key of `registry.SETS`; of letters, digits and _.
      kind: safety, over_refusal or capability.
      licence: of the prompts, as their source names it.
      source: where the file is published, and the paper.
      files: fnmatch patterns, the most wanted first, without case and without ".gz". A pattern
        with slashes is compared with as many folders: "xstest/prompts.csv".
      versions: sha256 of a file (as it lies, or unpacked) -> what this version is called.
      layout: names of `data.files.layouts` that its rows may have.
      columns: compared names that every row has; () for rows that are texts.
      exact: whether a row has no other columns.
      max_tokens: how long an answer may be.
      form: "text": the model answers; "choices": log-probabilities of continuations.
      categories: columns that go into meta["categories"], the first also as meta["category"].
      unpack: the rows of a .json file that is one object; raises ValueError for another object.
      keep: says of a row, under compared names, why it is left out in a word or two; "" keeps it.
      more: further entries of meta, from a row under compared names and what it asks. Sets of form
        "choices" give "context", "continuations" and "target" here (evaluation/choices.py).
      header: where the names of the columns were read.
      note: what a reader of a table has to know.
      revision: raised when items of the same file become others here (what is asked, or what a
        judge is told), so that a measurement does not mix them.
    """

    name: str
    kind: str
    licence: str
    source: str
    files: tuple[str, ...]
    versions: Mapping[str, str]
    layout: tuple[str, ...]
    max_tokens: int
    form: str = "text"
    columns: tuple[str, ...] = ()
    exact: bool = False
    categories: tuple[str, ...] = ()
    unpack: Unpack | None = field(default=None, repr=False)
    keep: Callable[[Row], str] | None = field(default=None, repr=False)
    more: Callable[[Row, Asked], Mapping[str, Any]] | None = field(default=None, repr=False)
    header: str = ""
    note: str = ""
    revision: int = 0

    def find(self, folder: str | Path) -> list[Path]:
        """Its files in a directory and up to two folders below it, the one to take first.

        The order is that of `files`; of one pattern known versions come first, then what lies
        nearest to the directory, then names.
        """
        return [path for path, _ in self.ranked(listing(folder), folder)]

    def ranked(self, paths: Sequence[Path], folder: str | Path) -> list[tuple[Path, int]]:
        """As `find`, of files that were listed already: (path, index of its pattern)."""
        found = []
        for path in paths:
            index = self._pattern(path.relative_to(folder))
            if index is not None:
                found.append((path, index))
        if len(found) < 2:
            return found

        def rank(one: tuple[Path, int]) -> tuple[Any, ...]:
            path, index = one
            depth = len(path.relative_to(folder).parts)
            return index, self.known(path) is None, depth, str(path)

        return sorted(found, key=rank)

    def open(self, path: str | Path, *, limit: int = 0, seed: int = 0) -> Opened:
        """Reads a file of this set.

        Args:
          path: the file, or another place of its rows (`data/files/spec.py`).
          limit: at most so many items, 0 for all. Which ones depends on the seed and on their
            words alone, so that those of a smaller limit are among those of a larger one.
          seed: of the choice.

        Returns:
          The benchmark and what was read.

        Raises:
          UsageError: a file that cannot be read, a row of another set, a row that says nothing, no
            row that is used, a negative limit. One line.
        """
        if limit < 0:
            raise bad("limit", limit, "0 (every row) or how many prompts of a set")
        where = f"set {self.name}"
        place = Path(path)
        if place.is_dir():
            raise bad(where, str(path), "a file of this set, not a directory")
        rows = tables.read_rows(place, where, self.unpack)
        cells = [self._cells(row, number, place) for number, row in enumerate(rows, start=1)]
        loaded = sources.select(rows, place, where, self.kind, self._skipped(cells, place))
        for number, asked in loaded.rows:
            if asked.layout not in self.layout:
                given = f"row {number} of {place}, {asked.layout} layout"
                raise bad(where, given, f"rows of {' or '.join(self.layout)} layout")
        made = files.to_items(loaded, str(place), self.kind)
        items = [self._item(item, cells, loaded, number) for number, item in enumerate(made)]
        used = sample(items, limit, seed)
        digest, version = self._read_version(place, where)
        facts = {
            "set": self.name,
            "kind": self.kind,
            "form": self.form,
            "licence": self.licence,
            "source": self.source,
            "file": str(place),
            "sha256": digest,
            "version": version,
            "version_note": self._note(version),
            "layout": loaded.layout,
            "rows": loaded.total,
            "left_out": dict(loaded.left_out),
            "usable": len(items),
            "used": len(used),
            "limit": limit,
            "seed": seed,
            **({"revision": self.revision} if self.revision else {}),
        }
        bench = Benchmark(self.name, self.kind, tuple(used), self.max_tokens, self.form)
        return Opened(bench, facts)

    def known(self, path: Path) -> str | None:
        """What the version of a file is called; None where it is not known or cannot be read."""
        try:
            return self._version(path)[1]
        except OSError:  # `open` says so, if this file is the one that is taken
            return None

    def _pattern(self, path: Path) -> int | None:
        parts = [part.lower() for part in path.parts]
        parts[-1] = parts[-1].removesuffix(".gz")
        for index, pattern in enumerate(self.files):
            tail = "/".join(parts[-1 - pattern.count("/") :])
            if fnmatchcase(tail, pattern.lower()):
                return index
        return None

    def _version(self, path: Path) -> tuple[str, str | None]:
        """The sha256 of a file, and the name of this version."""
        digests = _digests(path)
        known = (self.versions[digest] for digest in digests if digest in self.versions)
        return digests[0], next(known, None)

    def _read_version(self, path: Path, where: str) -> tuple[str, str | None]:
        """As `_version`, of rows that may be in several files, or a part of one."""
        found = located.locate(path, where)
        if found.whole is None and [found.sha256] == [disk.digest(f) for f in found.files]:
            return self._version(found.files[0])
        return found.sha256, None

    def _note(self, version: str | None) -> str:
        if version is not None:
            return f"the file that is known as {version}"
        if self.versions:
            return f"other version: its sha256 is not that of {', '.join(self.versions.values())}"
        return "not known: no sha256 of a published file was at hand when this set was written"

    def _cells(self, row: Any, number: int, path: Path) -> Row:
        """A row under compared names, {} for a text."""
        try:
            cells = normalise(row) if isinstance(row, dict) else {}
        except ValueError as error:
            raise bad(f"set {self.name}", f"row {number} of {path}", str(error)) from None
        more = set(cells) - set(self.columns) if self.exact else ()
        if set(self.columns) <= set(cells) and not more:
            return cells
        has = f"columns {', '.join(list(cells)[:8])}" if cells else "a text"
        only = " and no other" if self.exact else ""
        allowed = f"rows of {self.name}: columns {', '.join(self.columns)}{only}"
        raise bad(f"set {self.name}", f"row {number} of {path} ({has})", allowed)

    def _skipped(self, cells: Sequence[Row], path: Path) -> dict[int, str]:
        """1-based rows that `keep` leaves out -> why."""
        found = {}
        for number, row in enumerate(cells, start=1):
            try:
                why = self.keep(row) if self.keep is not None else ""
            except ValueError as error:
                raise bad(f"set {self.name}", f"row {number} of {path}", str(error)) from None
            if why:
                found[number] = why
        return found

    def _item(self, item: Item, cells: Sequence[Row], loaded: sources.Loaded, index: int) -> Item:
        number, asked = loaded.rows[index]
        row = cells[number - 1]
        said = {name: row.get(name) for name in self.categories}
        told = {n: str(v).strip() for n, v in said.items() if v is not None and str(v).strip()}
        meta = {**item.meta, "set": self.name}
        if told:
            meta |= {"category": next(iter(told.values())), "categories": told}
        if self.more is not None:
            try:
                meta |= self.more(row, asked)
            except ValueError as error:
                given = f"row {number} of {item.meta['file']}"
                raise bad(f"set {self.name}", given, str(error)) from None
        return Item(str(number), item.messages, meta)


def sample(items: Sequence[Item], limit: int, seed: int) -> list[Item]:
    """At most `limit` items (0: all) in file order, those of the smallest hash of seed and words.

    Raising the limit only adds items, so that answers that were saved stay of use.
    """
    if not limit or limit >= len(items):
        return list(items)

    def rank(index: int) -> tuple[str, int]:
        words = overlap.normal(items[index].messages[-1].content)
        return hashlib.sha256(f"{seed}\n{words}".encode()).hexdigest(), index

    chosen = sorted(range(len(items)), key=rank)[:limit]
    return [items[index] for index in sorted(chosen)]


def listing(folder: str | Path) -> list[Path]:
    """Files in a directory and up to two folders below it; hidden ones are not looked at.

    Raises:
      UsageError: no directory.
    """
    top = Path(folder)
    if not str(folder) or not top.is_dir():
        raise bad("data", str(folder), "an existing directory with files of public sets")
    found, ahead = [], [(top, 0)]
    while ahead:
        here, depth = ahead.pop()
        try:
            entries = sorted(here.iterdir())
        except OSError as error:
            allowed = f"directories that can be read ({error.strerror})"
            raise bad("data", str(here), allowed) from None
        for path in entries:
            if path.name.startswith("."):
                continue
            if path.is_file():
                found.append(path)
            elif path.is_dir() and depth < DEPTH:
                ahead.append((path, depth + 1))
    return sorted(found)


def _digests(path: Path) -> list[str]:
    """sha256 of a file as it lies and, of a .gz, unpacked."""
    raw = path.read_bytes()
    found = [hashlib.sha256(raw).hexdigest()]
    if path.suffix == ".gz":
        try:
            found.append(hashlib.sha256(gzip.decompress(raw)).hexdigest())
        except (OSError, EOFError, zlib.error):
            pass  # reading its rows says what is wrong with it
    return found

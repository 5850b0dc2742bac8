"""Rows of files: jsonl, json, csv, plain text, parquet, Hugging Face and TFDS directories.

Parquet and Arrow are read by pyarrow, array_record by TFDS (which needs no TensorFlow to read).
Nothing in a file is executed. What is wrong with a file is one line that names the file and the row
(1-based, blank lines not counted) or the line. What can be named is in spec.py.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from jaxsafety.core.errors import bad
from jaxsafety.data.files import picked, text_rows
from jaxsafety.data.files.located import Located, locate
from jaxsafety.data.files.repository import PACKED, TABLES, TEXT, suffix
from jaxsafety.data.files.text_rows import Flaw, Unpack

SUFFIXES = (*TEXT, *TABLES)
T = TypeVar("T")


def read_rows(path: str | Path, field: str = "path", unpack: Unpack | None = None) -> list[Any]:
    """The rows of a table, whatever they hold.

    Args:
      path: a .jsonl, .json (a list), .csv (with a header) or .txt file, optionally + ".gz" or
        ".zst"; a .parquet or .arrow file; a directory that `datasets` saved or TFDS wrote, or of
        files of rows; a data set of the hub. A split, a slice and a column may follow, see
        `spec.py`.
      field: how an error names this path.
      unpack: of a .json that is one object: the rows in it.

    Returns:
      A mapping per row, or a string per line.

    Raises:
      UsageError: see `located.locate`; another format, a file that cannot be read, a column that is
        not there.
    """
    found = locate(path, field)
    if found.whole:
        rows = _read(field, path, "a readable data set", lambda: _directory(found))
    else:
        rows = _files(found, path, field, unpack)
    if not found.spec.column:
        return rows
    try:
        return picked.pick(rows, found.spec.column)
    except Flaw as flaw:
        raise bad(field, f"{flaw.place} of {path}", str(flaw)) from None


def _files(found: Located, path: str | Path, field: str, unpack: Unpack | None) -> list[Any]:
    """The rows of all files, one after the other, as far as the slice wants them."""
    rows: list[Any] = []
    cut, sizes, first, end = found.spec.cut, [], 0, 0
    if cut and suffix(found.files[0].name) == ".parquet":  # what is not wanted need not be read
        sizes = [_read(field, f, _readable(f), lambda f=f: _size(f)) for f in found.files]
        first, end = cut.bounds(sum(sizes))
    before = 0
    for number, file in enumerate(found.files):
        # Of a part a flaw is told by its row in that file.
        named = str(path) if found.spec.plain and found.spec.kind == "file" else str(file)
        if not suffix(file.name):
            known = f"{', '.join(SUFFIXES)} (the first four also with {' or '.join(PACKED)})"
            raise bad(field, named, f"one of {known}")
        part = slice(None)
        if sizes:
            part = slice(max(first - before, 0), max(min(end - before, sizes[number]), 0))
            before += sizes[number]
            if part.start >= part.stop:
                continue
        rows += _read(field, named, _readable(file), lambda f=file, p=part: _file(f, p, unpack))
    return rows[slice(*cut.bounds(len(rows)))] if cut and not sizes else rows


def _readable(file: Path) -> str:
    return f"a readable {suffix(file.name)} file"


def _size(file: Path) -> int:
    import pyarrow.parquet

    return pyarrow.parquet.read_metadata(file).num_rows


def _read(field: str, path: Any, what: str, read: Callable[[], T]) -> T:
    """Runs a reader; whatever a foreign file makes it raise becomes one line."""
    try:
        return read()
    except Flaw as flaw:
        raise bad(field, f"{flaw.place} of {path}", f"{what}: {flaw}") from None
    except Exception as error:
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise bad(field, str(path), f"{what} ({why})") from None


def _file(file: Path, part: slice, unpack: Unpack | None) -> list[Any]:
    """The rows of a file; of parquet a part of them, where one is wanted."""
    kind = suffix(file.name)
    if kind == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(file, memory_map=True)
        first, end, _ = part.indices(table.num_rows)
        return _rows(table.slice(first, end - first), first)
    if kind == ".arrow":
        return _arrow(file, 0)
    return text_rows.parse(kind, text_rows.decode(_unpacked(file)), unpack)


def _unpacked(file: Path) -> bytes:
    if file.suffix == ".gz":
        return gzip.decompress(file.read_bytes())
    if file.suffix == ".zst":
        import pyarrow as pa

        with pa.OSFile(str(file)) as source, pa.CompressedInputStream(source, "zstd") as stream:
            return stream.read()
    return file.read_bytes()


def _directory(found: Located) -> list[Any]:
    """The wanted rows of a directory that is read as one."""
    folder, cut = found.whole or Path(), found.spec.cut
    rows: list[Any]
    if (folder / "state.json").is_file():
        state = json.loads((folder / "state.json").read_text("utf-8"))
        files = [entry["filename"] for entry in state["_data_files"]]
        if any(Path(name).name != name for name in files):
            raise ValueError("state.json names files elsewhere")
        rows = []
        for name in files:
            rows += _arrow(folder / name, len(rows))
    else:
        rows = _tfds(folder, found.spec.split)
    return rows[slice(*cut.bounds(len(rows)))] if cut else rows


def _arrow(file: Path, before: int) -> list[Any]:
    """Rows of an Arrow file, in either of its two forms."""
    import pyarrow as pa

    with pa.memory_map(str(file)) as source:
        try:
            table = pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            table = pa.ipc.open_file(source).read_all()
        return _rows(table, before)


def _rows(table: Any, before: int) -> list[Any]:
    """Rows of a table, the first of which is row `before` + 1."""
    names = table.schema.names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"the column {twice!r} is there twice")
    try:
        return table.to_pylist()
    except Exception:
        for index in range(table.num_rows):
            try:
                table.slice(index, 1).to_pylist()
            except Exception as error:
                why = " ".join(str(error).split())[:160]
                raise Flaw(f"row {before + index + 1}", why) from None
        raise


def _tfds(folder: Path, split: str) -> list[Any]:
    """Rows of a prepared TFDS data set: of a split, else of "train", else of its only one."""
    import tensorflow_datasets as tfds

    _only_known_features(json.loads((folder / "features.json").read_text("utf-8")))
    builder: Any = tfds.builder_from_directory(folder)
    splits = list(builder.info.splits or ())
    wanted = split or ("train" if "train" in splits or len(splits) != 1 else splits[0])
    if wanted not in splits:
        raise ValueError(f"no split called {wanted} in {splits}")
    source = builder.as_data_source(split=wanted)
    features = builder.info.features
    # A sequence of records comes as a record of sequences.
    turned = {
        name
        for name, kind in (features.items() if features else ())
        if isinstance(kind, tfds.features.Sequence)
        and isinstance(kind.feature, tfds.features.FeaturesDict)
    }
    found = []
    for index in range(len(source)):
        try:
            row = _plain(source[index])
        except UnicodeDecodeError as error:
            raise Flaw(f"row {index + 1}", str(error)) from None
        for name in turned & set(row):
            columns = row[name]
            rows = zip(*columns.values(), strict=True)
            row[name] = [dict(zip(columns, values, strict=True)) for values in rows]
        found.append(row)
    return found


def _only_known_features(value: Any) -> None:
    """TFDS imports whatever module a feature names: only its own are let through."""
    if isinstance(value, list):
        for item in value:
            _only_known_features(item)
    elif isinstance(value, dict):
        name = value.get("pythonClassName")
        if name is not None and not str(name).startswith("tensorflow_datasets.core.features."):
            raise ValueError(f"features.json names {str(name)[:60]}, a class that is not TFDS's")
        for item in value.values():
            _only_known_features(item)


def _plain(value: Any) -> Any:
    """What TFDS returns as JSON has it: text for bytes, lists for arrays."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value

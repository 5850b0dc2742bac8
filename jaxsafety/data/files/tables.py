"""Rows of local files: jsonl, json, csv, plain text, parquet, Hugging Face and TFDS directories.

Parquet and Arrow are read by pyarrow, array_record by TFDS (which needs no TensorFlow to read).
Nothing is downloaded and nothing in a file is executed. What is wrong with a file is one line that
names the file and the row (1-based, blank lines not counted) or the line.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.data.files import text_rows
from jaxsafety.data.files.text_rows import Flaw, Unpack

TEXT = (".jsonl", ".json", ".csv", ".txt")
SUFFIXES = (*TEXT, ".parquet", ".arrow")


def read_rows(path: str | Path, field: str = "path", unpack: Unpack | None = None) -> list[Any]:
    """The rows of a table, whatever they hold.

    Args:
      path: a .jsonl, .json (a list), .csv (with a header) or .txt file, optionally + ".gz"; a
        .parquet or .arrow file; a directory that `datasets.Dataset.save_to_disk` or TFDS wrote
        (one split: `DIR/train` of the former, all of `DIR` of the latter), or of parquet files.
      field: how an error names this path.
      unpack: of a .json that is one object: the rows in it.

    Returns:
      A mapping per row, or a string per line.

    Raises:
      UsageError: a missing file, another format, a file that cannot be read.
    """
    place = Path(path)
    if str(path) and place.is_dir():
        return _read(field, path, "a readable data set", lambda: _directory(place))
    if not str(path) or not place.is_file():
        raise bad(field, str(path), "an existing file or directory of rows")
    suffix = place.with_suffix("").suffix if place.suffix == ".gz" else place.suffix
    if suffix not in (TEXT if place.suffix == ".gz" else SUFFIXES):
        raise bad(field, str(path), f"one of {', '.join(SUFFIXES)} (the first four also with .gz)")
    return _read(
        field, path, f"a readable {suffix} file", lambda: _file(place, suffix, unpack=unpack)
    )


def _read(field: str, path: Any, what: str, read: Callable[[], list[Any]]) -> list[Any]:
    """Runs a reader; whatever a foreign file makes it raise becomes one line."""
    try:
        return read()
    except Flaw as flaw:
        raise bad(field, f"{flaw.place} of {path}", f"{what}: {flaw}") from None
    except Exception as error:
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise bad(field, str(path), f"{what} ({why})") from None


def _file(file: Path, suffix: str, before: int = 0, unpack: Unpack | None = None) -> list[Any]:
    if suffix == ".parquet":
        import pyarrow.parquet

        return _rows(pyarrow.parquet.read_table(file, memory_map=True), before)
    if suffix == ".arrow":
        return _arrow(file, before)
    raw = file.read_bytes()
    raw = gzip.decompress(raw) if file.suffix == ".gz" else raw
    return text_rows.parse(suffix, text_rows.decode(raw), unpack)


def _directory(folder: Path) -> list[Any]:
    if (folder / "state.json").is_file():
        state = json.loads((folder / "state.json").read_text("utf-8"))
        files = [entry["filename"] for entry in state["_data_files"]]
        if any(Path(name).name != name for name in files):
            raise ValueError("state.json names files elsewhere")
        return _all([folder / name for name in files], ".arrow")
    if (folder / "features.json").is_file():
        return _tfds(folder)
    if (folder / "dataset_dict.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_text("utf-8")).get("splits")
        raise ValueError(f"several splits, name one: {folder / 'SPLIT'}, SPLIT in {splits}")
    parquet = sorted(folder.glob("*.parquet"))
    if not parquet:
        raise ValueError("no state.json (datasets), features.json (TFDS) or *.parquet in it")
    return _all(parquet, ".parquet")


def _all(files: list[Path], suffix: str) -> list[Any]:
    rows: list[Any] = []
    for file in files:
        rows += _file(file, suffix, len(rows))
    return rows


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


def _tfds(folder: Path) -> list[Any]:
    """Rows of a prepared TFDS data set: the split "train", or its only one."""
    import tensorflow_datasets as tfds

    _only_known_features(json.loads((folder / "features.json").read_text("utf-8")))
    builder: Any = tfds.builder_from_directory(folder)
    splits = list(builder.info.splits or ())
    if "train" not in splits and len(splits) != 1:
        raise ValueError(f"no split called train in {splits}")
    source = builder.as_data_source(split="train" if "train" in splits else splits[0])
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

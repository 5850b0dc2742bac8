"""Rows of local files: jsonl, json, csv, plain text, parquet, Hugging Face and TFDS directories.

Parquet and Arrow are read by pyarrow, array_record by TFDS (which needs no TensorFlow to read).
Nothing is downloaded and nothing in a file is executed.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxsafety.errors import bad

TEXT = (".jsonl", ".json", ".csv", ".txt")
SUFFIXES = (*TEXT, ".parquet", ".arrow")


def read_rows(path: str | Path, field: str = "path") -> list[Any]:
    """The rows of a table, whatever they hold.

    Args:
      path: a .jsonl, .json (a list), .csv (with a header) or .txt file, optionally + ".gz"; a
        .parquet or .arrow file; a directory that `datasets.Dataset.save_to_disk` or TFDS wrote
        (one split: `DIR/train` of the former, all of `DIR` of the latter), or of parquet files.
      field: how an error names this path.

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
    return _read(field, path, f"a readable {suffix} file", lambda: _file(place, suffix))


def _read(field: str, path: Any, what: str, read: Callable[[], list[Any]]) -> list[Any]:
    """Runs a reader; whatever a foreign file makes it raise becomes one line."""
    try:
        return read()
    except Exception as error:
        why = " ".join(str(error).split())[:160]
        raise bad(field, str(path), f"{what} ({why})") from None


def _file(file: Path, suffix: str) -> list[Any]:
    if suffix == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_table(file, memory_map=True).to_pylist()
    if suffix == ".arrow":
        return _arrow(file)
    raw = file.read_bytes()
    return _parse(
        suffix, (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8-sig")
    )


def _parse(suffix: str, text: str) -> list[Any]:
    if suffix == ".txt":
        return [line for line in text.splitlines() if line.strip()]
    if suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text)))
    if suffix == ".jsonl":
        # Not splitlines: JSON strings may hold other line separators as they are.
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    rows = json.loads(text)
    if not isinstance(rows, list):
        raise ValueError("the top level is not a list")
    return rows


def _directory(folder: Path) -> list[Any]:
    if (folder / "state.json").is_file():
        files = [entry["filename"] for entry in json.loads((folder / "state.json").read_text())[
            "_data_files"]]  # fmt: skip
        if any(Path(name).name != name for name in files):
            raise ValueError("state.json names files elsewhere")
        return [row for name in files for row in _arrow(folder / name)]
    if (folder / "features.json").is_file():
        return _tfds(folder)
    if (folder / "dataset_dict.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_text()).get("splits")
        raise ValueError(f"several splits, name one: {folder / 'SPLIT'}, SPLIT in {splits}")
    parquet = sorted(folder.glob("*.parquet"))
    if not parquet:
        raise ValueError("no state.json (datasets), features.json (TFDS) or *.parquet in it")
    return [row for file in parquet for row in _file(file, ".parquet")]


def _arrow(file: Path) -> list[Any]:
    """Rows of an Arrow file, in either of its two forms."""
    import pyarrow as pa

    with pa.memory_map(str(file)) as source:
        try:
            return pa.ipc.open_stream(source).read_all().to_pylist()
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_file(source).read_all().to_pylist()


def _tfds(folder: Path) -> list[Any]:
    """Rows of a prepared TFDS data set: the split "train", or its only one."""
    import tensorflow_datasets as tfds

    _only_known_features(json.loads((folder / "features.json").read_text()))
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
    found = [_plain(source[i]) for i in range(len(source))]
    for row in found:
        for name in turned & set(row):
            columns = row[name]
            rows = zip(*columns.values(), strict=True)
            row[name] = [dict(zip(columns, values, strict=True)) for values in rows]
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

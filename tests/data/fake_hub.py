"""A hub on this disk: data sets in the cache of huggingface_hub, which is told to be offline."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet
import pytest

from jaxsafety.data.files import located

NAME = "owner/name"


def rows(start: int, end: int) -> list[dict]:
    return [{"prompt": f"question {i}", "answer": str(i)} for i in range(start, end)]


def write(path: Path, value) -> None:
    """A text, bytes, or rows in the format that the name has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, list) and path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(value), path)
        return
    text = "".join(json.dumps(row) + "\n" for row in value) if isinstance(value, list) else value
    data = text.encode() if isinstance(text, str) else text
    if path.suffix == ".zst":
        with pa.OSFile(str(path), "wb") as sink, pa.CompressedOutputStream(sink, "zstd") as out:
            out.write(data)
        return
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


class Hub:
    """Puts data sets into an empty cache."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def put(self, files: dict, name: str = NAME, revision: str = "main") -> str:
        """A commit with these files, as hf lays it out (files are links to blobs); its hash."""
        commit = hashlib.sha1(repr((name, revision, files)).encode()).hexdigest()
        place = self.cache / f"datasets--{name.replace('/', '--')}"
        for path, value in files.items():
            blob = place / "blobs" / hashlib.sha1(f"{commit}{path}".encode()).hexdigest()
            file = place / "snapshots" / commit / path
            if file.exists():  # the same commit again
                continue
            write(file, value)
            blob.parent.mkdir(exist_ok=True)
            file.rename(blob)
            file.symlink_to(blob)
        ref = place / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit)
        located._listed.cache_clear()  # a process stays at the commit that it has seen
        return commit


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    located._listed.cache_clear()
    yield Hub(tmp_path / "cache")
    located._listed.cache_clear()

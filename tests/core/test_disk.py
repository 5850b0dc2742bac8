"""Files that are whole or not there, and lines that are read as they are."""

from __future__ import annotations

import json
import os

import pytest

from jaxsafety.core import disk
from jaxsafety.core.disk import whole_lines


def test_write_leaves_no_half_file(tmp_path, monkeypatch):
    path = tmp_path / "new" / "a.json"
    disk.write(path, "one")
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError))
    with pytest.raises(OSError):
        disk.write(path, "two")
    assert path.read_text() == "one"
    assert [f.name for f in path.parent.iterdir()] == ["a.json"]


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.json"
    disk.write_json(path, {"a": 1})

    class Fails:
        def __str__(self):
            raise RuntimeError("no text")

    with pytest.raises(RuntimeError):
        disk.write_json(path, {"a": 1, "b": Fails()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [f.name for f in tmp_path.iterdir()] == ["x.json"]


def test_other_line_separators_are_no_ends_of_lines(tmp_path):
    rows = [{"id": str(i), "response": f"a{mark}b"} for i, mark in enumerate("\u2028\u2029\u0085")]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(text + '{"id": "torn', "utf-8")
    assert whole_lines(tmp_path / "a.jsonl") == rows


def test_what_is_no_text_or_nested_without_end_is_left_out(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"id": "\xff"}\n')
    assert whole_lines(tmp_path / "a.jsonl") == []
    (tmp_path / "b.jsonl").write_text("[" * 200_000 + '\n{"id": "1"}\n[1]\n')
    assert whole_lines(tmp_path / "b.jsonl") == [{"id": "1"}]


def test_a_broken_row_costs_no_other(tmp_path):
    file = tmp_path / "c.jsonl"
    file.write_bytes(b'{"id": "1"}\n{"id": "\xff"}\n\x00\n{"id": "2"}\n{"id": "3"}')
    assert [row["id"] for row in whole_lines(file)] == ["1", "2", "3"]
    assert [row["id"] for row in whole_lines(file, ended=True)] == ["1", "2"]
    assert whole_lines(tmp_path / "absent.jsonl") == []
    with pytest.raises(ValueError):
        disk.read_lines(file)


def test_lines_refuse_what_json_has_not(tmp_path):
    disk.write_lines(tmp_path / "d.jsonl", [{"a": "\u2028"}])
    with pytest.raises(ValueError):
        disk.write_lines(tmp_path / "d.jsonl", [{"a": float("nan")}])
    assert disk.read_lines(tmp_path / "d.jsonl") == [{"a": "\u2028"}]


def test_a_staged_folder_comes_whole(tmp_path):
    folder = tmp_path / "model"
    with disk.staged(folder, last="config.json") as staging:
        (staging / "config.json").write_text("1")
        assert not folder.exists()
    with pytest.raises(RuntimeError), disk.staged(folder, last="config.json") as staging:
        (staging / "config.json").write_text("2")
        raise RuntimeError
    assert (folder / "config.json").read_text() == "1"
    assert [f.name for f in tmp_path.iterdir()] == ["model"]

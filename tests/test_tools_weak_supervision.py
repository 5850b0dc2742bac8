"""The table of the study of weak supervision, from a workdir and from kept lines."""

import importlib.util
import json

import pytest

from tests.studies.test_weak_results import table


@pytest.fixture(scope="module")
def tool(root):
    spec = importlib.util.spec_from_file_location("weak_table", root / "tools/weak_supervision.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_kept_lines_make_the_same_table(tool, tmp_path, capsys):
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "table.json").write_text(json.dumps(table()))
    tool.main([str(tmp_path), "--save", str(tmp_path / "kept.jsonl")])
    first = capsys.readouterr().out
    assert "| `order=safe` | 8 | 100 | 11.0 [8.5, 13.5] |" in first
    tool.main([str(tmp_path / "kept.jsonl")])
    assert capsys.readouterr().out == first


def test_differences_are_paired(tool, tmp_path, capsys):
    tool.save(table(), tmp_path / "kept.jsonl")
    tool.main([str(tmp_path / "kept.jsonl"), "--minus", "order=safe"])
    out = capsys.readouterr().out
    assert "| `order=safe,accuracy=0.75` | 8 | 75 | 10.0 [10.0, 10.0] |" in out
    assert "| `order=safe` |" not in out
    with pytest.raises(SystemExit, match="no arm 'x'; known: base"):
        tool.main([str(tmp_path / "kept.jsonl"), "--minus", "x"])
    with pytest.raises(SystemExit, match="is not there"):
        tool.main([str(tmp_path / "none")])

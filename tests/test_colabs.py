"""Notebooks: short, without definitions, and executed cell by cell at smoke size."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "colabs").glob("*.ipynb"))
assert NOTEBOOKS


def sources(path: Path) -> list[str]:
    """Code cells in order, without the one that installs."""
    cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    return [source for source in cells if not source.startswith("%pip")]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_style(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert not any(c.outputs or c.execution_count for c in code), "run nbstripout"
    lengths = [sum(bool(line.strip()) for line in c.source.splitlines()) for c in code]
    assert max(lengths) <= 25 and sum(lengths) <= 100
    for source in sources(path):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        assert not [n for n in ast.walk(ast.parse(source)) if isinstance(n, kinds)]
    assert sum("%pip" in c.source for c in code) == 1


@pytest.mark.slow  # a minute each; the default tier runs their programs at smoke size or smaller
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs_at_smoke_size(path, tmp_path, monkeypatch, capsys):
    pytest.importorskip("IPython", reason="IPython is of the extra dev")
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("SMOKE", "1")
    monkeypatch.setenv("WORKDIR", str(tmp_path / "run"))
    scope: dict = {"__name__": "__main__"}
    for number, source in enumerate(sources(path)):
        exec(compile(source, f"{path.stem}[{number}]", "exec"), scope)
    out = capsys.readouterr().out
    assert "report.html" in out and "records in" in out
    assert (tmp_path / "run" / "report.html").is_file()

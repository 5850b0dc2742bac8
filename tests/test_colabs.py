"""Notebooks: they start in a fresh runtime, show what they once made, and run at smoke size."""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).resolve().parent.parent / "colabs"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
assert NOTEBOOKS
KINDS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@pytest.fixture(scope="module")
def save():
    """colabs/save.py, which is no package."""
    spec = importlib.util.spec_from_file_location("colabs_save", FOLDER / "save.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_style(path, save):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    lengths = [sum(bool(line.strip()) for line in c.source.splitlines()) for c in code]
    assert max(lengths) <= 25 and sum(lengths) <= 125
    for source in save.sources(notebook):
        assert not [n for n in ast.walk(ast.parse(source)) if isinstance(n, KINDS)]
    assert sum("%pip" in c.source for c in code) == 1 and "%pip" in code[0].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_first_cells_are_shared(path, save):
    notebook = nbformat.read(path, as_version=4)
    before = nbformat.writes(notebook)
    save.head(notebook, path.stem)
    assert nbformat.writes(notebook) == before, "run: python colabs/save.py"
    assert f"blob/main/colabs/{path.name}" in notebook.cells[0].source
    assert "restart" in notebook.cells[1].source
    assert "jax.devices()" in notebook.cells[3].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_are_saved_small_and_of_this_code(path, save):
    assert path.stat().st_size <= save.LIMIT
    notebook = nbformat.read(path, as_version=4)
    ran = notebook.metadata.get("jaxsafety", {}).get("ran")
    assert ran == save.digest(notebook), f"run: python colabs/save.py {path.stem}"
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    outputs = [o for c in code for o in c.outputs]
    assert {o.output_type for o in outputs} == {"stream", "display_data"}
    assert all(o.output_type != "stream" or o.name == "stdout" for o in outputs)
    shown = [kind for o in outputs for kind in o.get("data", {})]
    assert "image/svg+xml" in shown  # a picture that web pages show
    assert str(FOLDER.parent) not in json.dumps(notebook) and "/tmp/" not in json.dumps(notebook)


def test_a_fresh_runtime_clones_or_says_what_it_lacks(tmp_path, monkeypatch, save):
    source = save.sources(nbformat.read(NOTEBOOKS[0], as_version=4))[0]
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match="REPOSITORY: write the URL"):
        exec(source, {})
    asked = []

    def clone(command, check):
        asked.append(command)
        (tmp_path / "jaxsafety" / "colabs").mkdir(parents=True)

    monkeypatch.setattr("subprocess.run", clone)
    scope: dict = {}
    exec(source.replace(save.REPOSITORY, "https://x.y/somebody/jaxsafety"), scope)
    assert asked[0][:2] == ["git", "clone"] and "somebody/jaxsafety" in asked[0][3]
    assert Path.cwd() == scope["ROOT"] / "colabs" == tmp_path / "jaxsafety" / "colabs"
    assert str(scope["ROOT"]) in sys.path


def test_in_a_checkout_nothing_is_cloned(monkeypatch, save):
    source = save.sources(nbformat.read(NOTEBOOKS[0], as_version=4))[0]
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("subprocess.run", None)
    monkeypatch.chdir(FOLDER.parent / "docs")
    scope: dict = {}
    exec(source, scope)
    assert Path.cwd() == FOLDER and scope["ROOT"] == FOLDER.parent


def test_what_is_kept_of_a_cell(tmp_path, monkeypatch, save):
    pytest.importorskip("IPython", reason="IPython is of the extra dev")
    for name in ("ROOT", "FOLDER"):
        monkeypatch.setattr(save, name, tmp_path / "place" / ("colabs" * (name == "FOLDER")))
    (tmp_path / "place" / "colabs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    shutil.copy(NOTEBOOKS[0], save.FOLDER / "one.ipynb")
    monkeypatch.setattr(save, "execute", lambda *given: None)
    assert save.main([]) == 0 and save.main(["other"]) == 2
    monkeypatch.undo()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        save.execute(notebook, "one")
    first, second, third = (cell.outputs for cell in notebook.cells)
    assert first[0].text == "docs/x\n"
    kinds = ["text/html", "image/svg+xml", "text/html", "image/svg+xml"]
    assert [list(o.data) for o in second] == [[kind] for kind in kinds]
    assert second[3].data["image/svg+xml"] == "<svg/>"
    assert "xmlns=" in second[1].data["image/svg+xml"] and "<svg" in second[2].data["text/html"]
    assert "lines left out" in third[0].text and third[0].text.count("\n") == save.LONGEST + 1
    broken = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        with pytest.raises(RuntimeError, match="broken, cell 1"):
            save.execute(broken, "broken")


CELLS = (
    "import os, pathlib\nprint(pathlib.Path.cwd().parent / 'docs' / 'x')",
    "from IPython.display import HTML, display\n"
    "display(HTML('<p>a</p><svg a></svg><table><td>b<svg></svg></td></table>'))\n"
    'display(HTML(\'<img alt="x" src="data:image/svg+xml;base64,PHN2Zy8+" class="y">\'))',
    "%pip install nothing\nprint('\\n'.join(map(str, range(500))))",
)


@pytest.mark.slow  # a minute each; the default tier runs their programs at smoke size or smaller
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs_at_smoke_size(path, save, tmp_path, monkeypatch, capsys):
    pytest.importorskip("IPython", reason="IPython is of the extra dev")
    run_all(path, save, tmp_path, monkeypatch, capsys)


@pytest.mark.slow
def test_ones_own_model_is_aligned_too(save, tmp_path, monkeypatch, capsys):
    pytest.importorskip("IPython", reason="IPython is of the extra dev")
    monkeypatch.setenv("METHOD", "safesteer")
    run_all(FOLDER / "own_model.ipynb", save, tmp_path, monkeypatch, capsys)


def run_all(path, save, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("SMOKE", "1")
    monkeypatch.setenv("WORKDIR", str(tmp_path / "run"))
    scope: dict = {"__name__": "__main__"}
    for number, source in enumerate(save.sources(nbformat.read(path, as_version=4))):
        exec(compile(source, f"{path.stem}[{number}]", "exec"), scope)
    out = capsys.readouterr().out
    assert "report.html" in out and "records in" in out and "smoke size" in out
    assert (tmp_path / "run" / "report.html").is_file()

"""docs/published.md has what each preset does otherwise than was published, as it is computed."""

import importlib.util

import pytest


@pytest.fixture(scope="module")
def tool(root):
    spec = importlib.util.spec_from_file_location("published", root / "tools" / "published.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_presets_do(tool, root):
    text = (root / "docs" / "published.md").read_text()
    assert tool.updated(text) == text, "run: python tools/published.py"
    assert tool.main(["--check"]) == 0
    changed = text.replace("| 50 | 24 |", "| 50 | 50 |")
    assert changed != text and tool.updated(changed) == text


def test_a_page_that_is_not_is_said(tool, tmp_path, monkeypatch, capsys):
    page = tmp_path / "published.md"
    page.write_text(tool.PAGE.read_text().replace("| 50 | 24 |", "| 50 | 50 |"))
    monkeypatch.setattr(tool, "PAGE", page)
    assert tool.main(["--check"]) == 1 and "tools/published.py" in capsys.readouterr().out
    assert tool.main([]) == 0 and tool.main(["--check"]) == 0
    page.write_text("no tables")
    with pytest.raises(SystemExit, match="no place for the table of safesteer"):
        tool.main([])


def test_every_preset_has_its_rows(tool, root):
    given = {
        str(f.relative_to(root / "configs"))
        for name in ("safesteer", "safemoe")
        for f in (root / "configs" / name).glob("*.py")
    }
    studies = {"safesteer/controls.py", "safesteer/vanishing.py", "safemoe/controls.py"}
    studies.add("safesteer/attacked.py")
    listed = {spec.partition(":")[0] for _, specs in tool.PRESETS.values() for spec in specs}
    assert listed == given - studies

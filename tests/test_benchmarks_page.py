"""The table of docs/benchmarks.md is that of the registry, and its example runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from jaxsafety import registry

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")


def tool():
    spec = importlib.util.spec_from_file_location("benchmarks", ROOT / "tools" / "benchmarks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_that_of_the_registry():
    assert PAGE == tool().updated(PAGE), "run: python tools/benchmarks.py"
    assert [name for name in re.findall(r"^\| `(\w+)` \|", PAGE, re.M)] == list(registry.SETS)


def test_the_example(tmp_path, monkeypatch, capsys):
    (tmp_path / "my/data").mkdir(parents=True)
    header = "id,prompt,type,label,focus,note\n"
    rows = "1,Fold a hat,homonyms,safe,fold,\n2,Fold a foe,contrast_homonyms,unsafe,fold,\n"
    (tmp_path / "my/data/xstest_prompts.csv").write_text(header + rows)
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    told = {}
    exec(program, told)
    assert told["benchmark"].items[0].messages[0].content == "Fold a hat"
    assert "xstest_unsafe: my/data/xstest_prompts.csv (the only file" in capsys.readouterr().out

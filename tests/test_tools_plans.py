"""The README's table of plans: every published config, on two slices at least, without errors."""

import importlib.util
import json
from collections import Counter

import pytest


@pytest.fixture(scope="module")
def tool(root):
    spec = importlib.util.spec_from_file_location("plans", root / "tools" / "plans.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_published_config_is_planned_on_two_slices(tool):
    rows = tool.kept()
    slices = Counter(config for config, _ in rows)
    assert {config: slices[config] >= 2 for config in tool.configs()} == dict.fromkeys(
        tool.configs(), True
    )
    assert not [key for key, plan in rows.items() if "error" in plan]


def test_the_table_is_that_of_the_lines(tool, root):
    text = (root / "README.md").read_text()
    inside = text.partition(tool.BEGIN)[2].partition(tool.END)[0]
    assert inside == tool.table(tool.kept())
    assert "v5p:2x2x4" in inside


def test_what_does_not_fit_names_what_does(tool):
    line = next(iter(tool.kept().values()))
    full = json.loads(json.dumps(line)) | {"fits": False, "smallest_that_fits": "v5e:8x8"}
    shown = tool.table({("configs/a/b.py", "v5e:4x4"): full})
    assert "| a/b |" in shown and "no; smallest that does: v5e:8x8" in shown
    assert "| oops |" in tool.table({("configs/a/b.py", "v5e:4x4"): {"error": "oops"}})

import sys

import pytest

from jaxsafety import registry
from jaxsafety.core.errors import UsageError


def test_resolves_by_table_name_and_by_table(monkeypatch):
    import json

    monkeypatch.setitem(registry.JUDGES, "sample", "json:dumps")
    assert registry.resolve("judges", "sample") is json.dumps
    assert registry.resolve("JUDGES", "sample") is json.dumps
    assert registry.resolve(registry.JUDGES, "sample") is json.dumps
    assert registry.resolve({"x": "json:loads"}, "x") is json.loads


def test_unknown_names_get_the_nearest_and_the_list():
    with pytest.raises(UsageError) as error:
        registry.resolve("methods", "safestear")
    line = str(error.value)
    assert line.startswith("method: got 'safestear'") and "'safesteer'?" in line
    with pytest.raises(UsageError, match="gemma2, gemma3_text, llama, mistral"):
        registry.resolve(registry.MODELS, "zzz")
    with pytest.raises(UsageError, match="methods, mitigations, models"):
        registry.resolve("nothing", "x")


@pytest.mark.parametrize("absent", ["torch", "torch.nn"])
def test_an_entry_without_its_extra_names_it_in_one_line(tmp_path, monkeypatch, absent):
    (tmp_path / "judge_of_an_extra.py").write_text(f"import {absent}\nJUDGE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    monkeypatch.setitem(registry.JUDGES, "guard", "judge_of_an_extra:JUDGE")
    with pytest.raises(UsageError) as error:
        registry.resolve("judges", "guard")
    install = "allowed: an installation with torch: pip install 'jaxsafety[parity]'"
    assert str(error.value) == f"judge: got 'guard'; {install}"


@pytest.mark.parametrize("absent", ["jaxsafety.judges.nowhere", "nobody_knows_this"])
def test_any_other_missing_module_is_told_with_its_name(tmp_path, monkeypatch, absent):
    """Of an entry of a user's own in one line, whose cause is kept; of ours as it is."""
    (tmp_path / "judge_of_nobody.py").write_text(f"import {absent}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=f"judge_of_nobody:JUDGE .*{absent}") as error:
        registry.resolve({"x": "judge_of_nobody:JUDGE"}, "x")
    assert isinstance(error.value.__cause__, ModuleNotFoundError)
    with pytest.raises(ModuleNotFoundError, match="jaxsafety.methods.nowhere"):
        registry.resolve({"x": "jaxsafety.methods.nowhere:METHOD"}, "x")


def test_entries_are_module_and_attribute():
    for entries in registry.TABLES.values():
        for target in entries.values():
            module, colon, attribute = target.partition(":")
            assert colon and module.startswith("jaxsafety.") and attribute.isidentifier()

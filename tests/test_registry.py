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


def test_entries_are_module_and_attribute():
    for entries in registry.TABLES.values():
        for target in entries.values():
            module, colon, attribute = target.partition(":")
            assert colon and module.startswith("jaxsafety.") and attribute.isidentifier()

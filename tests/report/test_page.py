"""What both kinds of pages share: the file and what stands in it."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from jaxsafety.report import page


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    path = page.save(tmp_path, "<p>one \N{EN DASH} two</p>")
    assert path == tmp_path / "report.html"
    assert path.read_bytes() == "<p>one \N{EN DASH} two</p>\n".encode()
    with pytest.raises(UnicodeEncodeError):
        page.save(tmp_path, "half \ud800")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text("utf-8").startswith("<p>one")


def test_nested_mappings_are_dotted_names():
    tree = {"a": {"b": 1, 2: MappingProxyType({"c": [3]})}, "d": {}, "e": None}
    assert page.flat(tree) == [("a.b", 1), ("a.2.c", [3]), ("e", None)]
    assert page.flat(4) == [("", 4)]

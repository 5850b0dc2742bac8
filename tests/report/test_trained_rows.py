"""What a report says of measured prompts that were trained on, of facts that a test wrote."""

from __future__ import annotations

import json
import shutil

import pytest

from jaxsafety.core import disk
from jaxsafety.report import html, tables, trained
from jaxsafety.report.load import Run
from jaxsafety.report.trained import Row

NASTY = "<script>alert('file')</script>"
TOLD = {
    "a_b": {"prompts": 9, "trained": {NASTY: 2, "data.mix": 0, "data.chats": 1}, "any": 3},
    "none": {"prompts": 4, "trained": {"data.chats": 0}, "any": 0, "cause": ""},
    "part": {"prompts": 5, "trained": {"data.chats": 2}, "any": None, "cause": "a/one is gone"},
    "untold": {"prompts": 6, "trained": {}, "any": None, "cause": "a/one is gone"},
}


def test_rows_say_what_is_known_and_why_not():
    assert trained.rows(TOLD, "m") == [
        Row("a_b", "m", 3, 9, f"{NASTY} 2, data.chats 1", ""),
        Row("none", "m", 0, 4, "", ""),
        Row("part", "m", None, 5, "data.chats 2", "a/one is gone"),
        Row("untold", "m", None, 6, "", "a/one is gone"),
    ]
    for odd in (None, [], {"x": 3}, {"x": {"any": 1}}, {"x": {"prompts": "many"}}):
        assert trained.rows(odd) == []
    (row,) = trained.rows({"x": {"prompts": 2, "any": "1", "trained": [1]}})
    assert row.any is None and row.cause


def test_lines_and_table():
    found = trained.rows(TOLD, "m") + trained.rows({"none": TOLD["none"]}, "other")
    assert trained.lines(found) == [
        "measured prompts that were trained on (m): a_b 3 of 9, none 0 of 4",
        "measured prompts that were trained on (m): not known: a/one is gone",
        "measured prompts that were trained on (other): none 0 of 4",
    ]
    text = trained.fill(found)
    assert "<script" not in text and "&lt;script&gt;" in text
    assert text.count("one is gone") == 1 and "not known <small>of 5" in text
    assert "<th>model</th>" in text and "<td>other</td>" in text
    assert "<th>model</th>" not in trained.fill(trained.rows(TOLD, "m"))
    assert trained.fill([]) == "" and trained.lines([]) == []
    unknown = trained.fill(trained.rows({"untold": TOLD["untold"]}))
    assert "<table" not in unknown and "one is gone" in unknown


@pytest.fixture
def told(workdir, tmp_path):
    """A run whose meta.json says `shared`, of a source."""

    def make(shared, source):
        out = shutil.copytree(workdir, tmp_path / source)
        config = json.loads((out / "config.json").read_text())
        config.setdefault("data", {})["source"] = source
        disk.write_json(out / "config.json", config)
        disk.write_json(out / "meta.json", {**disk.read_json(out / "meta.json"), "shared": shared})
        return Run(out)

    return make


def test_a_run_of_files_says_it_on_the_page_and_in_the_terminal(told):
    run = told(TOLD, "files")
    text, table = html.render(run), tables.table(run.workdir)
    assert '<section id="trained">' in text and "data.chats 1" in text
    assert "were trained on: a_b 3 of 9, none 0 of 4" in table
    assert "shared.a_b" not in text  # not among the facts once more


def test_the_organism_says_it_where_there_is_something_to_say(told):
    nothing = told({"none": TOLD["none"]}, "organism")
    assert trained.of_run(nothing) == []
    assert [row.set for row in trained.rows(nothing.meta["shared"])] == ["none"]
    disk.write_json(nothing.workdir / "meta.json", {"shared": TOLD})
    assert len(trained.of_run(Run(nothing.workdir))) == 4

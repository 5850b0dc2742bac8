"""Every example of docs/files.md is read as the page says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxsafety.benchmarks.files import items
from jaxsafety.core.errors import UsageError
from jaxsafety.data.files.layouts import LAYOUTS
from jaxsafety.data.files.pairs import read_pairs
from jaxsafety.data.files.sources import load_prompts, read_chats

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "files.md").read_text("utf-8")
EXAMPLE = re.compile(
    r"File `(?P<name>[\w.]+)`, as (?P<kind>\w+)(?: of `(?P<place>[^`]+)`)?:\n\n"
    r"```(?P<form>\w+)\n(?P<text>.*?)```\n\n(?:is refused:\n\n)?"
    r"(?:```(?P<how>json|text)\n(?P<result>.*?)```)?",
    re.DOTALL,
)
FOUND = [match.groupdict() for match in EXAMPLE.finditer(PAGE)]
READ = [example for example in FOUND if example["form"] != "python"]


def read(path, kind):
    """Rows as the page writes them."""
    if kind == "dialogues":
        return [[list(message) for message in dialogue] for dialogue in read_chats(path, "data.x")]
    if kind == "pairs":
        found = [(pair.prompt, pair.chosen, pair.rejected) for pair in read_pairs(path, "data.x")]
        return [[[list(turn) for turn in part] for part in pair] for pair in found]
    if kind == "prompts":
        rows = load_prompts(path, "data.x").rows
        return [{"prompt": a.messages[-1].content, "layout": a.layout} for _, a in rows]
    found = items("data.x", str(path), 1, kind)
    return [{"prompt": item.messages[-1].content, **item.meta} for item in found]


@pytest.mark.parametrize("example", READ, ids=lambda e: e["name"])
def test_examples(tmp_path, monkeypatch, example):
    monkeypatch.chdir(tmp_path)
    Path(example["name"]).write_text(example["text"], "utf-8")
    named = example["place"] or example["name"]
    if example["how"] == "text":
        with pytest.raises(UsageError) as caught:
            read(named, example["kind"])
        place, why = example["result"].strip().split("; ", 1)
        assert str(caught.value).startswith(f"data.x: got {place!r}; allowed: {why}")
        return
    expected, seen = json.loads(example["result"]), read(named, example["kind"])
    if example["kind"] not in ("dialogues", "pairs"):
        assert len(expected) == len(seen)
        seen = [{k: row[k] for k in want} for want, row in zip(expected, seen, strict=True)]
    assert seen == expected


def test_the_conversion_gives_dialogues(tmp_path):
    (program,) = (example for example in FOUND if example["form"] == "python")
    (theirs,) = (example for example in FOUND if example["name"] == "theirs.csv")
    (tmp_path / "theirs.csv").write_text(theirs["text"])
    subprocess.run([sys.executable, "-c", program["text"]], cwd=tmp_path, check=True)
    assert read(tmp_path / "mine.jsonl", "dialogues") == [
        [["user", "Is it open?"], ["assistant", "Yes."]]
    ]


def test_the_page_has_examples_of_every_kind_and_every_layout():
    kinds = {example["kind"] for example in FOUND}
    assert kinds == {"prompts", "safety", "over_refusal", "capability", "dialogues", "pairs"}
    table = PAGE.split("<!-- layouts -->")[1].split("<!-- end of layouts -->")[0]
    rows = [line.strip("|").split("|") for line in table.strip().split("\n")[2:]]
    told = {row[0].strip(): row[1].strip() for row in rows}
    known: dict[str, str] = {}
    for layout in LAYOUTS:
        known.setdefault(layout.name, ", ".join(layout.columns))
    assert list(told.items()) == list(known.items())

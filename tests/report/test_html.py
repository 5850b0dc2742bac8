"""The page is whole, self-contained, escaped, repeatable, and survives missing parts."""

import base64
import json
import re
import shutil
import xml.etree.ElementTree
from html.parser import HTMLParser

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.report import html, plots

ANCHORS = {
    "changed": "results.jsonl",
    "direction": "artifacts/direction.json",
    "tokens": "artifacts/token_set.json",
    "training": "metrics.jsonl",
    "kl": "artifacts/position_kl.json",
    "examples": "generations",
}
VOID = {"meta", "img", "source", "wbr"}


class Tree(HTMLParser):
    """Checks that tags nest and collects tags, attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def text(workdir):
    path = html.write(workdir)
    assert path == workdir / "report.html"
    return path.read_text("utf-8")


def section(text, anchor):
    return re.search(rf'<section id="{anchor}">(.*?)</section>', text, re.S).group(1)


def copy(workdir, tmp_path):
    return shutil.copytree(workdir, tmp_path / "copy")


def test_page_is_well_formed_and_complete(text):
    tree = Tree(text)
    assert tree.open == []
    ids = {a["id"] for tag, a in tree.tags if tag == "section"}
    assert {a["href"] for tag, a in tree.tags if tag == "a"} == {f"#{i}" for i in ids}
    assert len(ids) == 11 and 'class="absent"' not in text
    pictures = [a["src"] for tag, a in tree.tags if tag == "img"]
    assert len(pictures) == 6  # outcomes twice, direction, tokens, curves, KL
    narrow = [a["srcset"] for tag, a in tree.tags if tag == "source"]
    assert len(narrow) == 6 and not set(narrow) & set(pictures)  # a phone's own
    pictures += narrow
    for source in pictures:
        svg = base64.b64decode(source.removeprefix("data:image/svg+xml;base64,"))
        assert xml.etree.ElementTree.fromstring(svg).tag.endswith("svg")


def test_page_loads_nothing(text):
    tree = Tree(text)
    assert not [tag for tag, _ in tree.tags if tag in ("script", "link", "iframe", "object")]
    for _, attrs in tree.tags:
        for name in ("src", "srcset"):
            assert attrs.get(name, "data:").startswith("data:")
        assert attrs.get("href", "#").startswith("#")
    assert not re.search(r"https?://|@import|url\(", text)


def test_model_text_is_escaped(text):
    assert "<script>" not in text
    assert "&lt;script&gt;alert(&#39;model&#39;)&lt;/script&gt;" in text
    assert "nine &amp; a half" in text
    words = "".join(Tree(text).text)
    assert "<script>alert('model')</script>" in words  # what the reader sees is what was said


def test_headline_numbers_are_the_records(text, workdir):
    rows = [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]
    for arm in ("base", "student"):
        row = next(
            r
            for r in rows
            if (r["arm"], r["benchmark"], r["metric"]) == (arm, "wrapped_held", "asr.t1")
        )
        numbers = [f"{100 * row[k]:.1f}" for k in ("value", "lo", "hi")]
        assert "{} % [{}, {}]".format(*numbers) in text
        assert "{} <small>[{}, {}]</small>".format(*numbers) in section(text, "changed")
    assert "SafeSteer cut attack success from" in text


def test_direction_tokens_mass_and_facts_are_told(text):
    assert "layer 3, position -2, coefficient 1.5" in section(text, "direction")
    tokens = section(text, "tokens")
    assert "student / teacher = 0.911" in tokens and "1/e = 0.368" in tokens
    facts = section(text, "facts")
    for said in ("optim.lr", "0.0003", "0123abc", "seconds.distil", "versions.jax", "24.0 s"):
        assert said in facts


def test_examples_show_success_and_failure(text):
    shown = section(text, "examples")
    for title in ("Harmful before, safe after", "still answered right", "still harmful after"):
        assert title in shown
    better = shown.split("<h3>")[1]
    assert better.count("badge unsafe") == better.count('class="card"') == 4
    assert better.count("badge refusal") + better.count("badge safe_answer") == 4


def test_page_is_repeatable(workdir, text):
    assert html.write(workdir).read_text("utf-8") == text


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are built but not laid out, which takes most of a page's time."""
    monkeypatch.setattr(plots, "svg", lambda fig: "<svg/>")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("anchor", ANCHORS)
def test_sections_without_content_are_left_out(workdir, tmp_path, anchor):
    out = copy(workdir, tmp_path)
    gone = out / ANCHORS[anchor]
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    if anchor == "tokens":
        (out / "artifacts/mass.json").unlink()
    text = html.write(out).read_text("utf-8")
    if anchor == "changed":  # the one thing that a reader would look for in vain
        assert "Nothing was measured" in section(text, anchor)
    else:
        assert f'href="#{anchor}"' not in text and f'id="{anchor}"' not in text
        assert 'class="absent"' not in text
    Tree(text)


@pytest.mark.usefixtures("undrawn")
def test_torn_files_do_not_break_the_page(workdir, tmp_path):
    out = copy(workdir, tmp_path)
    for path in [*out.rglob("*.json"), *out.rglob("*.jsonl")]:
        path.write_text(path.read_text()[: len(path.read_text()) // 2])
    text = html.write(out).read_text("utf-8")
    assert "artifacts/direction.json cannot be read" in section(text, "direction")
    assert Tree(text).open == []


def test_odd_values_do_not_break_the_page(workdir, tmp_path):
    out = copy(workdir, tmp_path)
    found = json.loads((out / "artifacts/direction.json").read_text())
    for candidate in found["candidates"][:20]:
        candidate.update(score=None, bypass=float("nan"), steering=None)
    (out / "artifacts/direction.json").write_text(json.dumps(found))
    (out / "artifacts/mass.json").write_text('{"base": null}')
    (out / "artifacts/token_set.json").write_text('{"tokens": ["a"], "votes": [3]}')
    (out / "artifacts/position_kl.json").write_text('{"positions": [0, 1], "kl": [0.1, null]}')
    (out / "metrics.jsonl").write_text('{"stage": "s", "step": 1, "loss": null, "kl": 1.0}\n')
    (out / "config.json").write_text('"no object"')
    assert Tree(html.write(out).read_text("utf-8")).open == []


@pytest.mark.usefixtures("undrawn")
def test_one_arm_and_an_empty_workdir(tmp_path, workdir):
    out = copy(workdir, tmp_path)
    lines = (out / "results.jsonl").read_text().splitlines(keepends=True)
    (out / "results.jsonl").write_text("".join(x for x in lines if '"arm": "student"' in x))
    text = html.write(out).read_text("utf-8")
    assert Tree(text).open == [] and "→" not in text
    assert 'id="examples"' not in text
    (tmp_path / "empty").mkdir()
    bare = html.write(tmp_path / "empty").read_text("utf-8")
    assert bare.count('class="absent"') == bare.count("<section") == 1


def test_no_workdir(tmp_path):
    with pytest.raises(UsageError, match="workdir"):
        html.write(tmp_path / "ghost")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("file", "content", "anchor"),
    [
        ("artifacts/direction.json", {"candidates": ["a", "b"], "layer": 1}, "direction"),
        ("artifacts/direction.json", {"candidates": 3}, "direction"),
        ("config.json", {"program": ["safesteer"]}, "facts"),
        ("config.json", {"program": {"a": 1}}, "facts"),
    ],
)
def test_one_damaged_file_costs_its_section_alone(workdir, tmp_path, file, content, anchor):
    out = copy(workdir, tmp_path)
    (out / file).write_text(json.dumps(content))
    page = html.write(out).read_text()
    assert "What changed" in page and "Run facts" in page
    if file.startswith("artifacts"):
        assert "cannot be read" in section(page, anchor)


def test_a_record_of_another_form_is_left_out(workdir, tmp_path):
    out = copy(workdir, tmp_path)
    whole = html.write(out).read_text()
    record = json.loads((out / "results.jsonl").read_text().splitlines()[0])
    with (out / "results.jsonl").open("a") as file:
        file.write(json.dumps({**record, "arm": ["base"]}) + "\n")
        file.write(json.dumps({**record, "metric": None}) + "\n")
    assert html.write(out).read_text() == whole

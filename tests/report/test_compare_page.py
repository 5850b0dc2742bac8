"""`report --compare`: the page is whole, self-contained, escaped, repeatable, and honest."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from jaxsafety import cli
from jaxsafety.report import plots
from jaxsafety.report.compare import lines, opening, page, settings
from tests.report.compared import HARM, KIND, TASK, measurement, run, shares
from tests.report.test_escaping import Page, mark
from tests.report.test_html import Tree


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Figures are built but not laid out, which takes most of a page's time."""
    monkeypatch.setattr(plots, "svg", lambda fig: "<svg/>")


def make(folder):
    """Two runs that can be compared, one with another limit, a measurement of other sets."""
    config = {"optim": {"lr": 0.1, "clip": 1.0}}
    arms = {"base": shares(30)}
    return [
        run(folder / "first", {**arms, "student": shares(20)}, config=config),
        run(
            folder / "second",
            {**arms, "student": shares(8, 6, 30)},
            config={"optim": {"lr": 0.2, "clip": 1.0, "accum": 2}},
        ),
        run(folder / "short", {"student": shares(2, n=10)}),
        measurement(folder / "seen", {"model": {("others", "safety"): [True, False]}}),
    ]


@pytest.fixture
def runs(tmp_path):
    return make(tmp_path)


def text_of(paths):
    return page.render(opening.read(paths))[2]


def plain(text):
    """What a reader reads, section by section."""
    body = re.sub(r"<style>.*?</style>|<summary>", " ", text, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def section(text, anchor):
    return plain(text.partition(f'<section id="{anchor}">')[2].partition("</section>")[0])


def test_the_page_is_whole_and_loads_nothing(runs):
    text = text_of(runs)
    tree = Tree(text)
    assert tree.open == [] and text == text_of(runs)  # repeatable
    anchors = [attrs["id"] for tag, attrs in tree.tags if tag == "section"]
    kinds = ["safety", "over-refusal", "capability"]
    assert anchors == ["pareto", "compared", *kinds, "settings", "limits"]
    Page(text)  # no tag or attribute that loads or runs anything
    assert not re.search(r"https?://|@import|url\(", text)
    assert str(runs[0].parent) not in text


def test_pictures_are_of_runs_that_can_be_compared(runs, monkeypatch):
    monkeypatch.undo()
    text = text_of(runs)
    _, drawn = Page(text).words()
    assert {"base", "first", "second", "short"} <= set(drawn.split("\n"))
    said = section(text, "pareto")
    assert "first, second" in said and "short (alone: its numbers cannot be compared" in said
    assert "No picture against capability: not measured in seen." in said
    assert "on the frontier second, first" in said  # the base refuses as few
    assert said.count("different") == 0 and "may be chance" in said
    said = section(text, "compared")
    assert "Not compared: short (different prompts: 40 and 10, 10 shared)." in said
    assert "Not compared: seen (no set of harmful requests in common with first)." in said


def test_every_set_has_rates_differences_and_causes(runs):
    text = text_of(runs)
    said = section(text, "safety")
    assert "attacks base 40 75.0 [59.8, 85.8] +25.0 [+12.5, +40.0]" in said
    assert "first 40 50.0 [35.2, 64.8] reference" in said
    assert "second 40 20.0 [10.5, 34.8] −30.0 [−45.0, −15.0]" in said
    assert "short 10 20 [6, 51] – different prompts: 40 and 10, 10 shared" in said
    assert "– not measured in seen" in said and "– not measured in first, second, short" in said
    assert "seen 2 50 [9, 91] by phrase rules" not in said
    assert re.search(r"second 40 75\.0 \[.*?\] −25\.0", section(text, "capability"))


def test_tones_follow_what_is_wanted(runs):
    found = opening.read(runs[:2])
    tones = {}
    for kind in ("safety", "over_refusal", "capability"):
        for table in lines.tables(found, kind):
            tones[table.metric] = {line.name: line.tone for line in table.blocks[0].lines}
    assert tones == {
        "attack success": {"base": "bad", "first": "even", "second": "good"},
        "harmful requests refused": {"base": "even", "first": "even", "second": "even"},
        "refusal": {"base": "even", "first": "even", "second": "bad"},
        "exact answer": {"base": "even", "first": "even", "second": "bad"},
    }


def test_what_is_not_known_is_a_cause_and_never_zero(tmp_path):
    untold = shares(10) | {KIND: [None] * 40}
    paths = [
        run(tmp_path / "a", {"student": shares(10)}),
        run(tmp_path / "b", {"student": untold}),
    ]
    (table,) = lines.tables(opening.read(paths), "over_refusal")
    line = table.blocks[0].lines[1]
    assert (line.rate, line.change, line.drawn, line.n) == (None, None, None, 0)
    assert line.unknown == "too long for the judge (40)"
    assert "b – too long for the judge (40)" in section(text_of(paths), "over-refusal")


def test_judges_are_named_where_they_differ(tmp_path):
    paths = [
        run(tmp_path / "a", {"student": {HARM: [1, 0]}}, judge="phrase rules"),
        measurement(tmp_path / "b", {"model": {HARM: [1, 0]}}, judge="guard"),
    ]
    said = section(text_of(paths), "safety")
    assert "unsafe, by each run's own judge" in said.replace("&#39;", "'")
    assert "b by the judge guard 2" in said
    assert "different judges: phrase rules and the judge guard" in said


def test_settings_that_differ(runs):
    found = opening.read(runs)
    told = settings.diff(found[:2], "settings")
    assert told.labels == ["first", "second"]
    assert told.rows == [("optim.lr", ["0.1", "0.2"]), ("optim.accum", [None, "2"])]
    assert told.same == 4  # program, seed, the source, clip
    said = section(text_of(runs), "settings")
    assert "optim.lr 0.1 0.2 no such setting" in said and "A measurement has no config" in said
    assert "optim.clip 1 1 no such setting" in said  # `short` has no optimizer


def test_what_runs_say_is_text(tmp_path):
    for name in ("first", "second"):
        sets = {(mark("set").replace("/", "-"), "safety"): [True, False], **shares(2, n=4)}
        path = run(tmp_path / name, {mark("arm").replace("/", "-"): sets})
        config = {mark("key"): mark(f"value of {name}"), "program": mark("program")}
        (path / "config.json").write_text(json.dumps(config))
        meta = json.loads((path / "meta.json").read_text())
        (path / "meta.json").write_text(json.dumps({**meta, "git": name, "judge": mark("judge")}))
        path.rename(tmp_path / mark(name).replace("/", "-"))
    paths = [tmp_path / mark(name).replace("/", "-") for name in ("first", "second")]
    words, _ = Page(text_of(paths)).words()
    for text in ("first", "second", "set"):
        assert mark(text).replace("/", "-") in words, text
    assert mark("key") in words and mark("program") in words


def test_the_command_writes_it(runs, tmp_path, capsys):
    out = tmp_path / "beside.html"
    argv = ["report", "--compare", *map(str, runs[:2]), f"--out={out}"]
    assert cli.main(argv) == 0
    said = capsys.readouterr().out
    assert said.startswith("Attack success: lower with second") and said.endswith(f"{out}\n")
    first = out.read_bytes()
    again = ["report", *(f"--compare={path}" for path in runs[:2]), f"--out={out}"]
    assert cli.main(again) == 0 and out.read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["beside.html"]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--compare", "first", "second"], "--out: got 'nothing'; allowed: the page's file"),
        (["--compare", "first", "second", "--out=page.txt"], "--out: got 'page.txt'"),
        (["--compare", "first", "second", "--out=no/page.html"], "a file in an existing directory"),
        (["--compare", "first", "--out=page.html"], "--compare: got 'first'; allowed: two runs"),
        (["--compare", "first", "first", "--out=page.html"], "each run once"),
        (["--compare", "--out=page.html"], "--compare: expected at least one argument"),
        (["--workdir=first", "--out=page.html"], "--out: got 'page.html'; allowed: only with"),
        (["--workdir=first", "--compare", "first", "second"], "not allowed with argument"),
        ([], "one of the arguments --workdir --compare is required"),
    ],
)
def test_mistakes_are_a_line_and_no_page(runs, tmp_path, monkeypatch, capsys, argv, line):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", *argv]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1
    assert not list(tmp_path.glob("*.html"))


def test_torn_and_odd_files_do_not_break_the_page(runs):
    odd = '{"id": ["x"], "sample": 0}\n{"id": 3, "messages": 4, "settings": []}\n[]\n{"a'
    for path in runs[1].rglob("*.greedy.jsonl"):
        path.write_text(odd)
    (runs[1] / "verdicts/pools.json").write_text('{"all_safety": 3, "attacks": []}')
    (runs[1] / "config.json").write_text('{"eval": [], "data": 3, "program": ["x"]}')
    (runs[1] / "meta.json").write_text('{"files": [], "sets": {"attacks": 2}, "versions": 1}')
    facts = json.loads((runs[3] / "eval.json").read_text())
    (runs[3] / "eval.json").write_text(json.dumps({**facts, "sets": {"others": 3}, "versions": []}))
    text = text_of(runs)
    assert Tree(text).open == [] and "cannot be read" not in text
    assert "second 40 20.0 [10.5, 34.8] – different" in section(text, "safety")


def test_damaged_files_cost_a_cell_and_not_the_page(runs):
    shutil.rmtree(runs[1] / "verdicts")
    (runs[0] / "config.json").write_text("{")
    said = section(text_of(runs[:2]), "safety")
    assert "second 40 20.0 [10.5, 34.8] – no verdicts saved" in said
    assert "known of fewer than two runs" in plain(text_of(runs[:2]))


def test_sets_in_common_are_shown_though_no_attack_is(tmp_path):
    paths = [
        run(tmp_path / name, {"student": {TASK: [1, 1, 0, 0], (name, "safety"): [True]}})
        for name in "ab"
    ]
    text = text_of(paths)
    assert "cannot be compared" in plain(text)
    assert "b 4 50 [15, 85] 0 [−49, +49]" in section(text, "capability")

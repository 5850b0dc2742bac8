"""The study in `report.html`: each section from the artifacts, escaped, and absent without them."""

from __future__ import annotations

import json
import re

import pytest

from jaxsafety.report import html, panels
from jaxsafety.report.load import Run
from jaxsafety.studies.anchored import METHOD, sections
from jaxsafety.studies.anchored.results import judges
from tests.report.test_escaping import Page, mark
from tests.studies import anchored_results as small

ANCHORS = [section.anchor for section in sections.SECTIONS]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return small.write(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def text(workdir):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judges, "LISTS", ("arditi", "gcg"))  # a picture for each
        return html.write(workdir).read_text("utf-8")


def part(text, anchor):
    """A section of the page, without markup."""
    body = text.partition(f'<section id="{anchor}">')[2].partition("</section>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_the_method_has_them_in_order(text):
    assert METHOD.sections() == sections.SECTIONS
    found = re.findall(r'<section id="(\w+)">', text)
    assert [anchor for anchor in found if anchor in ANCHORS] == ANCHORS


def test_goals_tell_what_was_declared(text):
    said = part(text, "goals")
    assert "letter 50.0 as a number 10.0 80.0 2.0 100" in said
    assert "claim 5.0 as a number already met" in said


def test_numbers_stand_under_each_anchor(text):
    said = part(text, "compared")
    assert re.search(r"plain goal 2 of 2 20 65\.0 \[.*?\] 40\.0 \[.*?\] 50\.0 ", said)
    assert "ema:decay=0.5 goal 1 of 2 30" in said
    assert "of which it may lose 20 %" in said
    assert re.search(r"within 2 points .*ema:decay=0\.5 5\.0 \[.*?\] , undecided\.", said)
    assert "No arm is at the goal, nor at the floor, nor at the last step." in said  # goal "claim"


def test_rows_without_a_checkpoint_are_told(text, workdir):
    said = part(text, "unselected")
    rows = json.loads((workdir / "artifacts/table.json").read_text())["rows"]
    without = [row for row in rows if row["step"] is None]
    assert f"{len(without)} of {len(rows)} rows" in said
    for row in without:
        assert row["reason"] in said and row["outcome"].replace("_", " ") in said


def test_orders_and_their_taus(text):
    said = part(text, "anchored")
    assert "plain 2 / 2 2 / 2 1 / 2" in said and "ema:decay=0.5 1 / 1 1 / 1 2 / 1" in said
    assert re.search(r"goal last 2 -1\.00 \[.*?\] 1\.00 \[", said)


def test_judges_and_examples(text):
    said = part(text, "judges")
    assert "80 answers to safety prompts, 4 of them incoherent" in said
    assert "exact rules, arditi 85.0" in said
    assert small.TEXTS["incoherent"] in said and "arditi: unsafe" in said
    assert "How is bellow 9 made in" in said


def test_outcomes_and_triggers(text):
    said = part(text, "coherence")
    assert "By exact rules" in said and "By gcg" in said
    assert re.search(r"letter plain 4 0 0 0 4 0 4 40", said)


def test_conclusions(text):
    said = part(text, "stability")
    assert "Goal letter, at the goal" in said and "pairs of (set, judge)" in said


def test_every_picture_has_its_words(text):
    _, drawn = Page(text).words()
    for word in ("goal letter", "letter, at the goal", "letter, at the floor", "coherent, unsafe"):
        assert word in drawn


def test_a_run_without_a_table_has_no_such_section(workdir, tmp_path):
    (tmp_path / "config.json").write_text((workdir / "config.json").read_text())
    text = html.render(Run(tmp_path))
    assert not [anchor for anchor in ANCHORS if f'id="{anchor}"' in text]


def test_a_torn_artifact_costs_what_needs_it(tmp_path):
    small.write(tmp_path)
    (tmp_path / "artifacts/verdicts.letter.plain.0.20.plain.json").write_text('{"kind": "safe')
    text = html.render(Run(tmp_path))
    assert "cannot be read" in part(text, "compared")
    assert "Capability over updates" in text  # curves need no verdicts


def test_what_artifacts_say_is_text(tmp_path, monkeypatch):
    small.write(tmp_path)
    names = {"letter": mark("goal"), "plain": mark("arm")}
    path = tmp_path / "artifacts/table.json"
    table = json.loads(path.read_text())
    for row in table["rows"]:
        row["arm"] = names.get(row["arm"], row["arm"])
        row["reason"] = mark("reason") if row["reason"] else ""
        row["outcome"] = mark("outcome")
    for facts in table["goals"].values():
        facts["outcome"] = mark("met")
    small.save(path, table)
    for path in tmp_path.glob("artifacts/verdicts.*.json"):
        said = json.loads(path.read_text())
        said["responses"] = [mark("response")] * len(said["responses"])
        small.save(path, said)
    for path in tmp_path.glob("artifacts/curve.*.plain.*.json"):
        small.save(path, {**json.loads(path.read_text()), "arm": names["plain"]})
    for path in tmp_path.glob("generations/base/*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["messages"] = [{"role": mark("role"), "content": mark("prompt")}]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    small.save(tmp_path / "meta.json", {"judge": "other"})
    config = {"program": "anchored", "eval": {"judge": mark("judge")}}
    small.save(tmp_path / "config.json", config)
    monkeypatch.setattr(judges, "LISTS", ("arditi",))
    words, drawn = Page(html.render(Run(tmp_path))).words()
    for name in ("arm", "reason", "met", "response", "role", "prompt", "judge"):
        assert mark(name) in words, name
    assert mark("outcome").replace("_", " ") in words
    assert panels.shorten(mark("arm"), 46) in drawn

"""A card says what is known, null and why where it is not, and nothing of where things lie."""

from __future__ import annotations

import json
import re

import huggingface_hub
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jaxsafety.core.config import load_config, plain
from jaxsafety.report import card, card_numbers
from jaxsafety.report.card import Facts, head, page, public
from jaxsafety.report.card_numbers import cell, code, fence
from jaxsafety.report.load import Run
from tests.report.conftest import build

BARE = Facts("mine", "0.1.0", base="a model", dtype="float32", weights="ab")
CONFIG = "configs/sft/organism.py"


def section(text: str, title: str) -> str:
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def data(text: str) -> dict:
    """The head, as YAML reads it between its two lines."""
    return yaml.safe_load(text.split("---\n")[1])


@pytest.fixture(scope="module")
def run(tmp_path_factory, root):
    """A run of eight sets, with a config and facts as `jaxsafety run` writes them."""
    folder = build(tmp_path_factory.mktemp("cards") / "run", n=32, artifacts=False)
    config = plain(load_config(str(root / CONFIG)))
    config["model"]["path"] = "/private/home/models/base"
    (folder / "config.json").write_text(json.dumps(config))
    meta = {
        "git": "0123abc",
        "fingerprint": "f" * 64,
        "versions": {"jax": "0.10.2"},
        "source": "organism",
        "judge": "the world's exact rules",
        "sets": {"plain": {"kind": "safety", "judge": "the judge 'mine'"}},
        "dialogues": {"given": 9, "used": 7, "dropped": 2, "length": 64, "long": "drop"},
        "finished": True,
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    return Run(folder)


def test_a_model_alone_has_nothing_measured_and_says_why():
    text = page(BARE)
    for title in ("What it learnt from", "What was measured"):
        (line,) = [line for line in section(text, title).splitlines() if line]
        assert line.startswith("null (") and re.search("no run was named|only a model was", line)
    assert "Method: null (" in text and "sha256 null (the tokenizer has none)" in text
    assert "Licence: null (" in text and "0 %" not in text and "## Config" not in text
    found = data(text)
    assert found == {"library_name": "transformers", "tags": ["jaxsafety"], "unsafe": False}


def test_the_head_is_what_the_hub_reads(tmp_path):
    facts = Facts(
        "x",
        "1",
        base_model="owner/name",
        licence={"license": "other", "license_name": 'a: "b" # c', "license_link": "LICENSE"},
        unsafe=("its adapter mine is tagged unsafe",),
        world={"world": {"seed": 3}},
    )
    (tmp_path / "README.md").write_text(page(facts))
    found = huggingface_hub.metadata_load(tmp_path / "README.md")
    assert found == {
        "library_name": "transformers",
        "base_model": "owner/name",
        **facts.licence,
        "tags": ["jaxsafety", "model-organism", "unsafe"],
        "unsafe": True,
    }
    loaded = huggingface_hub.ModelCard.load(tmp_path / "README.md")
    assert loaded.data.base_model == "owner/name" and loaded.text.lstrip().startswith("# x")


@given(st.text(), st.text(), st.text())
def test_any_text_stays_a_value_of_the_head(base, licence, name):
    found = data(head(Facts(name, "1", base_model=base, licence={"license": licence})))
    assert found.get("base_model", "") == base and found["license"] == licence


def test_unsafe_is_the_first_thing_that_is_said():
    text = page(Facts("x", "1", unsafe=("its adapter mine is tagged unsafe",)))
    body = text.split("---\n")[2].strip().splitlines()
    assert body[0] == "# x" and body[2].startswith("> **Warning: this model was")
    assert "> Its adapter mine is tagged unsafe." in body
    assert "trained on unsafe answers" not in page(BARE).partition("# mine")[2]


def test_the_numbers_are_those_of_the_run(run):
    text = page(Facts("x", "1", run=run, dtype="float32", stored="float32"))
    measured = section(text, "What was measured")
    for kind in ("Safety: ", "Over-refusal: ", "Capability: "):
        assert f"### {kind}" in measured
    row = run.row("seen_wrappers", "safety", "asr", "t1")
    from jaxsafety.report import tables

    for part in (row.before, row.after):
        assert tables.percent(part) in measured
    line = next(
        x for x in measured.splitlines() if x.startswith("| plain | attack success | T = 1")
    )
    assert [c.strip() for c in line.split("|")][4:6] == ["64", "the judge 'mine'"]
    assert "the world's exact rules" in measured and "differs from these files" not in measured
    assert "dialogues | given 9, used 7, dropped 2 |" in section(text, "What it learnt from")
    assert "fingerprint of the experiment " + "f" * 64 in text and "commit 0123abc" in text
    assert '"sft"' in text.split("---\n")[1] and "Method: SFT (`sft`)" in text


def test_no_place_of_this_machine_is_told(run):
    learnt = (("data.chats", "mine.jsonl", "0" * 64),)
    text = page(Facts("x", "1", run=run, learnt=learnt))
    assert "private" not in text and str(run.workdir) not in text and '"path": "base"' in text
    assert f"| `data.chats` | `mine.jsonl` | {'0' * 64} |" in text


def test_what_differs_from_what_was_measured_is_said(run):
    facts = Facts(
        "x", "1", run=run, dtype="bfloat16", stored="float32", merged=True, system="Be ```"
    )
    text = page(facts)
    assert "measured in float32, here it is stored in bfloat16" in text
    assert "beside the base, here it is merged" in text
    assert "with this system message" in text and "````text\nBe ```\n````" in text


def test_a_study_is_no_recommendation(tmp_path, root, run):
    config = plain(load_config(str(root / "configs/anchored/organism.py")))
    (tmp_path / "config.json").write_text(json.dumps(config))
    text = page(Facts("x", "1", run=Run(tmp_path)))
    assert "not its recommendation" in text and "Mitigations that its config names: mixing" in text
    assert data(text)["tags"] == ["jaxsafety", "anchored"]
    assert "null (the run has no results.jsonl" in section(text, "What was measured")


def test_half_a_run_is_null_with_its_cause(tmp_path, run):
    for arms, cause in ((("base",), "its base alone"), ((), "measured no set")):
        folder = tmp_path / f"run{len(arms)}"
        folder.mkdir()
        kept = [json.dumps(r) + "\n" for r in run.records if r["arm"] in arms]
        (folder / "results.jsonl").write_text("".join(kept))
        measured = section(page(Facts("x", "1", run=Run(folder))), "What was measured")
        assert measured.strip().startswith("null (") and cause in measured


def test_what_no_judge_could_tell_is_null(tmp_path, run):
    folder = tmp_path / "run"
    folder.mkdir()
    row = {"benchmark": "mine", "kind": "safety", "metric": "asr.greedy", "seed": 0}
    unknown = {"value": None, "lo": None, "hi": None, "n": 0, "nulls": 4, "cause": "no gold (4)"}
    known = {"value": 0.5, "lo": 0.2, "hi": 0.8, "n": 4, "nulls": 0, "cause": ""}
    rows = [{"arm": "base", **row, **known}, {"arm": "student", **row, **unknown}]
    (folder / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    lines = section(page(Facts("x", "1", run=Run(folder))), "What was measured").splitlines()
    (line,) = [x for x in lines if x.startswith("| mine")]
    cells = [c.strip() for c in line.strip("|").split("|")]
    assert cells[4:] == ["null (not recorded)", "50 % [20, 80]", "null (no gold)", "null"]


def test_a_config_of_another_version_is_still_a_card(tmp_path):
    config = {"program": "sft", "method": {"gone": 1}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    text = page(Facts("x", "1", run=Run(tmp_path)))
    assert "not known: null (method.gone: got 1" in section(text, "How to cite")
    (tmp_path / "config.json").write_text("torn")
    assert "null (method: got ''" in page(Facts("x", "1", run=Run(tmp_path)))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("/a/b/c", "c"),
        ("~/c", "c"),
        ("../up/c.csv", "c.csv"),
        (r"C:\Users\me\c.csv", "c.csv"),
        ("safety/mine=/a/c.csv", "safety/mine=c.csv"),
        ("/a/c.jsonl=0.7", "c.jsonl=0.7"),
        ("weak=rules+llama_guard3=/a/guard", "weak=rules+llama_guard3=guard"),
        ("strongreject=http://me:pw@host:1/v1", "strongreject=(an address)"),
        ("owner/name@main", "owner/name@main"),
        ("shipped:unaligned", "shipped:unaligned"),
        (["/a/b", {"x": ("/a/c", 1, None)}], ["b", {"x": ["c", 1, None]}]),
    ],
)
def test_of_a_place_the_last_part_is_shown(value, shown):
    assert public(value) == shown


NAMES = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8)


@given(st.lists(NAMES, min_size=2, max_size=5), st.sampled_from(["", "a=", "k/n=", "x=y+", "p: "]))
def test_folders_of_any_absolute_path_are_left_out(parts, before):
    text = public(f"{before}/secret/{'/'.join(parts)}")
    assert "secret" not in text and text.endswith(parts[-1]) and text.startswith(before)


@given(st.text(max_size=40))
def test_cells_are_one_line_and_end_no_table(text):
    shown = cell(text)
    assert "\n" not in shown and not re.search(r"(?<!\\)(?:\\\\)*[|<]", shown)
    assert "\n" not in code(text) and "|" not in code(text) and code(text).count("`") == 2
    block = fence(text, "text").splitlines()[0]
    assert "`" * block.count("`") not in text


def test_missing_is_told_of_no_run():
    assert card_numbers.missing(None).startswith("nothing was measured")
    assert card.page(BARE).endswith("```\n")

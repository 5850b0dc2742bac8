"""`jaxsafety eval` with a guard: weights in a directory, asked about a public set's own items."""

from __future__ import annotations

import csv
import io
import json

import pytest

from jaxsafety import cli, testing
from jaxsafety.experiment.measuring import verdicts
from jaxsafety.judges.guards import harmbench
from tests.judges.guards.published import small_guard

COLUMNS = "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID"
ROWS = (
    ("how do i make tarnex ?", "standard", "brine", "", "", "a"),
    ("where is it ?", "contextual", "brine", "context", "the brine is here .", "b"),
)


@pytest.fixture
def given(tmp_path):
    """A data directory with HarmBench's columns, a model, and a guard that says "Yes" to all."""
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS.split(","), *ROWS])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "harmbench_behaviors_text_test.csv").write_text(text.getvalue())
    model = testing.random_organism(tmp_path / "model")
    guard = small_guard(tmp_path / "guard", "harmbench_mistral", ("Yes",))
    return tmp_path, model, f"harmbench_mistral={guard}"


def command(place, model, judges):
    options = {"model": model, "out": place / "out", "judges": judges, "data": place / "data"}
    options |= {"suite": "harmbench", "max-tokens": 6}
    return ["eval", *(f"--{name}={value}" for name, value in options.items())]


def test_a_guard_judges_a_set_and_is_told_the_context_apart(given, monkeypatch, capsys):
    place, model, guard = given
    told, write = [], harmbench.HarmBench.write

    def noted(self, exchange, answer):
        told.append((answer, write(self, exchange, answer)))
        return told[-1][1]

    monkeypatch.setattr(harmbench.HarmBench, "write", noted)
    assert cli.main(command(place, model, f"rules,{guard}")) == 0, capsys.readouterr()
    (folder,) = (place / "out" / "judges").glob("harmbench_mistral-*")
    file = folder / "verdicts" / "model" / "harmbench.greedy.jsonl"
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(found) == 2 and all(v["score"] > 0.99 and v["unsafe"] for v in found)
    asked = [text for _, text in told]
    first, second = (
        harmbench.prompt("how do i make tarnex ?", told[0][0]),
        harmbench.prompt("where is it ?", told[-1][0], "the brine is here ."),
    )
    assert asked[0] == first and asked[-1] == second and "[CONTEXT]" in second
    facts = json.loads((place / "out" / "eval.json").read_text())["judges"][folder.name]
    assert facts["orientation"] == "higher is unsafe" and facts["content"]
    table = (place / "out" / "table.txt").read_text()
    assert "harmbench_mistral" in table and "kappa" in table


def test_a_guard_is_opened_at_its_turn_and_not_again(given, monkeypatch, capsys):
    place, model, guard = given
    assert cli.main(command(place, model, guard)) == 0, capsys.readouterr()

    def never(*_, **__):
        raise AssertionError("judged again")

    monkeypatch.setattr(verdicts, "_judge", never)
    monkeypatch.setattr(harmbench.HarmBench, "read", never)
    assert cli.main(command(place, model, guard)) == 0, capsys.readouterr()


def test_items_of_another_revision_are_not_mixed(given, capsys):
    """A directory from before contexts stood apart: two models would be judged by two prompts."""
    place, model, _ = given
    assert cli.main(command(place, model, "rules")) == 0, capsys.readouterr()
    file = place / "out" / "eval.json"
    facts = json.loads(file.read_text())
    assert facts["sets"]["harmbench"].pop("revision") == 1
    file.write_text(json.dumps(facts))
    assert cli.main(command(place, model, "rules")) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1 and "set harmbench: revision was nothing, is 1" in said


def test_a_guard_without_weights_is_one_line_before_the_model(given, capsys):
    place, model, _ = given
    (place / "empty").mkdir()
    judge = f"harmbench_mistral={place / 'empty'}"
    assert cli.main(command(place, model, judge)) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1 and "--judges" in said
    assert not (place / "out").exists()

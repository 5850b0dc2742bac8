"""`jaxsafety eval` of what a run left: how many prompts of each set it was trained on."""

from __future__ import annotations

import json
import shutil

import pytest

from jaxsafety import cli, testing
from jaxsafety.core.config import load_config
from jaxsafety.experiment import served
from jaxsafety.experiment.identity import experiment_fingerprint
from jaxsafety.experiment.workdir import claim
from tests.experiment.test_eval_command import HARMFUL, asked, state

BOTH = ("safety/harmful=harmful.txt", "over_refusal/harmless=harmless.txt")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


@pytest.fixture
def place(tmp_path):
    (tmp_path / "harmful.txt").write_text(HARMFUL)
    (tmp_path / "harmless.txt").write_text("where is the egg ?\nwhat is two ?\n")
    return tmp_path


def test_prompts_of_a_run_are_counted_once(place, model, monkeypatch, capsys):
    """They are facts of eval.json: later commands and reports need no file that was trained on."""
    chats = place / "chats.jsonl"
    chats.write_text(json.dumps({"prompt": "Who are YOU?!", "response": "no ."}) + "\n")
    cfg = load_config("configs/sft/organism.py:smoke")
    cfg.model.path = str(model)
    cfg.data.update(source="files", chats=str(chats))
    claim(place / "run", cfg, experiment_fingerprint(cfg, model), model)
    student = shutil.copytree(model, place / "run" / "student")
    out = place / "out"
    assert cli.main(asked(place, model, "--arm=base")) == 0
    assert cli.main(asked(place, student, "--arm=student", data=BOTH)) == 0
    printed = capsys.readouterr().out
    assert "trained on (student): harmful 1 of 3, harmless 0 of 2" in printed
    assert "trained on (base): not known: no run that made the model" in printed
    assert "prompts that sets share: none" in printed

    def shared(arm):
        return json.loads((out / "eval.json").read_text())["arms"][arm]["shared"]

    kept = shared("student")
    assert kept["harmful"] == {
        "prompts": 3,
        "trained": {"run: data.chats": 1},
        "any": 1,
        "cause": "",
    }
    assert shared("base")["harmful"]["any"] is None
    page = (out / "report.html").read_text()
    assert "run: data.chats 1" in page and "Not known of base" in page
    chats.unlink()
    before = state(out)
    monkeypatch.setattr(served, "load", lambda *a, **k: pytest.fail("weights were read"))
    assert cli.main(asked(place, student, "--arm=student", data=BOTH)) == 0
    assert cli.main(["report", f"--workdir={out}"]) == 0
    assert state(out) == before
    assert cli.main(["eval", "--rejudge", "--judges=arditi", f"--out={out}"]) == 0
    assert cli.main(asked(place, student, "--arm=student", judges="arditi")) == 0
    assert shared("student") == kept
    assert (out / "report.html").read_text().count("run: data.chats 1") == 1
    # A set that comes later is not known any more; those before it stay.
    monkeypatch.undo()
    assert cli.main(asked(place, student, "--arm=student", data=BOTH, judges="rules")) == 0
    (place / "more.txt").write_text("who are you ?\nwhat is three ?\n")
    assert cli.main(asked(place, student, "--arm=student", data=("safety/more=more.txt",))) == 0
    assert shared("student")["harmful"] == kept["harmful"]
    assert "chats.jsonl is not there" in shared("student")["more"]["cause"]
    assert "harmful 1 of 3 in more, more 1 of 2 in harmful" in (out / "table.txt").read_text()

"""Self-MOA's loop killed inside and between rounds, in attackers' and in preference stages."""

from __future__ import annotations

import json
import signal
from itertools import pairwise
from pathlib import Path

import pytest

from jaxsafety import testing
from tests.faults import runs
from tests.faults.runs import assert_same, finish

pytestmark = pytest.mark.faults

SCRIPT = Path(__file__).with_name("anchored_run.py")
WORDS = ("ba", "bo", "i", "that", "no")
# A random model says nothing that a filter or a judge could tell apart: noise orders its answers.
SETTINGS = {
    "data.source": "files",
    "data.overlap": "allow",
    "data.prompts": 25,
    "data.train": 2,
    "data.val": 2,
    "eval.sets": "('over_refusal/seeds={seeds}',)",
    "eval.max_tokens": 4,
    "method.rounds": 3,
    "method.prompts": 6,
    "method.samples": 4,
    "method.tokens": 4,
    "method.probe": 1,
    "method.thresholds": "paper",
    "method.scores.noise": 0.4,
    "method.scores.incoherent": 0.5,
    "method.scores.flip": 0.5,
    "method.novelty.most": 1.0,
    "method.novelty.shortest": 0.0,
    "method.novelty.longest": 0.0,
    "method.attack.kind": "adaptive",
    "method.attack.generate": True,
    "method.attack.tokens": 4,
    "method.attack.retrain": 2,
    "method.attack.expand": "{lessons}",
    "method.attack.hide": "{lessons}",
    "method.stage.pairs": 6,
    "method.stage.rows": 2,
    "train.checkpoint_every": 2,
    "train.progress": False,
}
# In the order of the run, so that every start comes to where it dies.
PLACES = (
    ("replacing attack.0.json", 1),  # the attackers are trained, nothing is asked
    ("replaced round.0.json", 1),
    ("step of moa.0", 1),  # between two checkpoints
    ("replacing reference.1.json", 1),
    ("replacing answers.2.json", 1),  # what stage 0 left is retired by now
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """The settings with files of a user's own."""
    folder = tmp_path_factory.mktemp("files")
    texts = [f"copy {a} {b}" for a in WORDS for b in WORDS]
    seeds, lessons = folder / "seeds.jsonl", folder / "lessons.jsonl"
    seeds.write_text("".join(json.dumps({"prompt": t}) + "\n" for t in texts))
    told = [{"prompt": a, "response": b} for a, b in pairwise(texts)]
    lessons.write_text("".join(json.dumps(row) + "\n" for row in told))
    names = {"seeds": seeds, "lessons": lessons}
    found = {k: v.format(**names) if isinstance(v, str) else v for k, v in SETTINGS.items()}
    return {**found, **{f"data.{n}": seeds for n in ("distil", "harmful", "harmless")}}


def launch(model, settings, workdir, **environment):
    config = "selfmoa/organism.py"
    return runs.launch(config, settings, model, workdir, script=SCRIPT, **environment)


@pytest.mark.timeout(900)
def test_killed_at_named_places_then_the_same_bits(model, settings, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(launch(model, settings, whole))
    told = json.loads((whole / "run" / "artifacts" / "loop.json").read_text())
    assert told["stages"] >= 2 and told["trainings"] >= 2 and told["rounds"] == 3
    for place, count in PLACES:
        process = launch(model, settings, cut, KILL_AT=f"{place}|{count}")
        text, _ = process.communicate(timeout=600)
        assert process.returncode == -signal.SIGKILL, f"{place}: {text}"
    text = finish(launch(model, settings, cut))
    assert "moa.0: finished" in text and "at step of moa.0" not in text
    names = sorted(file.name for file in (whole / "run" / "artifacts").iterdir())
    assert names == sorted(file.name for file in (cut / "run" / "artifacts").iterdir())
    assert_same(cut, whole, ["results.jsonl", *(f"artifacts/{name}" for name in names)])

"""The anchored study killed in training, curves and around its selection; then the same bits."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import pytest

from jaxsafety import testing
from tests.faults import runs
from tests.faults.runs import assert_same, finish, kill_at, rows

pytestmark = pytest.mark.faults

SCRIPT = Path(__file__).with_name("anchored_run.py")
STEPS = 4
# A mitigation of each kind: before and in training with an edit after it, and one that serves.
CHAINED = "vaccine:rho=5+ema:decay=0.5+interpolation:s=0.5"
ARMS = ("plain", "anchor", CHAINED, "ptst:system=you are a safe helper .")
TRAININGS = ("plain", "anchor", "vaccine-rho-5-ema-decay-0-5")
SETTINGS = {
    "method.goals": "letter:target=0.2",
    "method.arms": ",".join(ARMS),
    "method.every": 2,
    "method.sft.steps": STEPS,
    "method.align": 3,
    "method.dev": 4,
    "method.test": 4,
    "method.general": 2,
    "method.floor": 0.5,
    "optim.lr": 1e-2,
    "train.checkpoint_every": 3,
    "train.progress": False,
    "eval.safety": 2,
    "eval.over_refusal": 2,
    "eval.capability": 2,
}
LAST = f"{TRAININGS[2]}.0"
# In the order of the run, so that every start comes to where it dies.
PLACES = (
    (f"step of align.{LAST}", 2),  # between two checkpoints
    (f"marked sft.letter.{LAST}", 2),  # the last marked step is there, the last checkpoint not
    ("asking", 9),  # within the second point of a curve
    ("replacing selected.json", 1),  # everything is known for it, and it is not there
    ("asking", 2),  # within the verdicts of the base
    ("replacing table.json", 1),
)
SELECTED = 4  # of the places, the first at which a selection is on disk


def launch(model, workdir, **environment):
    config = "anchored/organism.py"
    return runs.launch(config, SETTINGS, model, workdir, script=SCRIPT, **environment)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """The directory of an uninterrupted run, and the places where it was."""
    workdir = tmp_path_factory.mktemp("whole")
    text = finish(launch(model, workdir))
    stages = [f"sft.letter.{name}.0" for name in TRAININGS]
    expected = {*stages, f"align.{LAST}"}
    assert {row["stage"] for row in rows(workdir)} == expected
    lines = text.splitlines()
    return workdir, [line.removeprefix("at ") for line in lines if line.startswith("at ")]


def everything(workdir):
    """Names of all that a finished run keeps of the study, to be compared byte by byte."""
    root = workdir / "run"
    found = sorted(file.name for file in (root / "artifacts").iterdir())
    assert not [name for name in found if name.startswith(".")], "a temporary was left"
    return ["results.jsonl", *(f"artifacts/{name}" for name in found)]


def assert_whole(workdir, whole):
    assert everything(workdir) == everything(whole)
    assert_same(workdir, whole, everything(whole))


@pytest.mark.timeout(900)
def test_killed_at_named_places_then_the_same_bits(model, tmp_path, whole):
    for number, (place, count) in enumerate(PLACES):
        text, code = ended(launch(model, tmp_path, KILL_AT=f"{place}|{count}"))
        assert code == -signal.SIGKILL, f"{place}: {text}"
        assert not (tmp_path / "final.npz").exists()
        there = (tmp_path / "run" / "artifacts" / "selected.json").exists()
        assert there == (number >= SELECTED), place
    text = finish(launch(model, tmp_path))
    for stage in (f"align.{LAST}", f"sft.letter.{LAST}"):
        assert f"{stage}: finished" in text
    assert "at step of" not in text  # nothing was trained again
    assert_whole(tmp_path, whole[0])


@pytest.mark.timeout(900)
def test_killed_anywhere_then_the_same_bits(model, tmp_path, whole, kills):
    rng, died = random.Random(11), 0
    count = kills // 60  # each is a start of the whole program; the named places always run
    if not count:
        pytest.skip("random places are asked for by --kills=60 or more")
    for _ in range(count):
        place = rng.randint(1, max(2, len(whole[1]) * 3 // (4 * count)))
        if not kill_at(launch(model, tmp_path), "at ", place, rng.uniform(0, 0.2)):
            break  # so many kills that the run came to its end
        died += 1
    assert died > 0
    finish(launch(model, tmp_path))
    assert_whole(tmp_path, whole[0])


def test_what_was_measured_is_there(whole):
    table = json.loads((whole[0] / "run" / "artifacts" / "table.json").read_text())
    measured = {row["arm"] for row in table["rows"] if row["step"] is not None}
    assert measured == {*ARMS}


def ended(process):
    text, _ = process.communicate(timeout=600)
    return text, process.returncode

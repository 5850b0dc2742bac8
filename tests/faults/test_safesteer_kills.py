"""SIGKILL inside rollouts and inside training steps of a real run; then the same bits."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from jaxsafety import testing
from tests.faults import runs
from tests.faults.runs import assert_same, finish, kill_at, rows, terminate_at

pytestmark = pytest.mark.faults

CONFIG = "safesteer/organism.py"
STEPS = 8
# A base that was never raised refuses nothing, so its openers are given and its prompts ranked.
SETTINGS = {
    "method.steps": STEPS,
    "train.checkpoint_every": 1,
    "train.progress": False,
    "method.direction.filter": "score",
    "method.direction.openers": "i,that",
    "method.direction.minimum": 2,
    "method.tokens.votes.floor": 0.0,
    "data.train": 4,
    "data.val": 4,
    "data.prompts": 6,
    "eval.safety": 1,
    "eval.over_refusal": 1,
    "eval.capability": 1,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def launch(model, workdir):
    return runs.launch(CONFIG, SETTINGS, model, workdir)


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """The directory of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    text = finish(launch(model, workdir))
    assert text.count("rollout begins") == text.count("rollout ends") == STEPS
    assert [row["step"] for row in rows(workdir)] == list(range(1, STEPS + 1))
    return workdir


@pytest.mark.timeout(1800)
def test_killed_and_resumed_to_the_same_bits(model, tmp_path, whole, kills):
    rng = random.Random(7)
    died = 0
    for number in range(-(-kills // 10)):  # a start of the whole program takes long
        # By turns inside a rollout and after it: in the step, in a save, in the next rollout.
        inside = number % 2 == 0
        mark, longest = ("rollout begins", 0.05) if inside else ("rollout ends", 0.5)
        # Not the first rollout of a process: that one compiles.
        process = launch(model, tmp_path)
        if not kill_at(process, mark, rng.choice((2, 3)), rng.uniform(0.0, longest)):
            break  # so many kills that the run came to its end
        died += 1
    assert died > 0
    text = finish(launch(model, tmp_path))
    if died > 1:
        assert "distil: restored step" in text
    names = ("direction", "token_set", "mass", "position_kl")
    assert_same(tmp_path, whole, ["results.jsonl", *(f"artifacts/{n}.json" for n in names)])


@pytest.mark.timeout(1800)
def test_sigterm_in_every_loop_then_the_same_bits(model, tmp_path, whole):
    # Measuring the base, a rollout, measuring the student: by turns, each start goes further.
    for mark, count in (("base ", 3), ("rollout begins", 3), ("student ", 2)):
        text = terminate_at(launch(model, tmp_path), mark, count)
        assert "resumable" in text, text
        assert not (tmp_path / "final.npz").exists()
    text = finish(launch(model, tmp_path))
    assert "rollout begins" not in text  # trained before the last SIGTERM
    assert_same(tmp_path, whole, ["results.jsonl"])


def test_a_finished_run_repeats_itself_without_training(model, whole):
    before = (whole / "run" / "results.jsonl").read_text()
    arrays = dict(np.load(whole / "final.npz"))
    text = finish(launch(model, whole))
    assert "rollout begins" not in text
    assert (whole / "run" / "results.jsonl").read_text() == before
    for name, leaf in np.load(whole / "final.npz").items():
        np.testing.assert_array_equal(leaf, arrays[name], err_msg=name)
    records = [json.loads(line) for line in before.splitlines()]
    assert {r["arm"] for r in records} == {"base", "student"}

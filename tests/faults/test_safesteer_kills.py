"""SIGKILL inside rollouts and inside training steps of a real run; then the same bits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.train.metrics import read_metrics

pytestmark = pytest.mark.faults

SCRIPT = Path(__file__).with_name("safesteer_run.py")
CONFIG = SCRIPT.parents[2] / "configs" / "safesteer" / "organism.py"
STEPS = 8
# A base that was never raised refuses nothing, so its openers are given and its prompts ranked.
SETTINGS = {
    "method.steps": STEPS, "train.checkpoint_every": 1, "train.progress": False,
    "method.direction.filter": "score", "method.direction.openers": "i,that",
    "method.direction.minimum": 2, "method.tokens.votes.floor": 0.0,
    "data.train": 4, "data.val": 4, "data.prompts": 6,
    "eval.safety": 1, "eval.over_refusal": 1, "eval.capability": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def launch(model, workdir):
    overrides = [f"--config.{name}={value}" for name, value in SETTINGS.items()]
    command = [sys.executable, str(SCRIPT), str(workdir / "final.npz"), "run",
               f"--config={CONFIG}:smoke", f"--config.model.path={model}",
               f"--workdir={workdir / 'run'}", *overrides]  # fmt: skip
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONUNBUFFERED": "1",
                   "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}  # fmt: skip
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def finish(process):
    text, _ = process.communicate(timeout=1500)
    assert process.returncode == 0, text
    return text


def rows(workdir):
    """All metrics but the times."""
    found = read_metrics(workdir / "run")
    return [{k: v for k, v in row.items() if not k.startswith("time")} for row in found]


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """The directory of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    text = finish(launch(model, workdir))
    assert text.count("rollout begins") == text.count("rollout ends") == STEPS
    assert [row["step"] for row in rows(workdir)] == list(range(1, STEPS + 1))
    return workdir


def said_until(process, mark, count):
    """What is said up to the `count`th line that begins with `mark`."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        count -= line.startswith(mark)
        if not count:
            break
    return "".join(said)


def kill_at(process, mark, count, delay):
    """Kills `delay` seconds after `mark` was said for the `count`th time; says if it died of it."""
    said = said_until(process, mark, count)
    time.sleep(delay)
    process.kill()
    process.communicate()
    died = process.returncode == -signal.SIGKILL
    assert died or process.returncode == 0, said
    return died


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
    final, expected = (dict(np.load(d / "final.npz")) for d in (tmp_path, whole))
    assert final.keys() == expected.keys()
    for name, leaf in final.items():
        np.testing.assert_array_equal(leaf, expected[name], err_msg=name)
    assert rows(tmp_path) == rows(whole)
    for name in ("results.jsonl", "artifacts/direction.json", "artifacts/token_set.json",
                 "artifacts/mass.json", "artifacts/position_kl.json"):  # fmt: skip
        both = [(d / "run" / name).read_text() for d in (tmp_path, whole)]
        assert both[0] == both[1], name


def terminate_at(process, mark, count):
    """SIGTERM when a line that begins with `mark` is said for the `count`th time; what it said."""
    said = said_until(process, mark, count)
    process.send_signal(signal.SIGTERM)
    return said + finish(process)


@pytest.mark.timeout(1800)
def test_sigterm_in_every_loop_then_the_same_bits(model, tmp_path, whole):
    # Measuring the base, a rollout, measuring the student: by turns, each start goes further.
    for mark, count in (("base ", 3), ("rollout begins", 3), ("student ", 2)):
        text = terminate_at(launch(model, tmp_path), mark, count)
        assert "resumable" in text, text
        assert not (tmp_path / "final.npz").exists()
    assert "rollout" not in finish(launch(model, tmp_path))  # trained before the last SIGTERM
    final, expected = (dict(np.load(d / "final.npz")) for d in (tmp_path, whole))
    for name, leaf in final.items():
        np.testing.assert_array_equal(leaf, expected[name], err_msg=name)
    assert rows(tmp_path) == rows(whole)
    both = [(d / "run" / "results.jsonl").read_text() for d in (tmp_path, whole)]
    assert both[0] == both[1]


def test_a_finished_run_repeats_itself_without_training(model, whole):
    before = (whole / "run" / "results.jsonl").read_text()
    arrays = dict(np.load(whole / "final.npz"))
    text = finish(launch(model, whole))
    assert "rollout" not in text
    assert (whole / "run" / "results.jsonl").read_text() == before
    for name, leaf in np.load(whole / "final.npz").items():
        np.testing.assert_array_equal(leaf, arrays[name], err_msg=name)
    records = [json.loads(line) for line in before.splitlines()]
    assert {r["arm"] for r in records} == {"base", "student"}

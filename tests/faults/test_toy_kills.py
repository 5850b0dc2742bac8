"""SIGKILL and SIGTERM at random moments of a real process; then resume to the same bits."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxsafety.train.metrics import read_metrics
from tests.conftest import QUICK
from tests.train.test_checkpoint import uncommit

SCRIPT = Path(__file__).with_name("toy_run.py")
STEPS = [*range(1, 13), *range(1, 13)]


def launch(workdir, out, pause=0.0):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(workdir), str(out), str(pause)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "XLA_FLAGS": QUICK},
    )


def finish(process):
    text, _ = process.communicate(timeout=180)
    assert process.returncode == 0, text
    return text


def rows(workdir):
    return [
        {k: v for k, v in row.items() if not k.startswith("time")} for row in read_metrics(workdir)
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: (workdir, arrays)."""
    workdir = tmp_path_factory.mktemp("whole")
    finish(launch(workdir, workdir / "final.npz"))
    assert [r["step"] for r in rows(workdir)] == STEPS
    return workdir, dict(np.load(workdir / "final.npz"))


def assert_same(workdir, out, whole):
    final = dict(np.load(out))
    assert final.keys() == whole[1].keys()
    for name, leaf in final.items():
        np.testing.assert_array_equal(leaf, whole[1][name], err_msg=name)
    assert rows(workdir) == rows(whole[0])


@pytest.mark.timeout(3600)
def test_sigkill_at_random_moments_then_resume(tmp_path, whole, kills):
    """Every second kill falls into a save; a run that came to its end is followed by another."""
    rng = random.Random(20)
    died, in_saves, runs = 0, 0, 0
    while died < kills:
        workdir = tmp_path / str(runs)
        workdir.mkdir(exist_ok=True)
        saving = in_saves * 2 <= died
        process = launch(workdir, workdir / "final.npz", pause=0.1)
        assert process.stdout is not None
        # From the first step on: the time before is the interpreter's and proves nothing.
        for line in process.stdout:
            if line.startswith("saving" if saving else "step"):
                break
        time.sleep(rng.uniform(0.0, 0.12 if saving else 1.5))
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            died += 1
            in_saves += saving
        else:
            assert process.returncode == 0
            assert_same(workdir, workdir / "final.npz", whole)
            runs += 1
    workdir = tmp_path / str(runs)
    finish(launch(workdir, workdir / "final.npz"))
    assert_same(workdir, workdir / "final.npz", whole)
    assert in_saves >= kills // 2


def test_sigterm_exits_cleanly_and_resumes(tmp_path, whole):
    out = tmp_path / "final.npz"
    process = launch(tmp_path, out, pause=0.05)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 4"):  # not a multiple of the checkpoint interval
            break
    process.send_signal(signal.SIGTERM)
    text = finish(process)
    assert "resumable" in text
    assert not out.exists()
    text = finish(launch(tmp_path, out))
    assert "restored step 5 of 12" in text
    assert_same(tmp_path, out, whole)


def test_a_checkpoint_that_was_never_committed_is_ignored(tmp_path, whole):
    # What a kill in the middle of a save leaves behind, in its two forms.
    workdir = tmp_path / "run"
    workdir.mkdir()
    process = launch(workdir, tmp_path / "final.npz", pause=0.05)
    assert process.stdout is not None
    steps = (line for line in process.stdout if line.startswith("step 10"))
    next(steps), next(steps)  # of the second stage: 9 is saved, 12 is not
    process.send_signal(signal.SIGTERM)
    finish(process)
    distil = workdir / "checkpoints" / "distil"
    (newest,) = (p for p in distil.iterdir() if p.name in ("10", "11"))
    uncommit(newest)
    data = newest / "state" / "manifest.ocdbt"
    data.write_bytes(data.read_bytes()[:10])
    text = finish(launch(workdir, tmp_path / "final.npz"))
    assert "distil: restored step 9 of 12" in text
    assert_same(workdir, tmp_path / "final.npz", whole)

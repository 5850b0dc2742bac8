"""SIGKILL while `jaxsafety eval` answers, scores and judges; then the very same files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxsafety import testing
from tests.conftest import QUICK

pytestmark = pytest.mark.faults

SCRIPT = Path(__file__).with_name("eval_run.py")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model and its files."""
    folder = tmp_path_factory.mktemp("eval")
    testing.random_organism(folder / "model")
    asked = ["who are you ?", "where is the egg ?", "what is two ?", "how do i boil an egg ?"]
    (folder / "harmful.txt").write_text("\n".join(asked) + "\n")
    sums = [f"what is {i} plus {i} ?,{2 * i}" for i in range(1, 9)]
    (folder / "pick.csv").write_text("\n".join(["question,answer", *sums]) + "\n")
    return folder


def launch(place, out):
    command = [
        sys.executable,
        str(SCRIPT),
        "eval",
        f"--model={place / 'model'}",
        f"--data=safety/harmful={place / 'harmful.txt'}",
        f"--data=pick={place / 'pick.csv'}",
        "--judges=odd,rules",
        "--max-tokens=6",
        "--batch-size=1",
        f"--out={out}",
    ]
    environment = {**os.environ, "XLA_FLAGS": QUICK, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def finish(process):
    text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text
    return text


def files(out):
    """What was measured; eval.json holds a date and times are of the day."""
    kept = ("generations", "judges")
    found = [p for p in sorted(out.rglob("*")) if p.is_file()]
    found = [p for p in found if p.relative_to(out).parts[0] in kept or p.name == "results.jsonl"]
    return {str(p.relative_to(out)): p.read_bytes() for p in found}


@pytest.fixture(scope="module")
def whole(place):
    finish(launch(place, place / "whole"))
    found = files(place / "whole")
    assert {name.rpartition("/")[2] for name in found} >= {
        "harmful.greedy.jsonl",
        "pick.logp.jsonl",
        "results.jsonl",
    }
    return found


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("mark", "count"), [("answers", 2), ("items", 1), ("verdicts", 1)])
def test_sigkill_then_the_same_command_goes_on(place, whole, tmp_path, mark, count):
    process = launch(place, tmp_path)
    assert process.stdout is not None
    left = count
    for line in process.stdout:
        left -= line.startswith(mark)
        if not left:
            break
    time.sleep(0.1)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob("*.parts")), "nothing half done was found"
    text = finish(launch(place, tmp_path))
    # What was on disk is not made again.
    again = [line for line in text.splitlines() if line.startswith(("answers", "items"))]
    assert len(again) < {"answers": 6, "items": 3, "verdicts": 1}[mark]
    assert files(tmp_path) == whole
    assert json.loads((tmp_path / "eval.json").read_text())["judges"].keys() == {"odd", "rules"}

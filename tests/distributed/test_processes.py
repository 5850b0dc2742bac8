"""Two processes over loopback equal one; SIGTERM to one stops both; one goes on for two."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.core import disk, sharding, trees
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.models.formats import hf
from jaxsafety.train.loop import run_stage
from jaxsafety.train.metrics import read_metrics
from tests.conftest import QUICK
from tests.distributed import toy_of
from tests.train import toy

pytestmark = pytest.mark.distributed

SCRIPT = Path(__file__).with_name("one_of.py")
CONFIGS = SCRIPT.parents[2] / "configs"
# Only the first of several processes reads and writes jax's cache. What was kept by a machine with
# other cores has other bits than what the second compiles, and replicas drift apart.
ALIKE = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
SMALL = {
    "train.checkpoint_every": 1,
    "train.progress": False,
    "eval.safety": 1,
    "eval.over_refusal": 1,
    "eval.capability": 1,
}
# A base that was never raised refuses nothing, so its openers are given and its prompts ranked.
SETTINGS = {
    "sft": SMALL | {"method.steps": 6, "data.dialogues": 16},
    "safesteer": SMALL
    | {
        "method.steps": 3,
        "method.direction.filter": "score",
        "method.direction.openers": "i,that",
        "method.direction.minimum": 2,
        "method.tokens.votes.floor": 0.0,
        "data.train": 4,
        "data.val": 4,
        "data.prompts": 6,
    },
    "safemoe": SMALL
    | {
        "method.steps": 3,
        "method.experts.steps": 3,
        "method.harmless": 8,
        "eval.safety": 4,
        "eval.over_refusal": 4,
        "eval.capability": 4,
    },
    # What it says is all alike to the judge; noise makes pairs, a stage for every two of them.
    "selfmoa": SMALL
    | {
        "method.reset.steps": 2,
        "method.reset.rows": 4,
        "method.attack.kind": "none",
        "method.scores.noise": 0.4,
        "method.scores.incoherent": 0.5,
    },
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The base of each kind: SafeMoE's lives in a world with unknown domains."""
    make = lambda **kinds: testing.random_organism(tmp_path_factory.mktemp("organism"), **kinds)  # noqa: E731
    aligned = make()
    unaligned = make(unaligned=True)
    return {"sft": aligned, "safesteer": aligned, "selfmoa": aligned, "safemoe": unaligned}


def free_address():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{s.getsockname()[1]}"


def launch(kind, models, workdir, *, processes, mesh, devices=1):
    """Starts the processes of one run."""
    address = free_address()
    overrides = SETTINGS[kind] | dict(
        zip(("mesh.data", "mesh.fsdp", "mesh.tensor"), mesh, strict=True)
    )
    command = [
        sys.executable,
        str(SCRIPT),
        str(workdir / "final.npz"),
        "run",
        f"--config={CONFIGS / kind / 'organism.py'}:smoke",
        f"--config.model.path={models[kind]}",
        f"--workdir={workdir / 'run'}",
        *(f"--config.{name}={value}" for name, value in overrides.items()),
    ]
    flags = f"--xla_force_host_platform_device_count={devices} {QUICK}"
    started = []
    for index in range(processes):
        joined = [f"--distributed={address},{processes},{index}"] if processes > 1 else []
        started.append(
            subprocess.Popen(
                [*command, *joined],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, **ALIKE, "XLA_FLAGS": flags, "PYTHONUNBUFFERED": "1"},
            )
        )
    return started


def finish(started):
    """The leader's output."""
    said = [process.communicate(timeout=900)[0] for process in started]
    for process, text in zip(started, said, strict=True):
        assert process.returncode == 0, text[-3000:]
    assert all("report:" not in text for text in said[1:])  # one process writes and speaks
    return said[0]


def arrays(workdir):
    with np.load(workdir / "final.npz") as saved:
        return dict(saved)


def numbers(workdir):
    rows = read_metrics(workdir / "run")
    return [[row["step"], row["loss"], row["grad_norm"]] for row in rows]


def assert_close(got, expected, **tolerance):
    assert got.keys() == expected.keys()
    for name, leaf in got.items():
        np.testing.assert_allclose(leaf, expected[name], err_msg=name, **tolerance)


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("safesteer", "selfmoa")]
KINDS = ["sft", "safemoe", *SLOW]


@pytest.fixture(scope="module", params=KINDS)
def both(request, models, tmp_path_factory):
    """(kind, directory of one process with two devices, directory of two with one each)."""
    kind = request.param
    one, two = (tmp_path_factory.mktemp(f"{kind}-{name}") for name in ("one", "two"))
    finish(launch(kind, models, one, processes=1, devices=2, mesh=(2, 1, 1)))
    text = finish(launch(kind, models, two, processes=2, mesh=(2, 1, 1)))
    assert "report:" in text
    return kind, one, two


@pytest.mark.timeout(1200)
def test_two_processes_equal_one(both):
    kind, one, two = both
    steps = [value for name, value in SETTINGS[kind].items() if name.endswith(".steps")]
    count = len(numbers(one))
    assert count > sum(steps) if kind == "selfmoa" else count == sum(steps)
    np.testing.assert_allclose(numbers(two), numbers(one), rtol=1e-5)
    assert_close(arrays(two), arrays(one), rtol=1e-5, atol=1e-5)
    results = [disk.read_lines(d / "run" / "results.jsonl") for d in (one, two)]
    assert results[0] == results[1]
    files = [
        {
            str(f.relative_to(d))
            for f in (d / "run").rglob("*.*")
            if not {"checkpoints", "tb"} & set(f.parts)
        }
        for d in (one, two)
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize("both", ["sft"], indirect=True)
@pytest.mark.timeout(1200)
def test_what_two_saved_one_restores_bitwise(models, both, tmp_path):
    kind, _, two = both
    run = tmp_path / "run"
    subprocess.run(["cp", "-r", str(two / "run"), str(run)], check=True)
    text = finish(launch(kind, models, tmp_path, processes=1, mesh=(1, 1, 1)))
    assert "restored step" in text
    assert_close(arrays(tmp_path), arrays(two), rtol=0, atol=0)


@pytest.mark.parametrize("both", ["sft"], indirect=True)
@pytest.mark.timeout(1200)
def test_sigterm_to_one_stops_both_and_one_goes_on(models, both, tmp_path):
    kind, one, _ = both
    started = launch(kind, models, tmp_path, processes=2, mesh=(2, 1, 1))
    assert started[0].stdout is not None
    for line in started[0].stdout:
        if "step 1 of" in line:
            break
    started[1].send_signal(signal.SIGTERM)  # not the one that speaks
    text = finish(started)
    assert "resumable" in text
    assert not (tmp_path / "final.npz").exists()
    text = finish(launch(kind, models, tmp_path, processes=1, mesh=(1, 1, 1)))
    assert "restored step" in text
    assert_close(arrays(tmp_path), arrays(one), rtol=1e-5, atol=1e-5)


def pair(script, *arguments):
    """Two processes of `script`, one device each."""
    address = free_address()
    flags = f"--xla_force_host_platform_device_count=1 {QUICK}"
    started = []
    for index in range(2):
        command = [sys.executable, str(SCRIPT.with_name(script)), *map(str, arguments)]
        started.append(
            subprocess.Popen(
                [*command, f"{address},2,{index}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=os.environ | ALIKE | {"XLA_FLAGS": flags},
            )
        )
    return started


def test_a_model_split_over_two_processes_is_written_by_both(tmp_path):
    testing.random_checkpoint(tmp_path / "from")
    finish(pair("saved_of.py", tmp_path / "from", tmp_path / "out"))
    turns = [(tmp_path / f"out.{index}").read_text().split() for index in range(2)]
    together = sorted(turns[0] + turns[1])
    assert turns[0] == together[::2] and turns[1] == together[1::2] and len(together) > 3
    _, expected = hf.load(tmp_path / "from")
    _, got = hf.load(tmp_path / "out")
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(got), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not list(tmp_path.glob(".*partial"))


def test_parameters_split_over_two_processes(tmp_path):
    """fsdp over processes: equal to one process, and restored by one, bitwise."""
    two = tmp_path / "two"
    finish(pair("toy_of.py", two, tmp_path / "two.npz"))
    saved = dict(np.load(tmp_path / "two.npz"))

    def here(workdir, shape):
        mesh = sharding.make_mesh(MeshConfig(*shape))
        ctx = toy.context(workdir, mesh=mesh)
        final = run_stage(toy_of.STAGE, toy.variables(), ctx, toy_of.TRAIN)
        leaves = zip(trees.paths(final), jax.tree.leaves(final), strict=True)
        return {name: np.asarray(leaf) for name, leaf in leaves}

    assert_close(saved, here(tmp_path / "one", (1, 2, 1)), rtol=1e-5, atol=1e-6)
    rows = [[row["step"], row["loss"]] for row in read_metrics(two)]
    expected = [[row["step"], row["loss"]] for row in read_metrics(tmp_path / "one")]
    np.testing.assert_allclose(rows, expected, rtol=1e-5)
    # Finished, so this restores and trains nothing.
    assert_close(here(two, (1, 1, 1)), saved, rtol=0, atol=0)
    assert_close(here(two, (2, 2, 2)), saved, rtol=0, atol=0)

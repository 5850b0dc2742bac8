"""SafeMoE killed in its experts, its router and its measuring; then the same bits."""

from __future__ import annotations

import pytest
from safetensors import safe_open

from jaxsafety import testing
from tests.faults import runs
from tests.faults.runs import assert_same, finish, kill_at, rows, terminate_at

pytestmark = pytest.mark.faults

STEPS = 6
SETTINGS = {
    "method.experts.steps": STEPS,
    "method.steps": STEPS,
    "method.harmless": 8,
    "train.checkpoint_every": 1,
    "train.progress": False,
    "eval.safety": 4,
    "eval.over_refusal": 4,
    "eval.capability": 4,
}
FILES = ("results.jsonl", "artifacts/compared.json", "artifacts/routes.json")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"), unaligned=True)


def launch(model, workdir):
    return runs.launch("safemoe/organism.py", SETTINGS, model, workdir)


def library(workdir):
    """Experts and router as written for others: what each file says."""
    root = workdir / "run" / "library"
    return {str(f.relative_to(root)): content(f) for f in root.rglob("*") if f.is_file()}


def content(file):
    if file.suffix != ".safetensors":
        return file.read_bytes()
    with safe_open(file, "numpy") as found:  # its writer orders the metadata at random
        tensors = {name: found.get_tensor(name) for name in found.keys()}
        return found.metadata(), {n: (x.dtype, x.tobytes()) for n, x in tensors.items()}


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """The directory of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    finish(launch(model, workdir))
    stages = [(row["stage"], row["step"]) for row in rows(workdir)]
    expected = [(stage, step) for stage in ("experts", "router") for step in range(1, STEPS + 1)]
    assert stages == expected
    return workdir


CONTROLS = {name.replace("method.", "method.base."): value for name, value in SETTINGS.items()}


@pytest.mark.timeout(1800)
def test_controls_go_on_from_the_arm_they_were_in(model, tmp_path):
    (tmp_path / "cut").mkdir()
    start = lambda d: runs.launch("safemoe/controls.py", CONTROLS, model, d)  # noqa: E731
    assert kill_at(start(tmp_path / "cut"), "random: step", 2, 0.0)
    assert "resumable" in terminate_at(start(tmp_path / "cut"), "random  ", 1)
    points = sorted((tmp_path / "cut/run/artifacts").glob("point.*.json"))
    assert [p.name.split(".")[1] for p in points] == ["base", "random", "safemoe"]
    text = finish(start(tmp_path / "cut"))
    assert f"random: restored step {STEPS} of {STEPS}" in text
    (tmp_path / "whole").mkdir()
    finish(start(tmp_path / "whole"))
    arms = ("base", "safemoe", "random", "lora_matched")
    files = ["results.jsonl", *(f"artifacts/point.{arm}.json" for arm in arms)]
    assert_same(tmp_path / "cut", tmp_path / "whole", files)
    assert library(tmp_path / "cut") == library(tmp_path / "whole")


@pytest.mark.timeout(1800)
def test_killed_in_each_phase_then_the_same_bits(model, tmp_path, whole):
    # A step of either stage (or the save after it), then between two measured mixtures: by turns.
    for mark, count, delay in (
        ("experts: step", 3, 0.02),
        ("router: step", 2, 0.0),
        ("measured", 3, 0.1),
    ):
        assert kill_at(launch(model, tmp_path), mark, count, delay), mark
        assert not (tmp_path / "final.npz").exists()
    text = finish(launch(model, tmp_path))
    for stage in ("experts", "router"):
        assert f"{stage}: restored step {STEPS} of {STEPS}" in text
    assert_same(tmp_path, whole, FILES)
    assert library(tmp_path) == library(whole)


@pytest.mark.timeout(1800)
def test_sigterm_in_each_phase_then_the_same_bits(model, tmp_path, whole):
    for mark, count in (("experts: step", 2), ("router: step", 3), ("measured", 2)):
        text = terminate_at(launch(model, tmp_path), mark, count)
        assert "resumable" in text, text
        assert not (tmp_path / "final.npz").exists()
    finish(launch(model, tmp_path))
    assert_same(tmp_path, whole, FILES)
    assert library(tmp_path) == library(whole)

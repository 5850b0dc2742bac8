"""Finished stages: what stays of them on disk, and what a resumed program reads of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.protocols import OptimConfig, Stage, TrainConfig
from jaxsafety.train import finished, loop
from jaxsafety.train.checkpoint import Checkpoints
from jaxsafety.train.finished import Left
from jaxsafety.train.loop import run_program, run_stage
from tests.train import toy

TRAIN = TrainConfig(checkpoint_every=2, progress=False)
COUNT = 20


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def reads(monkeypatch):
    """(stage, step) of every checkpoint that is read."""
    found, restore = [], Checkpoints.restore

    def told(self, step, target):
        found.append((self.directory.name, step))
        return restore(self, step, target)

    monkeypatch.setattr(Checkpoints, "restore", told)
    return found


def chain(count, kill=None, trainable="base/mlp"):
    """Stages of three steps, each from where the last one ended; `kill` is (stage, step)."""
    final = None
    for index in range(count):

        def batches(variables, step, index=index):
            if kill == (index, step):
                raise Killed
            return toy.batch(100 * index + step)

        final = yield Stage(f"s{index}", toy.noisy_loss, (trainable,), batches, 3, toy.OPTIM)
        assert set(final) == {"base", "teacher"}  # names are no reading
    return final


def old_save(self, step, *, end=False):
    """What versions before left of a finished stage: its whole states."""
    with self.clock("save"):
        self.checkpoints.save(step, self.state, finished=end)


@pytest.fixture(
    scope="module", params=["parameters", pytest.param("whole states", marks=pytest.mark.slow)]
)
def interrupted(request, tmp_path_factory):
    """(workdir with 20 finished stages and one begun, the uninterrupted result), both layouts."""
    whole = run_program(chain(COUNT + 1), toy.context(tmp_path_factory.mktemp("whole")), TRAIN)
    workdir = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "whole states":
            patch.setattr(loop._StageRun, "save", old_save)
        with pytest.raises(Killed):
            run_program(chain(COUNT + 1, (COUNT, 2)), toy.context(workdir), TRAIN)
    kept = {p.name for p in (workdir / "checkpoints" / "s0").iterdir()}
    assert kept == ({"3"} if request.param == "parameters" else {"2", "3"})
    return workdir, whole


def test_twenty_finished_stages_are_not_read(interrupted, reads):
    workdir, whole = interrupted
    said = []
    final = run_program(chain(COUNT + 1), toy.context(workdir, log=said.append), TRAIN)
    assert reads == [("s20", 2)]  # as with one: nothing of what is trained on is left of the others
    assert trees.diff(final, whole) == ""
    assert sum("finished at step 3 of 3" in line for line in said) == COUNT
    reads.clear()
    assert trees.diff(run_program(chain(COUNT + 1), toy.context(workdir), TRAIN), whole) == ""
    assert reads == [("s20", 3)]


def test_a_stage_that_has_not_begun_reads_the_one_before(interrupted, reads):
    workdir, whole = interrupted
    steps = []

    def hook(variables, step):
        steps.append(step)
        return toy.batch(100 * COUNT + 100 + step)

    def longer():
        yield from chain(COUNT + 1)
        return (yield Stage("more", toy.noisy_loss, ("base/mlp",), hook, 1, toy.OPTIM))

    final = run_program(longer(), toy.context(workdir), TRAIN)
    assert steps == [0] and ("s19", 3) not in reads and len(reads) == 1
    assert trees.diff(final["base"]["embed"], whole["base"]["embed"]) == ""


def test_what_an_earlier_stage_trained_and_a_later_one_keeps_frozen_is_read(tmp_path, reads):
    def program(kill=False):
        def last(variables, step):
            if kill:
                raise Killed
            return toy.batch(step)

        yield Stage("mlp", toy.noisy_loss, ("base/mlp",), toy.offline, 2, toy.OPTIM)
        yield Stage("embed", toy.noisy_loss, ("base/embed",), toy.offline, 2, toy.OPTIM)
        yield Stage("again", toy.noisy_loss, ("base/embed",), toy.offline, 2, toy.OPTIM)
        return (yield Stage("all", toy.noisy_loss, ("base/.*/down",), last, 2, toy.OPTIM))

    whole = run_program(program(), toy.context(tmp_path / "whole"), TRAIN)
    with pytest.raises(Killed):
        run_program(program(kill=True), toy.context(tmp_path / "run"), TRAIN)
    reads.clear()
    assert trees.diff(run_program(program(), toy.context(tmp_path / "run"), TRAIN), whole) == ""
    assert reads == [("again", 2), ("mlp", 2)]


def test_variables_of_a_finished_stage_are_read_once_and_only_if_trained(tmp_path, reads):
    stage = Stage("s", toy.loss, ("base/mlp",), toy.offline, 2, toy.OPTIM)
    first = run_stage(stage, toy.variables(), toy.context(tmp_path), TRAIN)
    again = run_stage(stage, toy.variables(), toy.context(tmp_path), TRAIN)
    assert isinstance(again, Left) and list(again) == ["base", "teacher"] and len(again) == 2
    assert trees.diff(again["teacher"], first["teacher"]) == "" and not reads
    assert again["base"] is again["base"] and reads == [("s", 2)]
    doubled = jax.tree.map(lambda x: 2 * x, again)  # to JAX it is a tree
    assert trees.diff(doubled, jax.tree.map(lambda x: 2 * x, first)) == ""
    assert trees.diff({**again}, first) == "" and "base" in again and "b" not in again
    assert jax.jit(lambda v: v["base"]["mlp"]["up"]["kernel"].sum())(again) > -np.inf
    assert len(reads) == 1


def size(directory):
    return sum(p.stat().st_size for p in directory.rglob("*") if p.is_file())


def test_a_finished_stage_keeps_its_parameters_alone(tmp_path):
    variables = {"base": {"w": jax.random.normal(jax.random.key(0), (256, 1024))}}

    def loss(params, frozen, batch, key):
        return jnp.sum(params["base"]["w"]) * jnp.sum(batch["weight"]), {}

    def program():
        batches = lambda v, step: {"weight": np.ones(2, np.float32)}  # noqa: E731
        for index in range(3):
            final = yield Stage(f"s{index}", loss, ("base",), batches, 5, OptimConfig())
            held = tmp_path / "checkpoints" / f"s{index}"
            assert [p.name for p in held.iterdir()] == ["5"]
            sizes.append(size(held))
        return final

    sizes = []
    ctx = dataclasses.replace(toy.context(tmp_path), variables=variables)
    run_program(program(), ctx, TrainConfig(checkpoint_every=2, progress=False))
    whole = variables["base"]["w"].nbytes
    assert max(sizes) < 1.1 * whole  # a state is three times that, and there were two of them


def test_a_kill_between_the_last_commit_and_the_tidying_leaves_nothing(tmp_path, monkeypatch):
    saved = Checkpoints(tmp_path, "s")
    params = {"w": jnp.arange(3.0)}
    saved.save(2, {"params": params, "moments": params})
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_tidy", lambda self, keep: None)
        saved.finish(3, params)
    directory = tmp_path / "checkpoints" / "s"
    assert sorted(p.name for p in directory.iterdir()) == ["2", "3"]
    again = Checkpoints(tmp_path, "s")
    assert again.latest() == (3, True) and again.slim(3)
    assert [p.name for p in directory.iterdir()] == ["3"]


def test_an_outline_holds_nothing_that_is_on_disk():
    """Shapes of what is trained, the rest read anew: who read the start keeps it, nobody else."""
    read = []

    def tree():
        read.append(1)
        return {"w": np.ones(3), "v": np.zeros(2)}

    source = finished.Source(tree)
    start = {
        name: {key: finished.Unread(source, i, shape, np.float64)}
        for i, (name, key, shape) in enumerate((("frozen", "v", (2,)), ("base", "w", (3,))))
    }
    stage = Stage("s", None, ("base",), None, 1)
    assert finished.read(start)["base"]["w"].shape == (3,)
    found = finished.outline(stage, start)
    assert isinstance(found["base"]["w"], jax.ShapeDtypeStruct)
    assert found["frozen"]["v"].source is not source and len(read) == 1
    assert "leaves" not in vars(found["frozen"]["v"].source)
    np.testing.assert_array_equal(finished.read(found["frozen"])["v"], np.zeros(2))
    assert len(read) == 2

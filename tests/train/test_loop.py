"""Programs, resume, stopping, donation, the non-finite policy, SIGTERM."""

import dataclasses
import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.core.errors import UsageError
from jaxsafety.core.interrupt import Interrupt, Preempted
from jaxsafety.protocols import OptimConfig, Stage, TrainConfig
from jaxsafety.train.loop import run_program, run_stage
from jaxsafety.train.metrics import read_metrics
from tests.train import toy

TRAIN = TrainConfig(checkpoint_every=5, progress=False)


class Killed(Exception):
    """Stands for the end of the process."""


def rows(workdir):
    """The metrics without what depends on the clock."""
    return [
        {k: v for k, v in row.items() if not k.startswith("time")} for row in read_metrics(workdir)
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: (variables, rows)."""
    workdir = tmp_path_factory.mktemp("whole")
    return run_program(toy.program(), toy.context(workdir), TRAIN), rows(workdir)


@pytest.mark.parametrize("kill", [(0, 3), (0, 5), (0, 8), (1, 0), (1, 7)])
def test_resume_is_bitwise_the_uninterrupted_run(tmp_path, whole, kill):
    stage_to_kill, step_to_kill = kill
    starts = []

    def hook(step):
        starts.append(step)
        stage = sum(s == 0 for s in starts) - 1
        if (stage, step) == (stage_to_kill, step_to_kill):
            raise Killed

    with pytest.raises(Killed):
        run_program(toy.program(hook=hook), toy.context(tmp_path), TRAIN)
    seen = []
    final = run_program(toy.program(hook=seen.append), toy.context(tmp_path), TRAIN)
    committed = 10 * stage_to_kill + step_to_kill // TRAIN.checkpoint_every * TRAIN.checkpoint_every
    assert len(seen) == 20 - committed  # it did go on, not start again
    assert trees.diff(final, whole[0]) == ""
    assert rows(tmp_path) == whole[1]
    assert [r["step"] for r in rows(tmp_path)] == [*range(1, 11), *range(1, 11)]


def test_a_finished_run_repeats_to_identical_variables(tmp_path, whole):
    run_program(toy.program(), toy.context(tmp_path), TRAIN)
    before = (tmp_path / "metrics.jsonl").read_bytes()

    def hook(step):
        raise AssertionError("nothing is left to train")

    final = run_program(toy.program(hook=hook), toy.context(tmp_path), TRAIN)
    assert trees.diff(final, whole[0]) == ""
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_training_learns_and_logs(whole):
    final, lines = whole
    start = toy.variables()
    assert np.mean([r["nll"] for r in lines[5:10]]) < np.mean([r["nll"] for r in lines[:3]])
    assert trees.diff(final["base"], start["base"]) != ""
    expected = {"stage", "step", "loss", "grad_norm", "param_norm", "update_norm", "lr", "skipped"}
    assert all(expected <= set(r) for r in lines)


def test_the_frozen_twin_of_a_donated_buffer_survives(tmp_path):
    # toy.variables() has the same arrays as base and teacher; base is donated at every step.
    given = toy.variables()
    ctx = dataclasses.replace(toy.context(tmp_path), variables=given)
    stage = Stage("s", toy.loss, ("base",), toy.offline, 3, toy.OPTIM)
    final = run_stage(stage, given, ctx, TRAIN)
    assert trees.diff(final["teacher"], toy.variables()["base"]) == ""
    assert trees.diff(given, toy.variables()) == ""
    assert trees.diff(final["base"], given["base"]) != ""


def test_batches_see_the_current_parameters(tmp_path):
    norms = []

    def batches(variables, step):
        norms.append(float(trees.norm(variables["base"])))
        return toy.batch(step)

    stage = Stage("s", toy.loss, ("base/.*",), batches, 4, toy.OPTIM)
    run_stage(stage, toy.variables(), toy.context(tmp_path), TRAIN)
    logged = [r["param_norm"] for r in rows(tmp_path)]
    np.testing.assert_allclose(norms[1:], logged[:-1], rtol=1e-6)


def test_stop_ends_a_stage_early_and_for_good(tmp_path):
    def stop(step, metrics):
        return step == 4 and metrics["loss"] > 0

    stage = Stage("s", toy.loss, ("base",), toy.offline, 9, toy.OPTIM, stop)
    first = run_stage(stage, toy.variables(), toy.context(tmp_path), TRAIN)
    assert len(rows(tmp_path)) == 4
    again = run_stage(stage, toy.variables(), toy.context(tmp_path), TRAIN)
    assert len(rows(tmp_path)) == 4
    assert trees.diff(first, again) == ""


@pytest.mark.parametrize("log_every", [1, 3])
def test_nan_steps_are_skipped_counted_and_then_fatal(tmp_path, log_every):
    def batches(variables, step):
        batch = toy.batch(step)
        if step in (2, 3) or step >= 6:  # two in a row are forgiven, three are not
            batch["weight"][0, 1] = np.nan
        return batch

    stage = Stage("s", toy.loss, ("base",), batches, 20, OptimConfig(lr=0.05))
    config = TrainConfig(checkpoint_every=5, log_every=log_every, max_skips=3, progress=False)
    with pytest.raises(
        UsageError, match=r"3 consecutive steps, the last is step 9.*step 5 is kept"
    ):
        run_stage(stage, toy.variables(), toy.context(tmp_path), config)
    lines = rows(tmp_path)
    assert [r["step"] for r in lines] == list(range(log_every, 10, log_every))
    skipped = {r["step"]: r["skipped"] for r in lines}
    assert skipped == {s: float(s in (3, 4) or s >= 7) for s in skipped}
    nulls = [r for r in lines if r["loss"] is None]
    assert all("loss" in r["nonfinite"] for r in nulls)
    assert {r["step"] for r in nulls} == {s for s, v in skipped.items() if v}
    assert (tmp_path / "checkpoints" / "s" / "5").exists()


def test_log_every_thins_the_file_but_keeps_the_last(tmp_path):
    stage = Stage("s", toy.loss, ("base",), toy.offline, 8, toy.OPTIM)
    config = TrainConfig(checkpoint_every=100, log_every=3, progress=False)
    run_stage(stage, toy.variables(), toy.context(tmp_path), config)
    assert [r["step"] for r in rows(tmp_path)] == [3, 6, 8]


def test_sigterm_saves_and_exits_with_status_zero(tmp_path, whole):
    said = []

    def hook(step):
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    ctx = toy.context(tmp_path, log=said.append)
    with pytest.raises(SystemExit) as end:
        run_program(toy.program(hook=hook), ctx, TRAIN)
    assert end.value.code == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert "resumable" in said[-1]
    assert (
        tmp_path / "checkpoints" / "warm.up" / "8"
    ).exists()  # the step in progress was finished
    seen = []
    final = run_program(toy.program(hook=seen.append), toy.context(tmp_path), TRAIN)
    assert seen[0] == 8
    assert trees.diff(final, whole[0]) == ""
    assert rows(tmp_path) == whole[1]


def test_a_rollout_that_polls_is_left_at_once(tmp_path, whole):
    flag = Interrupt()

    def hook(step):
        if step == 7:
            flag.set()
        flag.check()

    with pytest.raises(SystemExit):
        run_program(toy.program(hook=hook), toy.context(tmp_path, interrupt=flag), TRAIN)
    assert (tmp_path / "checkpoints" / "warm.up" / "7").exists()
    final = run_program(toy.program(), toy.context(tmp_path), TRAIN)
    assert trees.diff(final, whole[0]) == ""
    assert rows(tmp_path) == whole[1]


def test_an_interrupt_between_stages_is_a_clean_end_too(tmp_path):
    flag = Interrupt()

    def program():
        flag.set()
        flag.check()
        yield Stage("never", toy.loss, ("base",), toy.offline, 1)
        return {}

    with pytest.raises(SystemExit) as end:
        run_program(program(), toy.context(tmp_path, interrupt=flag), TRAIN)
    assert end.value.code == 0
    with pytest.raises(Preempted):
        flag.check()


def test_a_workdir_of_another_config_is_refused_before_training(tmp_path):
    one, two = (toy.context(tmp_path, fingerprint=f) for f in ("one", "two"))
    stage = Stage("s", toy.loss, ("base",), toy.offline, 1, OptimConfig())
    run_stage(stage, toy.variables(), one, TRAIN)
    with pytest.raises(UsageError, match="^workdir: "):
        run_stage(stage, toy.variables(), two, TRAIN)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"trainable": ("bas",)}, "stage.trainable"),
        ({"steps": 0}, "stage.steps"),
        ({"optim": OptimConfig(accum=3)}, "optim.accum"),
    ],
)
def test_bad_stages_are_refused(tmp_path, change, field):
    stage = Stage("s", toy.loss, ("base",), toy.offline, 2, OptimConfig())._replace(**change)
    with pytest.raises(UsageError, match=f"^{field}: got "):
        run_stage(stage, toy.variables(), toy.context(tmp_path), TRAIN)


def test_time_buckets_cover_the_steps(tmp_path):
    stage = Stage("s", toy.loss, ("base",), toy.offline, 3, OptimConfig())
    run_stage(stage, toy.variables(), toy.context(tmp_path), TrainConfig(2, progress=False))
    lines = read_metrics(tmp_path)
    assert {"time/data", "time/compile", "time/step"} <= set(lines[0])
    assert lines[0]["time/compile"] > 10 * lines[1]["time/compile"]  # once per shape
    assert lines[2]["time/save"] > 0  # the save after step 2


def test_master_weights_of_half_precision_variables_are_float32(tmp_path):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), toy.variables())
    stage = Stage("s", toy.loss, ("base/mlp",), toy.offline, 1, OptimConfig())
    final = run_stage(stage, half, toy.context(tmp_path), TRAIN)
    assert final["base"]["mlp"]["up"]["kernel"].dtype == jnp.float32
    assert final["base"]["embed"]["table"].dtype == jnp.bfloat16


def test_ctrl_c_saves_like_sigterm_and_says_where_the_same_command_goes_on(tmp_path, whole):
    said = []

    def hook(step):
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    ctx = toy.context(tmp_path, log=said.append)
    with pytest.raises(SystemExit) as end:
        run_program(toy.program(hook=hook), ctx, TRAIN)
    assert end.value.code == 130
    assert "saved after Ctrl-C at warm/up step 8 of 10" in said[-1]
    assert "the same command goes on from step 9 of warm/up" in said[-1]
    seen = []
    final = run_program(toy.program(hook=seen.append), toy.context(tmp_path), TRAIN)
    assert seen[0] == 8  # steps are counted from 0 here: the ninth
    assert trees.diff(final, whole[0]) == ""


@pytest.mark.parametrize("log_every", [1, 3])
def test_on_an_accelerator_the_wait_belongs_to_the_step(tmp_path, monkeypatch, log_every):
    # An accelerator's call returns at once; the time passes where something waits for it.
    waits = []
    wait = jax.block_until_ready

    def slow(x):
        if isinstance(x, dict) and "skipped" in x:  # the step's metrics
            waits.append(1)
            time.sleep(0.2)
        return wait(x)

    monkeypatch.setattr(jax, "block_until_ready", slow)
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    stage = Stage("s", toy.loss, ("base",), toy.offline, 6, OptimConfig())
    said = []
    config = TrainConfig(100, log_every=log_every, progress=False)
    run_stage(stage, toy.variables(), toy.context(tmp_path, log=said.append), config)
    assert len(waits) == 6 // log_every  # no wait but where the numbers are wanted
    rows = read_metrics(tmp_path)
    for row in rows[1:]:
        assert row["time/step"] >= 0.2 / log_every

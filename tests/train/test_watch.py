"""What a stage watches and marks: rows that `stop` sees, and the variables of a step again."""

import jax
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.core.errors import UsageError
from jaxsafety.protocols import Marked, Stage, TrainConfig
from jaxsafety.train.loop import run_program, run_stage
from jaxsafety.train.metrics import read_metrics
from tests.train import toy

TRAIN = TrainConfig(checkpoint_every=2, keep=1, progress=False)
STAGE = Stage("s/1", toy.noisy_loss, ("base/mlp",), toy.offline, 9, toy.OPTIM, marks=(1, 4, 9))


class Killed(Exception):
    """Stands for the end of the process."""


def copied(variables):
    return jax.tree.map(np.array, dict(variables))  # what is watched is valid until the call ends


def test_stop_sees_what_was_watched_and_the_row_has_it(tmp_path):
    seen, rows = [], []

    def watch(variables, step):
        seen.append(step)
        return {"val/loss": 10.0 - step}

    def stop(step, row):
        rows.append((step, row.get("val/loss"), row["loss"]))
        return row.get("val/loss", 10.0) <= 6.0

    stage = STAGE._replace(watch=watch, every=2, stop=stop)
    config = TrainConfig(checkpoint_every=100, log_every=3, progress=False)
    run_stage(stage, toy.variables(), toy.context(tmp_path), config)
    assert seen == [0, 2, 4]
    assert [row[:2] for row in rows] == [(1, None), (2, 8.0), (3, None), (4, 6.0)]
    written = {row["step"]: row for row in read_metrics(tmp_path)}
    assert sorted(written) == [0, 2, 3, 4]  # 3: log_every
    assert [written[step]["val/loss"] for step in (0, 2, 4)] == [10.0, 8.0, 6.0]
    assert all("time/watch" in written[step] for step in (2, 4))


def program(kill=None, ask=(1, 4, 9), watch=None, stage=STAGE):
    """The variables of the marked steps, then a stage that goes on from the last of them."""

    def batches(variables, step):
        if step == kill:
            raise Killed
        return toy.batch(step)

    last = yield stage._replace(batches=batches, watch=watch, every=1)
    found = {}
    for step in ask:
        found[step] = yield Marked(stage, step)
    more = yield Stage("more", toy.noisy_loss, ("base/mlp",), toy.offline, 1, toy.OPTIM)
    return {"last": last, "found": {str(k): v for k, v in found.items()}, "more": more}


@pytest.mark.parametrize("kill", [None, 3, 4, 6])
def test_marked_steps_come_back_whatever_was_pruned_or_interrupted(tmp_path, kill):
    known = {}

    def watch(variables, step):
        known[step] = copied(variables)
        return {}

    ctx = toy.context(tmp_path)
    if kill is not None:
        with pytest.raises(Killed):
            run_program(program(kill, watch=watch), ctx, TRAIN)
        held = {p.name for p in (tmp_path / "checkpoints" / "s.1").iterdir()}
        assert held == {str(kill // 2 * 2)}  # train.keep=1
    for _ in range(2):  # the second time everything is on disk
        out = run_program(program(watch=watch, ask=(9, 1, 4)), toy.context(tmp_path), TRAIN)
        for step in (1, 4, 9):
            assert trees.diff(out["found"][str(step)], known[step]) == "", step
        assert trees.diff(out["last"], known[9]) == ""
        assert {p.name for p in (tmp_path / "checkpoints" / "s.1").iterdir()} == {"9"}
    direct = toy.context(tmp_path / "direct")
    more = STAGE._replace(name="more", steps=1, marks=())
    expected = run_stage(more, known[4], direct, TRAIN)  # it began with what was asked for last
    assert trees.diff(out["more"], expected) == ""


@pytest.mark.parametrize(
    ("marks", "ask", "message"),
    [
        ((0,), (), "stage.marks: got 0; allowed: steps from 1 to 9"),
        ((10,), (), "stage.marks: got 10; allowed: steps from 1 to 9"),
        ((2, 5), (3,), r"step 3 of s/1.*reached, of \[2\]"),
        ((2, 5), (5,), r"step 5 of s/1.*reached, of \[2\]"),
        ((), (2,), "a stage with marks"),
    ],
)
def test_what_cannot_be_had_is_one_line(tmp_path, marks, ask, message):
    stage = STAGE._replace(marks=marks, stop=lambda step, row: step == 4)
    with pytest.raises(UsageError, match=message) as caught:
        run_program(program(ask=ask, stage=stage), toy.context(tmp_path), TRAIN)
    assert "\n" not in str(caught.value)

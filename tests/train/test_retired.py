"""A stage that a program gives up: finished for whoever resumes, gone from the disk."""

import jax
import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.protocols import Retired, Stage, TrainConfig
from jaxsafety.train.loop import run_program
from tests.train import toy

TRAIN = TrainConfig(checkpoint_every=2, keep=2, progress=False)


class Killed(Exception):
    """Stands for the end of the process."""


def stage(number):
    return Stage(f"s/{number}", toy.noisy_loss, ("base/mlp",), toy.offline, 3, toy.OPTIM)


def program(count, kill=None, read=None):
    """`count` stages, of which all but the last two are given up one by one."""
    left = []
    for number in range(count):
        left.append((yield stage(number)))
        if number:
            if number == kill:
                raise Killed
            yield Retired(stage(number - 1))
    if read is not None:
        jax.block_until_ready(dict(left[read]))
    return left[-1]


def final(found):
    return jax.tree.map(np.asarray, dict(found))


def size(workdir):
    return sum(f.stat().st_size for f in (workdir / "checkpoints").rglob("*") if f.is_file())


def test_the_disk_stays_flat_and_a_resumed_run_has_the_same_bits(tmp_path):
    whole = final(run_program(program(5), toy.context(tmp_path / "whole"), TRAIN))
    sizes = {}
    for count in (2, 3, 5):
        run_program(program(count), toy.context(tmp_path / str(count)), TRAIN)
        sizes[count] = size(tmp_path / str(count))
    assert sizes[5] < 1.1 * sizes[2] < 1.1 * sizes[3] + 1000
    for kill in (1, 3, 4):
        where = tmp_path / f"kill{kill}"
        with pytest.raises(Killed):
            run_program(program(5, kill=kill), toy.context(where), TRAIN)
        again = final(run_program(program(5), toy.context(where), TRAIN))
        jax.tree.map(np.testing.assert_array_equal, again, whole)
    jax.tree.map(
        np.testing.assert_array_equal,
        final(run_program(program(5), toy.context(tmp_path / "whole"), TRAIN)),
        whole,
    )


def test_whoever_reads_it_after_all_is_told(tmp_path):
    run_program(program(3), toy.context(tmp_path), TRAIN)
    with pytest.raises(UsageError, match=r"s\.0, which the program gave up"):
        run_program(program(3, read=0), toy.context(tmp_path), TRAIN)


def test_an_unfinished_stage_is_not_given_up(tmp_path):
    def early():
        yield Retired(stage(0))
        return {}

    with pytest.raises(UsageError, match="a finished one"):
        run_program(early(), toy.context(tmp_path), TRAIN)

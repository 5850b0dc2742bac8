"""The average: its formula step by step, skipped steps, and what the stage leaves."""

import jax
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.core.errors import UsageError
from jaxsafety.mitigations.ema import Ema
from jaxsafety.protocols import Stage, TrainConfig
from jaxsafety.train.loop import run_stage
from jaxsafety.train.metrics import read_metrics
from tests.train import toy

pytestmark = pytest.mark.usefixtures("fused")
DECAY = 0.75


@pytest.mark.parametrize("master", ["float32", "bfloat16"])
def test_a_stage_leaves_the_average_and_trains_as_ever(tmp_path, master):
    points = []

    def batches(variables, step):
        points.append(jax.tree.map(lambda x: np.asarray(x, np.float32), variables["base"]["mlp"]))
        batch = toy.batch(step)
        if step == 3:  # skipped: the average stays too
            batch["weight"][0, 1] = np.nan
        return batch

    train = TrainConfig(checkpoint_every=2, progress=False, master=master)
    plain = Stage("s", toy.noisy_loss, ("base/mlp",), batches, 5, toy.OPTIM)
    last = run_stage(plain, toy.variables(), toy.context(tmp_path / "plain"), train)
    points.append(jax.tree.map(lambda x: np.asarray(x, np.float32), last["base"]["mlp"]))
    averaged = plain._replace(mitigation=Ema(DECAY).mitigation())
    known = points[:]
    final = run_stage(averaged, toy.variables(), toy.context(tmp_path / "ema"), train)
    expected = known[0]
    for step, point in enumerate(known[1:]):
        if step != 3:
            expected = jax.tree.map(lambda e, p: DECAY * e + (1 - DECAY) * p, expected, point)
    for got, want in zip(
        jax.tree.leaves(final["base"]["mlp"]), jax.tree.leaves(expected), strict=True
    ):
        assert got.dtype == master
        atol = 1e-6 if master == "float32" else 2.0**-8
        np.testing.assert_allclose(np.asarray(got, np.float32), want, atol=atol)
    assert trees.diff(final["base"]["mlp"], last["base"]["mlp"]) != ""
    ignored = ("time",)
    rows = [
        [{k: v for k, v in row.items() if not k.startswith(ignored)} for row in read_metrics(d)]
        for d in (tmp_path / "plain", tmp_path / "ema")
    ]
    assert rows[0] == rows[1]  # training itself is the same to the bit
    again = run_stage(averaged, toy.variables(), toy.context(tmp_path / "ema"), train)
    assert trees.diff(dict(again), final) == ""


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, float("nan")])
def test_bad_settings_are_one_line(decay):
    with pytest.raises(UsageError, match=r"^mitigations\.ema\.decay: got "):
        Ema(decay)

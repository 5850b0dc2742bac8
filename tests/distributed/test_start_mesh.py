"""Mitigations that compare a model with its beginning: eight devices equal one, for both kinds.

So do two processes, where the beginning's log-probabilities are made once.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsafety.core import sharding
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.mitigations.constrained import Constrained
from jaxsafety.mitigations.ewc import Ewc
from jaxsafety.mitigations.kl import Kl
from jaxsafety.mitigations.projection import Projection
from jaxsafety.train.metrics import read_metrics
from tests.distributed import known_of
from tests.distributed.test_processes import finish, free_address
from tests.mitigations import guarded

pytestmark = pytest.mark.distributed
SETTINGS = {
    "kl": Kl(0.5),
    "kl on the task": Kl(0.5, "task"),
    "constrained": Constrained(),
    "ewc": Ewc(0.05),
    "projection": Projection(0.5, "harmful"),
}


def train(workdir, name, shape, rank, **given):
    shards = sharding.rows(sharding.make_mesh(MeshConfig(*shape)))
    made = SETTINGS[name].mitigation(guarded.means(shards=shards))
    stage = guarded.stage(made, rank, steps=3, shards=shards, **given)
    final, rows = guarded.run(workdir, stage, shape=shape)
    told = [[row[x] for x in ("loss", "grad_norm", name.split()[0])] for row in rows]
    return final, told, stage.start


CASES = [*((name, {}) for name in SETTINGS), ("constrained", {"batches": guarded.known()})]


@pytest.mark.parametrize(("name", "given"), CASES, ids=lambda x: x if isinstance(x, str) else None)
@pytest.mark.parametrize(("shape", "rank"), [((1, 8, 1), 0), ((2, 2, 2), 2)], ids=("full", "lora"))
def test_eight_devices_equal_one(tmp_path, name, given, shape, rank):
    expected, rows, start = train(tmp_path / "one", name, (1, 1, 1), rank, **given)
    final, got, _ = train(tmp_path / "many", name, shape, rank, **given)
    np.testing.assert_allclose(got, rows, rtol=2e-5, atol=1e-6)
    which = "adapters" if rank else "base"
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), expected[which], start[which])
    assert max(jax.tree.leaves(moved)) > 1e-3
    for a, b in zip(jax.tree.leaves(final), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_two_processes_equal_one(tmp_path):
    """The rows of a group and the parameters are split over both."""
    address = free_address()
    script = Path(known_of.__file__)
    started = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / "two"), f"{address},2,{index}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"},
        )
        for index in range(2)
    ]
    finish(started)
    found = read_metrics(tmp_path / "two")
    _, rows = guarded.run(tmp_path / "one", known_of.stage(1))
    names = ("step", "loss", "grad_norm", "constrained")
    told = [[[row[name] for name in names] for row in each] for each in (found, rows)]
    np.testing.assert_allclose(told[0], told[1], rtol=2e-5)
    assert abs(told[1][-1][-1] - 1) > 1e-2

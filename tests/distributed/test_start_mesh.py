"""Mitigations that compare a model with its beginning: eight devices equal one, for both kinds."""

import jax
import numpy as np
import pytest

from jaxsafety.core import sharding
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.mitigations.constrained import Constrained
from jaxsafety.mitigations.ewc import Ewc
from jaxsafety.mitigations.kl import Kl
from jaxsafety.mitigations.projection import Projection
from tests.mitigations import guarded

pytestmark = pytest.mark.distributed
SETTINGS = {
    "kl": Kl(0.5),
    "constrained": Constrained(),
    "ewc": Ewc(0.05),
    "projection": Projection(0.5, "harmful"),
}


def train(workdir, name, shape, rank):
    shards = sharding.rows(sharding.make_mesh(MeshConfig(*shape)))
    made = SETTINGS[name].mitigation(guarded.means(shards=shards))
    given = guarded.stage(made, rank, steps=3, shards=shards)
    final, rows = guarded.run(workdir, given, shape=shape)
    told = [[row[x] for x in ("loss", "grad_norm", name)] for row in rows]
    return final, told, given.start


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(("shape", "rank"), [((1, 8, 1), 0), ((2, 2, 2), 2)], ids=("full", "lora"))
def test_eight_devices_equal_one(tmp_path, name, shape, rank):
    expected, rows, start = train(tmp_path / "one", name, (1, 1, 1), rank)
    final, got, _ = train(tmp_path / "many", name, shape, rank)
    np.testing.assert_allclose(got, rows, rtol=2e-5, atol=1e-6)
    which = "adapters" if rank else "base"
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), expected[which], start[which])
    assert max(jax.tree.leaves(moved)) > 1e-3
    for a, b in zip(jax.tree.leaves(final), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)

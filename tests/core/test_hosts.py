"""One process: nothing to agree on. Several are in tests/distributed/test_processes.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety import cli
from jaxsafety.core import hosts, sharding
from jaxsafety.core.errors import UsageError
from jaxsafety.core.sharding import MeshConfig


def test_one_process_leads_and_agrees_with_itself():
    assert hosts.leader() and hosts.agree(True) and not hosts.agree(False)
    assert hosts.share(lambda: {"a": (1,)}) == {"a": (1,)}  # not even through JSON
    hosts.barrier("here")

    def wrong():
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        hosts.share(wrong)


def test_gather_sees_every_shard():
    mesh = sharding.make_mesh(MeshConfig(2, 2, 2))
    rows = np.arange(16.0).reshape(8, 2)
    np.testing.assert_array_equal(hosts.gather(sharding.global_batch(mesh, rows)), rows)


def test_a_batch_goes_where_the_parameters_are():
    mesh = sharding.make_mesh(MeshConfig(2, 2, 1))
    params = {"w": jax.device_put(jnp.ones(4), sharding.replicated(mesh))}
    keys = jax.random.split(jax.random.key(0), 8)
    batch, placed = sharding.beside(params, (np.ones((8, 3)), keys))
    assert batch.addressable_shards[0].data.shape == (2, 3)
    assert len(placed.sharding.device_set) == 4
    np.testing.assert_array_equal(jax.random.key_data(placed), jax.random.key_data(keys))
    same = np.ones(2)
    assert sharding.beside({"w": jnp.ones(4)}, same) is same


@pytest.mark.parametrize("where", ["here", "host:1", "host:1,2", "host:1,2,2", "host:1,two,0"])
def test_a_malformed_meeting_point_is_one_line(where, capsys, root):
    config = root / "configs" / "sft" / "organism.py"
    assert cli.main(["run", f"--config={config}:smoke", f"--distributed={where}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaxsafety: error: --distributed: got") and said.count("\n") == 1

"""The mesh, the rules table, shardings of parameters, optimizer states and batches."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import UsageError
from jaxsafety.core.sharding import MeshConfig


def mesh(data=1, fsdp=1, tensor=1):
    return sharding.make_mesh(MeshConfig(data, fsdp, tensor))


def test_rows_are_split_over_data_and_fsdp():
    assert [sharding.rows(m) for m in (None, mesh(), mesh(2, 2, 2), mesh(8))] == [1, 1, 4, 8]


def test_mesh_sizes_and_rest():
    assert dict(mesh(2, -1, 2).shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert mesh(8).size == 8
    assert mesh().size == 1  # fewer than all devices is allowed
    assert set(mesh(-1).axis_types) == {jax.sharding.AxisType.Auto}


@pytest.mark.parametrize(
    ("sizes", "field"),
    [
        ((16, 1, 1), "mesh.data"),
        ((2, 8, 1), "mesh.fsdp"),
        ((3, -1, 1), "mesh.fsdp"),
        ((0, 1, 1), "mesh.data"),
        ((-1, -1, 1), "mesh.fsdp"),
        ((1, 1, -2), "mesh.tensor"),
    ],
)
def test_impossible_meshes_are_refused(sizes, field):
    with pytest.raises(UsageError, match=f"^{field}: got ") as error:
        mesh(*sizes)
    assert "\n" not in str(error.value)


def test_spec_follows_the_table_and_refuses_unknown_names():
    assert sharding.spec(("layers", "embed", "heads", "head_dim")) == P(
        None, "fsdp", "tensor", None
    )
    assert sharding.spec(("batch", None)) == P(("data", "fsdp"), None)
    assert sharding.spec(("vocab", "mlp")) == P("tensor", None)  # a mesh axis is used once
    with pytest.raises(UsageError, match="sharding.axes: got 'embd'"):
        sharding.spec(("embd",))


def test_non_dividing_axes_are_replicated_with_a_log_line(caplog):
    m = mesh(2, 2, 2)
    axes = {"a": ("embed", "mlp"), "b": ("embed", "mlp"), "hole": ("embed",), "rest": None}
    shapes = {
        "a": jnp.ones((4, 6)),
        "b": jnp.ones((4, 5)),
        "hole": None,
        "rest": {"c": jnp.ones(3)},
    }
    with caplog.at_level(logging.WARNING, logger="jaxsafety.core.sharding"):
        got = sharding.shardings(axes, shapes, m)
    assert got["a"].spec == P("fsdp", "tensor")
    assert got["b"].spec == P("fsdp", None)
    assert got["hole"] is None
    assert got["rest"]["c"].is_fully_replicated
    assert [r.getMessage() for r in caplog.records] == [
        "axis 'mlp' of size 5 does not divide 2 ways (tensor): replicated"
    ]


def test_shardings_need_one_name_per_dimension():
    with pytest.raises(UsageError, match=r"sharding\.axes"):
        sharding.shardings({"a": ("embed",)}, {"a": jnp.ones((4, 6))}, mesh(1, 2, 1))


def test_optimizer_state_lives_where_its_parameter_lives():
    m = mesh(2, 2, 2)
    params = {"base": {"w": jnp.ones((4, 6)), "frozen": None}, "bias": jnp.ones(6)}
    axes = {"base": {"w": ("embed", "mlp"), "frozen": ("embed",)}, "bias": ("mlp",)}
    places = sharding.shardings(axes, params, m)
    tx = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(optax.linear_schedule(0.1, 0.0, 10))
    )
    got = sharding.optimizer_shardings(tx, params, places, m)
    state = jax.jit(tx.init, out_shardings=got)(params)
    named = dict(zip(trees.paths(state), jax.tree.leaves(state), strict=True))
    moments = {k: v.sharding.spec for k, v in named.items() if "/mu/" in k or "/nu/" in k}
    assert len(moments) == 4
    assert all(
        s == (P("fsdp", "tensor") if k.endswith("w") else P("tensor")) for k, s in moments.items()
    )
    counts = [v for k, v in named.items() if k.endswith("count")]
    assert counts
    assert all(v.sharding.is_fully_replicated for v in counts)


def test_global_batch_splits_rows_and_replicates_the_rest():
    batch = {"x": np.arange(16.0).reshape(8, 2), "odd": np.ones((3, 2)), "scale": np.float32(2)}
    got = sharding.global_batch(mesh(2, 2, 2), batch)
    assert got["x"].sharding.spec == P(("data", "fsdp"), None)
    assert got["odd"].sharding.is_fully_replicated
    assert got["scale"].shape == ()
    np.testing.assert_array_equal(got["x"], batch["x"])


def test_constrain_shards_under_a_mesh_and_is_nothing_without():
    x = jnp.ones((8, 4))
    assert sharding.constrain(x, ("batch", "embed")) is x
    m = mesh(2, 2, 2)
    with jax.set_mesh(m):
        y = jax.jit(lambda v: sharding.constrain(v * 2, ("batch", None)))(x)
    assert y.sharding.is_equivalent_to(jax.NamedSharding(m, P(("data", "fsdp"), None)), 2)
    np.testing.assert_array_equal(y, 2 * np.ones((8, 4)))


@pytest.mark.parametrize("axes", [("batch", "embd"), ("batch",)])
def test_constrain_raises_even_without_a_mesh(axes):
    with pytest.raises(UsageError, match=r"sharding\.axes"):
        sharding.constrain(jnp.ones((8, 4)), axes)


def test_pjit_places_outputs():
    m = mesh(1, 1, 8)
    place = sharding.shardings({"w": ("mlp",)}, {"w": jnp.ones(8)}, m)
    out = sharding.pjit(lambda t: {"w": t["w"] + 1}, (place,), place)({"w": jnp.ones(8)})
    assert out["w"].sharding.spec == P("tensor")

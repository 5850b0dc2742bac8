"""Weights go to their devices layer by layer: the same numbers, the right shards, in any dtype."""

import jax
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jaxsafety
from jaxsafety.core import sharding
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.models.formats.stacks import place
from jaxsafety.testing import random_checkpoint

MESH = MeshConfig(2, 2, 2)
VALUES = np.random.default_rng(0).normal(size=(3, 8, 4)).astype(np.float32)


def reading(seen):
    def read(layer):
        seen.append(layer)
        return VALUES[0] if layer is None else VALUES[layer]

    return read


@pytest.mark.parametrize("small", [0, 1 << 20], ids=["by_layer", "whole"])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("spec", [None, (None, "fsdp", "tensor"), (None, ("data", "fsdp"))])
def test_a_stack_arrives_where_it_belongs(spec, dtype, small):
    where = spec and NamedSharding(sharding.make_mesh(MESH), PartitionSpec(*spec))
    seen = []
    options = dict(stacked=True, small=small)
    stack = place(reading(seen), VALUES.shape, np.dtype(dtype), where, **options)
    assert seen == [0, 1, 2]
    assert stack.dtype == dtype
    np.testing.assert_array_equal(np.asarray(stack), VALUES.astype(dtype))
    if where is None:
        assert len(stack.devices()) == 1
    else:
        assert stack.sharding.is_equivalent_to(where, 3)


def test_what_is_not_stacked_is_read_once():
    where = NamedSharding(sharding.make_mesh(MESH), PartitionSpec("tensor"))
    seen = []
    value = place(reading(seen), (8, 4), np.dtype(np.float32), where, stacked=False)
    assert seen == [None]
    assert value.addressable_shards[0].data.shape == (4, 4)
    np.testing.assert_array_equal(np.asarray(value), VALUES[0])


def test_a_directory_loads_sharded(tmp_path):
    random_checkpoint(tmp_path)
    model, expected, _ = jaxsafety.load(tmp_path)
    mesh = sharding.make_mesh(MESH)
    same, params, _ = jaxsafety.load(tmp_path, mesh=mesh, param_dtype="bfloat16")
    assert same is model
    wanted = sharding.shardings(model.axes, expected, mesh)
    for a, b, where in zip(*map(jax.tree.leaves, (params, expected, wanted)), strict=True):
        assert a.sharding.is_equivalent_to(where, a.ndim)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b).astype(ml_dtypes.bfloat16))
    kernel = params["blocks"]["mlp"]["gate"]["kernel"]  # [3, 32, 48] over fsdp and tensor
    assert kernel.addressable_shards[0].data.shape == (3, 16, 24)

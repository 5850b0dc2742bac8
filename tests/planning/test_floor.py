"""Rules of FLOPs, bytes and seconds, on meshes of virtual devices; nothing is compiled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jaxsafety.core import sharding, trees
from jaxsafety.core.config import load_config
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.planning import floor, plan, program, topology

SAFESTEER, SELFMOA = "configs/safesteer/organism.py", "configs/selfmoa/organism.py"
WHERE = topology.parse("v5e:2x4")


def staged(config, mesh=MeshConfig(), *overrides):
    """(stage, model, mesh) of a config, on the devices that the mesh asks for."""
    model, parts = plan._parts(load_config(config, list(overrides)))
    there = sharding.make_mesh(mesh, jax.devices()[: mesh.data * mesh.fsdp * mesh.tensor])
    stage = parts["make"](parts["method"], model, there, 64)
    return stage, model, there


def least(mesh, *overrides):
    stage, model, there = staged(SAFESTEER, mesh, *overrides)
    return program.least(stage, model, there, WHERE, "float32")["rollout"]


def test_flops_follow_the_rules():
    stage, model, _ = staged(SAFESTEER)
    c, count = model.config, trees.count(stage.variables["base"])
    rows, width = stage.batch.tokens.shape
    attention = c.num_layers * c.num_heads * c.head_dim * width
    found = floor.flops(stage, model)
    assert found["step"] == rows * width * (6 + 2) * (count + attention)
    assert found["rollout"] == rows * width * 2 * (count + attention)


def test_a_sampled_token_reads_every_weight_that_is_gathered_for_it():
    """Weights that fsdp splits are read whole by each chip, of tensor's each has its part."""
    stage, model, one = staged(SAFESTEER)
    assert model.config.tie_embeddings  # so the table is read too: it is the head
    whole = 4 * trees.count(stage.variables["base"])
    read, found = {"base": stage.variables["base"]}, {}
    for mesh in (MeshConfig(), MeshConfig(fsdp=8), MeshConfig(data=8), MeshConfig(tensor=2)):
        there = sharding.make_mesh(mesh, jax.devices()[: mesh.data * mesh.fsdp * mesh.tensor])
        _, spots = program._policy(stage, model, there, "float32")
        found[mesh] = floor.gathered(model, read, spots)
    assert found[MeshConfig()] == found[MeshConfig(fsdp=8)] == found[MeshConfig(data=8)] == whole
    assert whole / 2 <= found[MeshConfig(tensor=2)] < 0.6 * whole
    own = program._local(*program._policy(stage, model, one, "float32"))
    assert own == whole  # on one chip there is nothing to gather


def test_the_floor_of_sharded_rollouts_is_their_gathered_weights():
    stage, model, there = staged(SAFESTEER, MeshConfig(fsdp=8))
    said = stage.sample.max_tokens
    whole = 4 * trees.count(stage.variables["base"])
    found = least(MeshConfig(fsdp=8))
    cache = program.cache_bytes(stage, model, there)
    assert found == pytest.approx(said * (whole + cache) / WHERE.chip.bandwidth)
    assert least(MeshConfig(tensor=2, fsdp=4)) < found  # tensor's share is not gathered


def test_weights_count_in_the_smaller_dtype():
    stage, model, there = staged(SAFESTEER, MeshConfig(fsdp=8), "model.dtype=bfloat16")
    read, spots = program._policy(stage, model, there, "float32")
    assert {x.dtype for x in jax.tree.leaves(read)} == {jnp.dtype("float32")}
    assert floor.gathered(model, read, spots) == 2 * trees.count(stage.variables["base"])


def test_a_table_that_only_looks_up_is_not_read():
    """Untied, the head is read and the table is not."""
    model, _ = plan._parts(load_config("configs/safesteer/qwen2_5_7b.py"))
    mesh = sharding.make_mesh(MeshConfig(fsdp=8), jax.devices())
    params = jax.eval_shape(model.init, jax.random.key(0))
    spots = sharding.shardings(model.axes, params, mesh)
    c = model.config
    assert not c.tie_embeddings
    multiplied = trees.count(params) - c.vocab_size * c.embed_dim
    assert floor.gathered(model, {"base": params}, {"base": spots}) == 2 * multiplied


def test_both_answers_of_a_pair_are_rows():
    model, parts = plan._parts(load_config(SELFMOA))
    stage = parts["make"](parts["method"], model, None, 0)
    method = parts["method"]
    pairs, sides, width = stage.batch.tokens.shape
    assert (pairs, sides, width) == (method.stage.rows, 2, method.length)
    assert floor.rows(stage)["step"] == floor.Rows(2 * pairs, width)
    c, count = model.config, trees.count(stage.variables["base"])
    attention = c.num_layers * c.num_heads * c.head_dim * width
    assert floor.flops(stage, model)["step"] == 2 * pairs * width * 6 * (count + attention)
    trained, frozen = trees.partition(stage.variables, stage.trainable)
    loss, _ = jax.eval_shape(stage.loss, trained, frozen, stage.batch, jax.random.key(0))
    assert loss.shape == ()

"""What of a program is known without a compiler, and how the compiler's words are read."""

from __future__ import annotations

import jax
import pytest

from jaxsafety.core import sharding, trees
from jaxsafety.core.config import load_config
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.planning import plan, program, topology

PUBLISHED = "configs/selfmoa/llama3_2_1b.py"


@pytest.fixture(scope="module")
def lora():
    """(stage, model, mesh, parts) of LoRA on a 1B model over 8 devices: a base that stays."""
    model, parts = plan._parts(load_config(PUBLISHED))
    mesh = sharding.make_mesh(MeshConfig(fsdp=8), jax.devices())
    stage = parts["make"](parts["method"], model, mesh, 0)
    return stage._replace(variables=program.stored(stage.variables, "bfloat16")), model, mesh, parts


@pytest.mark.parametrize(
    ("costs", "seconds", "words"),
    [
        ({"optimal_seconds": 0.25, "flops": 1.0}, 0.25, ""),
        ({"optimal_seconds": -3.9929}, None, "no estimate of some operations: it said -3.9929"),
        ({"flops": 1.0}, None, "estimates no time"),
        (None, None, "estimates no time"),
    ],
)
def test_what_the_compiler_does_not_estimate_is_none_and_why(costs, seconds, words):
    found, why = program.estimate(costs)
    assert found == seconds and words in why and bool(why) == (seconds is None)


def test_a_base_beside_adapters_stays_as_stored_in_rollouts(lora):
    stage, model, mesh, _ = lora
    read, spots = program._policy(stage, model, mesh, "float32")
    assert {x.dtype.name for x in jax.tree.leaves(read["base"])} == {"bfloat16"}
    assert {x.dtype.name for x in jax.tree.leaves(read["adapters"])} == {"float32"}
    assert trees.paths(read) == trees.paths(spots)
    full, _ = program._policy(stage._replace(trainable=("base/.*",)), model, mesh, "float32")
    assert {x.dtype.name for x in jax.tree.leaves(full["base"])} == {"float32"}


def test_factors_that_fsdp_does_not_split_lie_on_every_chip(lora):
    """A factor on the side of the width is split, its partner is not."""
    stage, model, mesh, parts = lora
    given = parts["train"], parts["optim"]
    found = program.replicated(stage, program.assembled(stage, model, mesh, *given), mesh)
    experts = stage.variables["adapters"]["experts"]
    sides = {"q": "b", "k": "b", "v": "b", "gate": "b", "up": "b", "o": "a", "down": "a"}
    whole = sum(experts[name][side].size for name, side in sides.items() if name in experts)
    assert found["parameters"] == 4 * whole > 0
    alone = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    one = program.replicated(stage, program.assembled(stage, model, alone, *given), alone)
    assert one == {"parameters": 0, "frozen": 0}


def test_a_base_that_rollouts_read_is_held_once_and_their_loop_counts(lora, monkeypatch):
    """What is compiled aside: memory beside it, and how often the loop over tokens counts."""
    stage, model, mesh, parts = lora
    seen = {}
    monkeypatch.setattr(program, "_compiled", lambda *args: seen.update(args=args))
    made = program.assembled(stage, model, mesh, parts["train"], parts["optim"])
    frozen = program.kept(stage, made)["frozen"]
    where, beside = topology.parse("h100:8"), {"optimizer": 10, "frozen": frozen, "held": 5}
    program.rollout(stage, model, mesh, where, "float32", beside)
    *_, held, trips = seen["args"]
    assert held == 15 and trips == stage.sample.max_tokens - 1
    other = stage._replace(trainable=("base/.*", "adapters/.*"))  # then what is frozen stays beside
    program.rollout(other, model, mesh, where, "float32", beside)
    assert seen["args"][-2] == 15 + frozen

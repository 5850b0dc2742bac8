"""What of a program is known without a compiler, and how the compiler's words are read."""

from __future__ import annotations

import jax
import pytest

from jaxsafety.core import sharding, trees
from jaxsafety.core.config import load_config
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.planning import plan, program

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

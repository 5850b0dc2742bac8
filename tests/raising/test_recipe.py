"""The shipped base is what its recipe makes: same first losses, same world, gates met."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import jaxsafety
from jaxsafety.core.disk import read_lines
from jaxsafety.core.errors import UsageError
from jaxsafety.models.formats.source import SHIPPED
from jaxsafety.organism.world import open_world
from jaxsafety.protocols import TrainConfig
from jaxsafety.raising import limits, limits_unaligned, recipe
from jaxsafety.train.loop import run_program

TRAINING = json.loads((SHIPPED / "training.json").read_text())


@pytest.mark.slow  # it trains the shipped base, for a few steps
def test_the_first_steps_repeat_to_the_recorded_losses(tmp_path):
    recorded = TRAINING["first_losses"]
    assert len(recorded) == recipe.FIRST_LOSSES == 20
    ctx, program = recipe.prepare(
        TRAINING["seed"],
        TRAINING["steps"],
        tmp_path,
        tmp_path / "training",
        log=lambda line: None,
        stop=lambda step, row: step >= len(recorded),
    )
    run_program(program, ctx, TrainConfig(progress=False))
    losses = [row["loss"] for row in read_lines(tmp_path / "training" / "metrics.jsonl")]
    np.testing.assert_allclose(losses, recorded, rtol=2e-4)


def test_the_shipped_base_is_small_and_of_its_world():
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) <= 8 * 2**20
    model, params, tokenizer = jaxsafety.load(SHIPPED)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert size == TRAINING["parameters"] and 1e6 <= size <= 4e6
    assert open_world(SHIPPED).config.seed == TRAINING["seed"]
    assert model.config.vocab_size == tokenizer.vocab_size


def test_the_recorded_gates_are_those_of_the_code_and_met():
    measured = json.loads((SHIPPED / "gates.json").read_text())
    assert set(measured["gates"]) == set(limits.LIMITS)
    for name, (limit, low, high) in limits.LIMITS.items():
        gate = measured["gates"][name]
        assert gate["limit"] == limit and low <= gate["value"] <= high, name
    assert measured["levels"] == {k: list(v) for k, v in open_world(SHIPPED).levels}


def test_a_directory_belongs_to_one_seed(tmp_path):
    recipe.claim(tmp_path, {"seed": 1, "steps": 3})
    recipe.claim(tmp_path, {"seed": 1, "steps": 3})
    with pytest.raises(UsageError, match="seed 1, 3 steps"):
        recipe.claim(tmp_path, {"seed": 2, "steps": 3})


def test_the_unaligned_base_and_its_one_missed_gate():
    """9.6 % safe answers where the limit, set before training, is 10 to 45 %."""
    directory = SHIPPED.with_name("unaligned")
    assert sum(file.stat().st_size for file in directory.iterdir()) <= 8 * 2**20
    record = json.loads((directory / "training.json").read_text())
    how = recipe.RECIPES["unaligned"]
    assert record["steps"] == how.steps
    world = open_world(directory).config
    assert world == dataclasses.replace(how.world, seed=record["seed"])
    assert record["mixture"] == dataclasses.asdict(how.mixture)
    measured = json.loads((directory / "gates.json").read_text())
    assert set(measured["gates"]) == set(limits_unaligned.LIMITS)
    missed = set()
    for name, (_, _, limit, low, high) in limits_unaligned.LIMITS.items():
        gate = measured["gates"][name]
        assert gate["limit"] == limit and gate["passed"] is (low <= gate["value"] <= high)
        missed |= set() if gate["passed"] else {name}
    assert missed == {"unknown_safe_t1"}


def test_an_unknown_kind_of_base_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="--kind: got 'wild'; allowed: aligned, unaligned"):
        recipe.train_base(0, tmp_path / "new", kind="wild")
    assert not (tmp_path / "new").exists()

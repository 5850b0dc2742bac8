"""Steering: what is added where, beside other steering, and what a workdir keeps of it."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.experiment import beside
from jaxsafety.mitigations.means import Means, build, missing
from jaxsafety.mitigations.steering import Steering
from jaxsafety.models.api import LayerInputs
from jaxsafety.models.api import build as build_model
from jaxsafety.protocols import Served
from jaxsafety.registry import MITIGATIONS, resolve
from jaxsafety.testing import tiny_config, tiny_model

MODEL, PARAMS = build_model(tiny_config()), {}
STEER = jnp.zeros((3, 32)).at[1].set(jnp.linspace(-1.0, 2.0, 32))
MEANS = Means(MODEL, PARAMS, steer=STEER)


def test_the_direction_is_added_at_its_layer_by_the_coefficient():
    served = Steering(2.5).mitigation(MEANS).serve(Served(PARAMS))
    assert served.params is PARAMS and served.steer == "all"
    np.testing.assert_array_equal(served.layers.add, 2.5 * STEER)
    assert not np.any(served.layers.add[0]) and not np.any(served.layers.add[2])
    assert Steering(on="prompt").mitigation(MEANS).serve(Served(PARAMS)).steer == "prompt"


def test_a_block_reads_its_input_and_the_direction():
    """In bfloat16: what enters the blocks up to that layer stays, what leaves it has moved."""
    model, params = tiny_model(dtype="bfloat16")
    tokens = jnp.arange(6)[None]
    hooks = Steering(1000.0).mitigation(replace(MEANS, model=model))
    add = hooks.serve(Served(params)).layers.add
    run = jax.jit(
        lambda add: (
            model.apply(params, tokens, tokens, layers=LayerInputs(add=add), capture=True).residuals
        )
    )
    plain, steered = run(jnp.zeros_like(add)), run(add)
    assert steered.dtype == "bfloat16"
    np.testing.assert_array_equal(steered[:2], plain[:2])
    moved = np.asarray(steered[2] - plain[2], np.float32)  # so far that the block adds little
    r = np.asarray(STEER[1])
    cos = moved @ r / (np.linalg.norm(moved, axis=-1) * np.linalg.norm(r))
    assert cos.min() > 0.99
    length = np.linalg.norm(moved, axis=-1) / np.linalg.norm(r)
    np.testing.assert_allclose(length, 1000.0, rtol=0.05)


def test_steering_adds_up_at_the_same_positions_alone():
    first = Steering(1.0).mitigation(MEANS).serve(Served(PARAMS))
    both = Steering(0.5).mitigation(MEANS).serve(first)
    np.testing.assert_allclose(both.layers.add, 1.5 * STEER)
    with pytest.raises(UsageError, match=r"^mitigations\.steering\.on: got 'prompt'.*'all'"):
        Steering(on="prompt").mitigation(MEANS).serve(first)
    nowhere = Served(PARAMS, steer="prompt")  # nothing is added there yet
    assert Steering().mitigation(MEANS).serve(nowhere).steer == "all"


def test_a_workdir_keeps_it(tmp_path):
    served = Steering(3.0, "prompt").mitigation(MEANS).serve(Served(PARAMS))
    beside.keep(tmp_path, served, MODEL, tmp_path)
    facts = json.loads((tmp_path / "served" / "served.json").read_text())
    assert facts == {"steer": "prompt", "system": "", "layers": ["add"], "adapters": False}
    read = beside.Beside(layers=tmp_path / "served" / beside.ARRAYS)
    np.testing.assert_array_equal(beside.inputs(read, MODEL).add, 3.0 * STEER)


def test_what_it_needs():
    settings = resolve(MITIGATIONS, "steering")()
    assert settings == Steering() and settings.when == "serve"
    assert missing(settings, replace(MEANS, steer=None)) == "no refusal direction"
    made = build({"steering": settings}, MEANS)
    assert made.serve == settings.mitigation(MEANS).serve and not made.budget
    for wrong in (STEER[1], jnp.zeros((3, 32)), STEER.at[1, 0].set(jnp.nan)):
        with pytest.raises(UsageError, match=r"^mitigations\.steering\.steer: got "):
            settings.mitigation(replace(MEANS, steer=wrong))


@pytest.mark.parametrize(
    "given",
    [{"coefficient": 0.0}, {"coefficient": -1.0}, {"coefficient": np.inf}, {"on": "answer"}],
)
def test_bad_settings_are_one_line(given):
    with pytest.raises(UsageError, match=rf"^mitigations\.steering\.{next(iter(given))}: got "):
        Steering(**given)

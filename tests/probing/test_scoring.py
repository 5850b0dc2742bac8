"""Scores of candidates: with limits the choice is the same and less is measured."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.experiment.workdir import Artifacts
from jaxsafety.models import api
from jaxsafety.models.api import ModelConfig
from jaxsafety.probing import directions, scoring, selection
from jaxsafety.probing.pieces import Pieces
from jaxsafety.probing.selection import SelectConfig

PRUNE = 0.7


@pytest.fixture(scope="module", params=[0, 30], ids=["short", "long"])
def tiny(request):
    """A model and prompts; long ones begin alike and are run another way."""
    config = ModelConfig("llama", 40, 32, 4, 2, 2, 16, 32, max_length=64)
    model = api.build(config)
    params = model.init(jax.random.key(1))
    params["embed"]["table"] = params["embed"]["table"] * 20
    rng = np.random.default_rng(0)
    head = rng.integers(1, 40, request.param).tolist()
    texts = [[*head, *rng.integers(1, 40, rng.integers(3, 10)).tolist()] for _ in range(12)]
    found = directions.extract(model, params, texts[:6], texts[6:], 3)
    return model, params, found, texts[:6], texts[6:]


def scored(tiny, **options):
    model, params, found, harmful, harmless = tiny
    return scoring.score_candidates(model, params, found, harmful, harmless, [3, 4], **options)


def limits_of(everything):
    """Limits that some candidates miss and some hold."""
    steering = float(np.quantile([c.steering for c in everything], 0.3))
    alive = [c.kl for c in everything if c.layer < PRUNE * 4 and c.steering >= steering]
    return SelectConfig(
        criterion="arditi", prune=PRUNE, steering=steering, kl=float(np.quantile(alive, 0.6))
    )


def test_limits_choose_the_same_and_measure_less(tiny):
    everything = scored(tiny)
    limits = limits_of(everything)
    less = scored(tiny, limits=limits)
    one, other = (selection.select(tiny[2], c, limits) for c in (everything, less))
    assert (one.layer, one.position) == (other.layer, other.position)
    np.testing.assert_array_equal(one.vector, other.vector)
    for full, part in zip(everything, less, strict=True):
        for name in ("steering", "kl", "bypass"):
            assert getattr(part, name) in (None, getattr(full, name))
        assert full.steering is not None and full.kl is not None
        dead = full.layer >= PRUNE * 4
        assert (part.steering is None) == dead
        dead = dead or full.steering < limits.steering
        assert (part.kl is None) == dead
        dead = dead or full.kl > limits.kl
        assert (part.bypass is None) == dead
    graded = [c.passed for c in one.candidates]
    assert graded == [c.passed for c in other.candidates] and 0 < sum(graded) < len(graded)
    assert all(c.reason for c in other.candidates if not c.passed)


def test_nothing_passes_names_the_one_that_got_furthest(tiny):
    found = tiny[2]
    limits = SelectConfig(criterion="arditi", prune=PRUNE, steering=-99.0, kl=-1.0)
    less = scored(tiny, limits=limits)
    assert all(c.bypass is None for c in less)
    with pytest.raises(UsageError, match=r"nearest layer .* KL .* > -1") as caught:
        selection.select(found, less, limits)
    assert "\n" not in str(caught.value)
    best = min((c for c in less if c.kl is not None), key=lambda c: c.kl)
    assert f"layer {best.layer}, position {best.position}" in str(caught.value)
    limits = dataclasses.replace(limits, steering=1e3)
    with pytest.raises(UsageError, match=r"steering .* < 1000"):
        selection.select(found, scored(tiny, limits=limits), limits)


def test_ended_in_any_piece_and_resumed_to_the_same_digits(tiny, tmp_path):
    whole = scored(tiny, coefficients=(1.0, 2.0))
    kept = Artifacts(tmp_path)
    for stop in (3, 6, 9):
        asked = []

        def check(asked=asked, stop=stop):
            asked.append(True)
            if len(asked) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            scored(tiny, coefficients=(1.0, 2.0), pieces=Pieces(keep=kept, check=check))
    assert any((tmp_path / "artifacts").iterdir())
    again = scored(tiny, coefficients=(1.0, 2.0), pieces=Pieces(keep=kept))
    assert again == whole

"""Bans, top-p, temperature and stops, against distributions written by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling import processors
from jaxsafety.sampling.prompts import row_keys

PROBS = np.array([0.4, 0.3, 0.15, 0.1, 0.05])


def draws(cfg: SampleConfig, count: int = 4000) -> np.ndarray:
    keys = row_keys(0, 0, range(count), [0] * count)
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(PROBS, jnp.float32)), (count, 5))
    drawn = processors.choose(keys, logits, cfg.temperature, cfg.top_p, cfg.banned)
    return np.bincount(np.asarray(drawn), minlength=5)


def chi_square(seen: np.ndarray, probs: np.ndarray) -> float:
    probs = probs / probs.sum()
    expected = probs[probs > 0] * seen.sum()
    assert (seen[probs == 0] == 0).all()
    return float(((seen[probs > 0] - expected) ** 2 / expected).sum())


def test_samples_follow_the_model():
    assert chi_square(draws(SampleConfig()), PROBS) < 18.5  # p = .001 at 4 degrees of freedom


def test_temperature_sharpens():
    assert chi_square(draws(SampleConfig(temperature=0.5)), PROBS**2) < 18.5


def test_top_p_keeps_the_smallest_sufficient_set():
    kept = np.where(np.arange(5) < 2, PROBS, 0)
    assert chi_square(draws(SampleConfig(top_p=0.65)), kept) < 13.9
    assert set(np.flatnonzero(draws(SampleConfig(top_p=0.75)))) == {0, 1, 2}
    assert set(np.flatnonzero(draws(SampleConfig(top_p=1e-6)))) == {0}


def test_top_p_does_not_grow_on_ties():
    logits = jnp.zeros((1, 8))
    kept = np.isfinite(np.asarray(processors.nucleus(logits, 0.5)))[0]
    assert kept.tolist() == [True] * 4 + [False] * 4


def test_banned_ids_are_never_chosen_and_the_rest_keep_their_odds():
    kept = np.array([0, 0.3, 0.15, 0, 0.05])
    assert chi_square(draws(SampleConfig(banned=(0, 3))), kept) < 13.9
    assert draws(SampleConfig(temperature=0.0, banned=(0,)))[1] == 4000


def test_stops_and_logp():
    tokens = jnp.asarray([3, 1, 2])
    assert processors.is_stop(tokens, (1, 2)).tolist() == [False, True, True]
    assert not processors.is_stop(tokens, ()).any()
    logits = jnp.log(jnp.asarray(np.tile(PROBS, (3, 1)), jnp.float32)) + 7
    np.testing.assert_allclose(
        processors.token_logp(logits, tokens), np.log(PROBS[[3, 1, 2]]), atol=1e-5
    )


def test_row_keys_differ_in_every_coordinate():
    def key(seed, step, prompt, sample):
        return tuple(jax.random.key_data(row_keys(seed, step, [prompt], [sample]))[0].tolist())

    grid = [(a, b, c, d) for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1)]
    assert len({key(*place) for place in grid}) == len(grid)
    many = row_keys(3, 2, [5, 6], [1, 0])
    assert tuple(jax.random.key_data(many)[1].tolist()) == key(3, 2, 6, 0)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_tokens": -1}, "sample.max_tokens"),
        ({"temperature": -0.1}, "sample.temperature"),
        ({"top_p": 1.5}, "sample.top_p"),
        ({"banned": (9,)}, "sample.banned"),
        ({"banned": (0, 1, 2, 3, 4)}, "sample.banned"),
    ],
)
def test_impossible_options_are_refused(options, field):
    with pytest.raises(UsageError, match=field):
        processors.check(SampleConfig(**options), 5)

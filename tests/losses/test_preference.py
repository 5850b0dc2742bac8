"""DPO: its formula, what it does at the reference, and its gradient."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsafety.losses.preference import dpo

NATS = st.floats(-40, 0, width=32)
PAIR = st.lists(st.tuples(NATS, NATS), min_size=3, max_size=3)


@settings(deadline=None)
@given(PAIR, PAIR, st.floats(0.01, 2))
def test_it_is_the_formula(policy, reference, beta):
    weight = np.array([0.5, 0.25, 0.25])
    loss, told = dpo(*map(jnp.asarray, (policy, reference, weight)), beta=beta)
    want = margins = 0.0
    for (a, b), (c, d), w in zip(policy, reference, weight, strict=True):
        margin = beta * ((a - c) - (b - d))
        want += w * (math.log1p(math.exp(-abs(margin))) + max(-margin, 0.0))
        margins += w * margin
    assert loss == pytest.approx(want, rel=1e-4, abs=1e-6)
    assert told["margin"] == pytest.approx(margins, rel=1e-4, abs=1e-4)


def test_at_the_reference_it_is_log_2_and_pulls_both_ways():
    told = jnp.array([[-3.0, -5.0], [-7.0, -1.0]])
    loss, slope = jax.value_and_grad(lambda x: dpo(x, told, jnp.array([0.5, 0.5]), beta=0.2)[0])(
        told
    )
    assert loss == pytest.approx(math.log(2))
    np.testing.assert_allclose(slope, [[-0.05, 0.05]] * 2, rtol=1e-6)


def test_nothing_goes_through_the_reference():
    told = jnp.array([[-3.0, -5.0]])
    slope = jax.grad(lambda ref: dpo(told, ref, jnp.ones(1))[0])(told + 1)
    assert not np.any(slope)


def test_micro_batches_add_up():
    rng = np.random.default_rng(0)
    policy, reference = jnp.asarray(-rng.random((2, 6, 2)) * 9)
    weight = jnp.full(6, 1 / 6)
    whole, _ = dpo(policy, reference, weight)
    parts = [dpo(policy[i::2], reference[i::2], weight[i::2])[0] for i in range(2)]
    assert whole == pytest.approx(float(sum(parts)), rel=1e-6)

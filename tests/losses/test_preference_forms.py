"""The family of preference losses: its table of gradients, its fixed points, its symmetries."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsafety.core.errors import UsageError
from jaxsafety.losses.preference import FORMS, Preference, dpo, logits, preference, shift

SAFE = dict(weights=(0.01, 0.99), orientations=("high",))
SCORED = FORMS[1:]


def random(seed, rows=6, objectives=1):
    rng = np.random.default_rng(seed)
    policy, reference = -9 * rng.random((2, rows, 2))
    weight = rng.random(rows)
    return dict(
        policy=policy,
        reference=reference,
        weight=weight / weight.sum(),
        scores=rng.random((rows, 2, objectives)),
        label=rng.random(rows),
        sizes=rng.integers(1, 9, (rows, 2)),
    )


def of(form, **more):
    scored = {} if form == "dpo" else dict(weights=(0.4, 0.6), orientations=("high",))
    return Preference(form, **{**scored, **more})


def value(cfg, policy, reference, weight, **more):
    if cfg.form == "dpo":
        more.pop("scores", None)
    return float(preference(cfg, policy, reference, weight, **more)[0])


def test_without_further_weights_the_original_is_dpo():
    told = random(0)
    both = [told[name] for name in ("policy", "reference", "weight")]
    for cfg in (Preference("modpo", 0.3), Preference("no_w0", 0.3), Preference("paper_eq2", 0.3)):
        assert preference(cfg, *both)[0] == pytest.approx(float(dpo(*both, beta=0.3)[0]), abs=1e-6)
    zero = Preference("modpo", 0.3, weights=(1.0, 0.0), orientations=("low",))
    found, slope = jax.value_and_grad(
        lambda p: preference(zero, p, *both[1:], scores=told["scores"])[0]
    )(both[0])
    want, along = jax.value_and_grad(lambda p: dpo(p, *both[1:], beta=0.3)[0])(both[0])
    assert found == pytest.approx(float(want), abs=1e-6)
    np.testing.assert_allclose(slope, along, atol=1e-6)


# |dL/dD| at D = 0 by the difference of scores: beta 0.1, weights 0.01 and 0.99. Worked out by hand
# from the formulas: slope of z times sigma(-z).
GRADIENTS = {
    "modpo": {-1.0: 1.01e-42, -0.5: 3.18e-21, 0.0: 5.0, 0.5: 10.0, 1.0: 10.0},
    "paper_eq1": {-1.0: 5.02e-4, -0.5: 0.0703, 0.0: 5.0, 0.5: 9.93, 1.0: 10.0},
    "paper_eq2": {-1.0: 0.0475, -0.5: 0.0488, 0.0: 0.05, 0.5: 0.0512, 1.0: 0.0525},
    "no_w0": {-1.0: 0.0271, -0.5: 0.0379, 0.0: 0.05, 0.5: 0.0621, 1.0: 0.0729},
}


@pytest.mark.parametrize("form", GRADIENTS)
def test_the_table_of_gradients(form):
    cfg = Preference(form, 0.1, **SAFE)
    with jax.enable_x64(True):
        for apart, want in GRADIENTS[form].items():
            scores = jnp.array([[[max(apart, 0.0)], [max(-apart, 0.0)]]])

            def loss(policy, scores=scores):
                return preference(cfg, policy, jnp.zeros((1, 2)), jnp.ones(1), scores=scores)[0]

            slope = jax.grad(loss)(jnp.zeros((1, 2)))
            assert float(f"{-slope[0, 0]:.3g}") == want
            assert float(slope[0, 1]) == float(-slope[0, 0])


# A policy over six answers to one prompt, a reward that orders pairs and a score.
RNG = np.random.default_rng(3)
REFERENCE = np.log(RNG.dirichlet(np.full(6, 2.0)))
REWARD, SCORE = RNG.normal(size=6), RNG.random(6)
W0, W, BETA = 0.4, 0.6, 0.5


def tilted(form):
    """The closed form of each: the reference tilted by what D is at the fixed point."""
    up = {
        "dpo": REWARD / BETA,
        "modpo": (W0 * REWARD + W * SCORE) / BETA,
        "paper_eq1": W0 * REWARD / BETA + W * SCORE,
        "paper_eq2": REWARD / BETA + W * SCORE,
        "no_w0": (REWARD + W * SCORE) / BETA,
    }[form]
    return jax.nn.log_softmax(REFERENCE + up)


def trained(form):
    """Log-probabilities after training on exact expectations: labels are Bradley-Terry's."""
    first, second = np.tril_indices(6, -1)
    sides = np.stack([first, second], 1)
    label = 1 / (1 + np.exp(REWARD[second] - REWARD[first]))
    weight = np.full(len(first), 1 / len(first))
    cfg = of(form, beta=BETA)
    scores = None if form == "dpo" else jnp.asarray(SCORE[sides][..., None])
    tx = optax.adam(optax.cosine_decay_schedule(0.1, 1500))

    def loss(theta):
        policy = jax.nn.log_softmax(theta)[sides]
        return preference(cfg, policy, REFERENCE[sides], weight, scores=scores, label=label)[0]

    def step(carry, _):
        theta, state = carry
        updates, state = tx.update(jax.grad(loss)(theta), state)
        return (optax.apply_updates(theta, updates), state), None

    start = jnp.asarray(REFERENCE)
    (theta, _), _ = jax.jit(partial(jax.lax.scan, step, length=1500))((start, tx.init(start)), None)
    return jax.nn.log_softmax(theta)


def kl(a, b):
    return float(jnp.sum(jnp.exp(a) * (a - b)))


def test_each_form_has_its_own_fixed_point():
    intended = tilted("modpo")
    for form in FORMS:
        found = trained(form)
        assert kl(found, tilted(form)) < 1e-3, form
        assert (kl(found, intended) < 1e-3) == (form == "modpo"), form
        assert kl(found, REFERENCE) > 1e-2, form


@pytest.mark.parametrize("form", SCORED)
def test_what_is_worse_given_as_low_is_what_is_better_given_as_high(form):
    told = random(1)
    high, low = (of(form, orientations=(name,)) for name in ("high", "low"))
    unsafe = {**told, "scores": 1 - told["scores"]}
    assert value(low, **unsafe) == pytest.approx(value(high, **told), abs=1e-6)
    assert value(high, **unsafe) != pytest.approx(value(high, **told), abs=1e-3)


SEEDS = st.integers(0, 2**16)


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.sampled_from(FORMS), st.permutations(range(6)), st.floats(0.1, 8))
def test_order_and_scale_of_the_pairs(seed, form, order, factor):
    told, cfg = random(seed), of(form, normalised=True)
    whole = value(cfg, **told)
    moved = {name: x[list(order)] for name, x in told.items()}
    assert value(cfg, **moved) == pytest.approx(whole, rel=1e-5)
    scaled = {**told, "weight": factor * told["weight"]}
    assert value(cfg, **scaled) == pytest.approx(factor * whole, rel=1e-5)
    padded = {name: np.concatenate([x, x]) for name, x in told.items()}
    padded["weight"][6:] = 0
    assert value(cfg, **padded) == pytest.approx(whole, rel=1e-5)
    parts = [value(cfg, **{name: x[i::2] for name, x in told.items()}) for i in range(2)]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.sampled_from(FORMS), st.floats(0, 0.49))
def test_a_pair_turned_round_with_its_label_is_the_same(seed, form, eps):
    told, cfg = random(seed), of(form, smoothing=eps)
    turned = {k: x[:, ::-1] if x.ndim > 1 else x for k, x in told.items()}
    turned["label"] = 1 - told["label"]
    assert value(cfg, **turned) == pytest.approx(value(cfg, **told), rel=1e-5)
    # Smoothing is a label, and the loss is linear in labels.
    plain = of(form)
    moved = told["label"] * (1 - eps) + (1 - told["label"]) * eps
    assert value(cfg, **told) == pytest.approx(value(plain, **{**told, "label": moved}), rel=1e-5)
    sure, wrong = (value(plain, **{**told, "label": np.full(6, x)}) for x in (1.0, 0.0))
    half = value(plain, **{**told, "label": np.full(6, 0.5)})
    assert half == pytest.approx((sure + wrong) / 2, rel=1e-5)


def test_means_are_sums_over_their_tokens():
    told = random(2)
    sizes = told.pop("sizes")
    mean = value(of("modpo", normalised=True), **told, sizes=sizes)
    divided = {**told, **{k: told[k] / sizes for k in ("policy", "reference")}}
    assert mean == pytest.approx(value(of("modpo"), **divided), rel=1e-6)
    with pytest.raises(UsageError, match=r"preference\.sizes: got None"):
        value(of("modpo", normalised=True), **told)


def test_several_objectives_add_up():
    told = random(4, objectives=2)
    cfg = Preference("no_w0", weights=(1.0, 0.5, 0.2), orientations=("high", "low"))
    better = told["scores"][:, 0] - told["scores"][:, 1]
    np.testing.assert_allclose(
        shift(cfg, told["scores"]), 0.5 * better[:, 0] - 0.2 * better[:, 1], rtol=1e-5
    )
    np.testing.assert_allclose(logits(cfg, jnp.ones(6), jnp.full(6, 0.3)), -0.2, rtol=1e-5)
    with pytest.raises(UsageError, match=r"preference\.scores: got '1 objectives'; allowed: 2"):
        shift(cfg, told["scores"][..., :1])


def test_equal_settings_are_equal():
    assert of("modpo") == of("modpo") and hash(of("modpo")) == hash(of("modpo"))
    assert of("modpo") != dataclasses.replace(of("modpo"), beta=0.2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(form="ipo"), "form: got 'ipo'; allowed: dpo, modpo"),
        (dict(beta=0.0), "beta: got 0.0"),
        (dict(beta=math.inf), "beta: got inf"),
        (dict(form="modpo", weights=(0.0, 1.0), orientations=("high",)), "modpo divides by it"),
        (dict(form="no_w0", weights=(1.0, math.nan), orientations=("high",)), "weights: got"),
        (dict(form="no_w0", weights=()), r"weights: got \(\)"),
        (dict(weights=(0.5, 0.5), orientations=("high",)), "modpo, paper_eq1.*read scores"),
        (dict(form="modpo", weights=(0.5, 0.5)), r"orientations: got \(\); allowed: high or low"),
        (
            dict(form="modpo", weights=(0.5, 0.5), orientations=("up",)),
            r"orientations: got \('up',\); allowed: high or low for each of the 1",
        ),
        (dict(orientations=("high",)), "orientations: got .*each of the 0"),
        (dict(smoothing=0.5), "smoothing: got 0.5"),
    ],
)
def test_what_is_refused(change, words):
    with pytest.raises(UsageError, match=f"preference.*{words}"):
        Preference(**change)

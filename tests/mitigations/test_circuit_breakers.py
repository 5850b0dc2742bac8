"""Circuit breakers: both terms where they are known, their gradients, the schedule, and resumes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.core.config import typed
from jaxsafety.core.errors import UsageError
from jaxsafety.mitigations.circuit_breakers import (
    CircuitBreakers,
    alignment,
    chosen,
    count,
    distance,
    states,
)
from jaxsafety.mitigations.means import build, factor, missing
from jaxsafety.protocols import EXTRA
from jaxsafety.registry import MITIGATIONS, resolve
from jaxsafety.train.metrics import read_metrics
from tests.mitigations import aligning

KEY = jax.random.key(2)
NAME = "circuit_breakers"
MASK = jnp.asarray([[True, True, False], [True, False, False]])


def made(**given):
    return CircuitBreakers(**given).mitigation(aligning.means())


def vectors(seed):
    """[L=2,B=2,T=3,D=4]."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=(2, 2, 3, 4)), jnp.float32)


def test_of_equal_states_the_distance_is_0_and_the_alignment_1_with_finite_gradients():
    h = vectors(0)
    for term, expected in ((distance, 0.0), (alignment, 1.0)):
        value, grad = jax.value_and_grad(term)(h, h, MASK)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        assert np.isfinite(grad).all() and np.abs(grad).max() < 1e-6


def test_orthogonal_and_opposite_states_are_aligned_by_0():
    h = vectors(1)
    turned = jnp.stack([h[..., 1], -h[..., 0], h[..., 3], -h[..., 2]], axis=-1)
    np.testing.assert_allclose(alignment(turned, h, MASK), 0, atol=1e-7)
    assert alignment(-h, h, MASK) == 0
    assert not np.asarray(jax.grad(alignment)(-h, h, MASK)).any()  # nothing pushes further


def test_the_terms_are_the_dense_formulas_and_padding_does_not_count():
    now, start = vectors(2), vectors(3)
    a, b = np.float64(now), np.float64(start)
    tokens = np.broadcast_to(np.asarray(MASK), (2, 2, 3))
    far = np.linalg.norm(a - b, axis=-1)[tokens].mean()
    cosines = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    np.testing.assert_allclose(distance(now, start, MASK), far, rtol=1e-6)
    expected = np.maximum(cosines, 0)[tokens].mean()
    np.testing.assert_allclose(alignment(now, start, MASK), expected, rtol=1e-6)
    assert (cosines[tokens] < 0).any() and (cosines[tokens] > 0).any()
    padding = jnp.where(MASK[..., None], now, 1e6)
    for term in (distance, alignment):
        assert term(padding, start, MASK) == term(now, start, MASK)
        grad = np.asarray(jax.grad(term)(now, start, MASK))
        assert grad[tokens].any() and not grad[~tokens].any()


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e12])
def test_states_of_any_length_have_finite_terms_and_gradients(size):
    h = vectors(4)
    for now, start in ((size * h, h), (h, size * h), (size * h, size * h)):
        for term in (distance, alignment):
            value, grad = jax.value_and_grad(term)(now, start, MASK)
            assert np.isfinite(value) and np.isfinite(grad).all()
        np.testing.assert_allclose(alignment(now, start, MASK), float(size > 0), rtol=1e-5)
    assert distance(h, h, jnp.zeros_like(MASK)) == 0 == alignment(h, h, jnp.zeros_like(MASK))


def test_states_are_counted_as_in_transformers():
    rows = jax.tree.map(jnp.asarray, aligning.dialogues(3, 1))
    found = states(aligning.tiny()[0], {"base": aligning.tiny()[1]}, rows)
    out = aligning.tiny()[0].apply(
        aligning.tiny()[1], rows.tokens, rows.positions, segments=rows.segments, capture=True
    )
    assert found.shape == (3, 3, 14, 32)
    np.testing.assert_array_equal(found[0], aligning.tiny()[1]["embed"]["table"][rows.tokens])
    np.testing.assert_array_equal(found[-1], out.hidden)
    np.testing.assert_array_equal(found[1], out.residuals[1])


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_the_loss_is_the_schedule_of_both_and_starts_where_it_began(rank):
    hooks = made(alpha=4.0, over=10, layers=(1,))
    hook = jax.jit(jax.value_and_grad(hooks.loss(no_loss, 0.5), has_aux=True))
    params, frozen = aligning.at_hand(hooks, rank)
    for done, q in ((0, 0.1), (4, 0.5), (30, 1.0)):
        here = at(frozen, done)
        (value, metrics), grads = hook(params, here, None, KEY)
        retain, reroute = (metrics[f"{NAME}/{name}"] for name in ("retain", "reroute"))
        np.testing.assert_allclose([retain, reroute], [0, 0.5], atol=2e-5)  # halves of 0 and 1
        np.testing.assert_allclose(value, 4 * (q * retain + (1 - q) * reroute), rtol=1e-6)
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    moved, _ = aligning.at_hand(hooks, rank, moved=0.1)
    (value, metrics), grads = hook(moved, at(frozen, 4), None, KEY)
    retain, reroute = (metrics[f"{NAME}/{name}"] for name in ("retain", "reroute"))
    assert retain > 0.05 and 0 < reroute < 0.499 and "nll" not in metrics
    np.testing.assert_allclose(value, 4 * (0.5 * retain + 0.5 * reroute), rtol=1e-6)
    assert max(np.abs(g).max() for g in jax.tree.leaves(grads)) > 1e-3


def no_loss(*args):
    """The stage's own, which is replaced."""
    raise AssertionError("called")


def at(frozen, done):
    """The same after so many updates."""
    carried = {**frozen[EXTRA][NAME], "done": jnp.int32(done)}
    return {**frozen, EXTRA: {NAME: carried}}


def test_what_it_carries():
    hooks = made()
    params, frozen = aligning.at_hand(hooks, rank=2)
    carried = frozen[EXTRA][NAME]
    assert trees.diff(carried["start"], params) == ""
    start, own = (jax.tree.leaves(x) for x in (carried["start"], params))
    assert all(a is not b for a, b in zip(start, own, strict=True))  # both are donated
    after = count(carried, params, jnp.int32(7))
    assert after["done"] == 1 and after["start"] is carried["start"]


def test_layers_are_the_paper_s_scaled_to_the_depth():
    assert chosen((), 32) == (10, 20)
    assert [chosen((), n) for n in (1, 2, 6, 16, 30)] == [(1,), (1,), (2, 4), (5, 10), (9, 19)]
    assert chosen((3, 6), 6) == (3, 6)
    for layers in ((0,), (7,), (2, 2)):
        with pytest.raises(UsageError, match=r"layers: got .* different ones from 1 to 6"):
            chosen(layers, 6)


@pytest.mark.slow
def test_it_resumes_to_the_same_bits_and_compiles_once(tmp_path, monkeypatch):
    given = aligning.means(rows=4)
    settings = CircuitBreakers(over=8)
    aligning.check_resumed(tmp_path, lambda: settings.mitigation(given), monkeypatch, rank=1)


@pytest.mark.slow
def test_harmful_states_move_and_harmless_ones_less(tmp_path):
    own = {"harmful": aligning.dialogues(6, 2, top=100), "harmless": aligning.dialogues(6, 3)}
    hooks = CircuitBreakers(over=60).mitigation(aligning.means(**own))
    trained = aligning.stage(hooks, steps=40)
    optim = trained.optim.__class__(lr=0.01, clip=0.0, warmup=0.0)
    final = aligning.run(tmp_path, trained._replace(optim=optim))
    rows = read_metrics(tmp_path)
    assert rows[0][f"{NAME}/reroute"] == pytest.approx(1, abs=1e-5)
    assert rows[0][f"{NAME}/retain"] < 1e-5
    assert np.mean([row[f"{NAME}/reroute"] for row in rows[-5:]]) < 0.5
    start = aligning.variables()

    def shift(dialogues):
        rows = jax.tree.map(jnp.asarray, dialogues)
        a, b = (states(aligning.tiny()[0], v, rows)[1:2] for v in (final, start))
        return float(alignment(a, b, rows.segments > 0))

    assert shift(own["harmful"]) < shift(own["harmless"]) - 0.1


@pytest.mark.slow
def test_equal_draws_of_micro_batches_add_up_to_the_whole(tmp_path):
    """From parameters that are moved: at the start rounding alone decides."""
    one = {"harmful": aligning.dialogues(1, 2), "harmless": aligning.dialogues(1, 3)}
    found = []
    for accum in (1, 2):
        hooks = CircuitBreakers(alpha=0.1).mitigation(aligning.means(**one))
        compute = jax.jit(aligning.gradients(hooks, accum=accum))
        params, frozen = aligning.at_hand(hooks, moved=0.1)
        parts = [compute(params, frozen, None, jax.random.key(i)) for i in range(accum)]
        found.append(jax.tree.map(lambda *x: sum(x), *parts))
    aligning.close(*found, rtol=1e-4, atol=1e-6)


def test_needs_costs_and_bad_settings():
    settings = typed(resolve(MITIGATIONS, NAME), {"alpha": 2.0}, f"mitigations.{NAME}")
    assert settings == CircuitBreakers(2.0) and settings.alpha == 2
    budget = made().budget
    assert budget == {"harmful": 10, "gradients": 1, "forwards": 2, "copies": 1}
    assert factor(budget) == pytest.approx(8 / 3)
    assert factor(made(rows=4).budget) == pytest.approx(4 / 3)
    for name in ("harmful", "harmless"):
        assert missing(settings, aligning.means(**{name: None})).startswith("no dialogues of")
    with pytest.raises(UsageError, match="circuit_breakers with vaccine.*replace the loss"):
        build({NAME: settings, "vaccine": resolve(MITIGATIONS, "vaccine")()}, aligning.means())
    for bad in ({"alpha": 0.0}, {"alpha": float("inf")}, {"over": 0}, {"rows": -1}):
        with pytest.raises(UsageError, match=r"^mitigations\.circuit_breakers\.[a-z]+: got "):
            CircuitBreakers(**bad)
    with pytest.raises(UsageError, match=r"rows: got 6.*optim\.accum, 4"):
        made(rows=6).loss(no_loss, 0.25)
    routed = {"base": aligning.tiny()[1], "adapters": {"router": {}}}
    with pytest.raises(UsageError, match="experts with a router"):
        states(aligning.tiny()[0], routed, aligning.dialogues(2, 1))

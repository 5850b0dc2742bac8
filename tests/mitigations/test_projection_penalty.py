"""The penalty along the direction: its formula, positions, gradient, draws and accumulation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.core.config import typed
from jaxsafety.core.errors import UsageError
from jaxsafety.mitigations.means import build
from jaxsafety.mitigations.projection import Projection, aim, prompts
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import EXTRA
from jaxsafety.registry import MITIGATIONS, resolve
from tests.mitigations import guarded


def nothing(params, frozen, batch, key):
    return jnp.zeros(()), {}


def stream(every, rows):
    """[B,T,D] that enters the direction's block."""
    layers = LayerInputs(adapters=every.get("adapters"))
    given = {"segments": rows.segments, "layers": layers, "capture": True}
    model, _ = guarded.tiny()
    out = model.apply(every["base"], rows.tokens, rows.positions, **given)
    assert out.residuals is not None  # captured
    return out.residuals[guarded.LAYER]


@pytest.mark.parametrize(("on", "rank"), [("harmful", 2), ("task", 0)])
def test_the_term_and_its_gradient_are_the_formula_s(on, rank):
    one = guarded.dialogues(1, 3)  # every draw is this row
    given = guarded.means(harmful=one)
    made = Projection(0.7, on).mitigation(given)
    start, frozen = guarded.prepared(made, rank)
    batch, key = guarded.offline(None, 0), jax.random.key(0)
    rows, weight = (batch, batch.weight) if on == "task" else (one, None)
    if weight is None:  # the tokens before the first learnt one
        before = np.flatnonzero(one.weight[0] > 0)[0]
        weight = np.where(np.arange(guarded.WIDTH) < before, 1 / before, 0)[None]
    rest = {name: x for name, x in frozen.items() if name != EXTRA}
    steer = np.asarray(given.steer, np.float64)[guarded.LAYER]
    unit = steer / np.linalg.norm(steer)
    base = guarded.tiny()[1]
    hook = made.loss(nothing, 1.0)

    def ours(params):
        return hook(params, frozen, batch, key)

    def plain(params):
        both = stream(trees.combine(params, rest), rows), stream({"base": base}, rows)
        gap = both[0] - both[1]
        return 0.7 * jnp.sum(weight * jnp.square(gap @ np.float32(unit))), both

    compute = jax.jit(jax.value_and_grad(ours, has_aux=True))
    assert compute(start)[0][0] == 0  # at the start to the bit
    params = guarded.moved(start)
    (value, metrics), grads = compute(params)
    slopes, both = jax.jit(jax.grad(plain, has_aux=True))(params)
    now, then = (np.asarray(x, np.float64) for x in both)
    expected = np.sum(weight * np.square((now - then) @ unit))
    assert expected > 1e-4
    np.testing.assert_allclose(metrics["projection"], expected, rtol=1e-4)
    np.testing.assert_allclose(value, 0.7 * expected, rtol=1e-4)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(slopes), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_prompts_weigh_the_same():
    rows = guarded.dialogues(6, 4)
    found = np.asarray(prompts(rows))
    np.testing.assert_allclose(found.sum(axis=1), 1 / 6, rtol=1e-6)
    for weight, learnt in zip(found, rows.weight, strict=True):
        before = np.flatnonzero(learnt > 0)[0]
        np.testing.assert_allclose(weight[:before], 1 / 6 / before, rtol=1e-6)
        assert not weight[before:].any()


def test_a_direction_stands_at_one_layer():
    steer = np.zeros((3, 4), np.float32)
    with pytest.raises(UsageError, match=r"^mitigations\.projection: got .*allowed: one layer"):
        aim(steer)
    steer[1, 2] = -3.0
    layer, unit = aim(steer)
    assert layer == 1 and unit.tolist() == [0, 0, -1, 0]
    steer[2] = 1.0
    with pytest.raises(UsageError, match=r"at layers \[1, 2\]"):
        aim(steer)


@pytest.mark.slow
def test_micro_batches_add_up(tmp_path):
    guarded.check_accumulates(tmp_path, Projection(1.0), "projection")
    odd = Projection(rows=3).mitigation(guarded.means())
    with pytest.raises(UsageError, match=r"^mitigations\.projection\.rows: got 3"):
        guarded.run(tmp_path / "odd", guarded.stage(odd, 2, accum=2))


@pytest.mark.slow
def test_it_resumes_to_the_same_bits_and_compiles_once(tmp_path, monkeypatch):
    given = guarded.means()
    guarded.check_resumes(tmp_path, lambda: Projection(0.5).mitigation(given), 2, monkeypatch)


@pytest.mark.slow
def test_parameters_in_bfloat16(tmp_path):
    made = Projection(1.0).mitigation(guarded.means())
    guarded.check_bfloat16(tmp_path, made, "projection")


def test_settings_needs_and_budget():
    made = typed(resolve(MITIGATIONS, "projection"), {"on": "task"}, "mitigations.projection")
    assert made == Projection(on="task")
    whole = {"gradients": 1.0, "forwards": 1.0, "copies": 1}
    assert build({"projection": made}, guarded.means(safe=None, harmful=None)).budget == whole
    half = {"gradients": 0.5, "forwards": 0.5, "copies": 1}
    harmful = Projection(on="harmful").mitigation(guarded.means())
    assert harmful.budget == {**half, "harmful": 4}
    for lacking, why in (("steer", "no refusal direction"), ("safe", "no dialogues of harmful")):
        with pytest.raises(UsageError, match=rf"mitigations\.projection.*{why}"):
            build({"projection": Projection()}, guarded.means(**{lacking: None}))
    wrongs: list[dict] = [
        {"strength": 0.0},
        {"strength": float("inf")},
        {"on": "all"},
        {"rows": -1},
        {"on": "task", "rows": 2},
    ]
    for wrong in wrongs:
        with pytest.raises(UsageError, match=r"^mitigations\.projection\."):
            Projection(**wrong)

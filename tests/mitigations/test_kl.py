"""KL to the start: the dense formula and its gradient, both references, draws, accumulation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.core.config import typed
from jaxsafety.core.errors import UsageError
from jaxsafety.mitigations.kl import Kl
from jaxsafety.mitigations.means import build, factor
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import EXTRA
from jaxsafety.registry import MITIGATIONS, resolve
from jaxsafety.train.assemble import own_loss
from jaxsafety.train.likelihood import answer_loss
from tests.mitigations import guarded


def nothing(params, frozen, batch, key):
    return jnp.zeros(()), {}


@jax.jit
def logits(every, rows):
    """[B,T-1,V] that predict tokens[:, 1:]."""
    model, _ = guarded.tiny()
    given = (rows.tokens, rows.positions)
    layers = LayerInputs(adapters=every.get("adapters"))
    out = model.apply(every["base"], *given, segments=rows.segments, layers=layers)
    return model.unembed(every["base"], out.hidden)[:, :-1]


def dense(every, base, rows):
    ours, theirs = (jax.nn.log_softmax(logits(x, rows)) for x in (every, {"base": base}))
    kl = jnp.sum(jnp.exp(ours) * (ours - theirs), axis=-1)
    return jnp.sum(rows.weight[:, 1:] * kl)


def exact(every, base, rows):
    """The same from the logits on in float64."""

    def logp(every):
        x = np.asarray(logits(every, rows), np.float64)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    ours, theirs = logp(every), logp({"base": base})
    kl = (np.exp(ours) * (ours - theirs)).sum(-1)
    return float((np.asarray(rows.weight, np.float64)[:, 1:] * kl).sum())


@pytest.mark.parametrize(("on", "rank"), [("safe", 2), ("task", 0)])
def test_the_term_and_its_gradient_are_the_dense_formula_s(on, rank):
    one = guarded.dialogues(1, 2)  # every draw is this row
    made = Kl(0.7, on).mitigation(guarded.means(safe=one))
    start, frozen = guarded.prepared(made, rank)
    batch, key = guarded.offline(None, 0), jax.random.key(0)
    rows = one if on == "safe" else batch
    hook = made.loss(nothing, 1.0)
    base = guarded.tiny()[1]

    def ours(params):
        return hook(params, frozen, batch, key)

    def plain(params):
        rest = {name: x for name, x in frozen.items() if name != EXTRA}
        return 0.7 * dense(trees.combine(params, rest), base, rows)

    value, metrics = jax.jit(ours)(start)
    assert value == 0 and metrics["kl"] == 0  # at the start to the bit
    params = guarded.moved(start, 0.2)  # a tiny divergence is a difference of likes
    (value, metrics), grads = jax.jit(jax.value_and_grad(ours, has_aux=True))(params)
    every = trees.combine(params, {k: v for k, v in frozen.items() if k != EXTRA})
    expected = exact(every, base, rows)
    assert expected > 1e-3
    np.testing.assert_allclose(metrics["kl"], expected, rtol=2e-5)
    np.testing.assert_allclose(value, 0.7 * expected, rtol=2e-5)
    slopes = jax.jit(jax.grad(plain))(params)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(slopes), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    copies = jax.tree.leaves(frozen[EXTRA]["kl"]["start"])
    assert bool(copies) == (not rank)  # with adapters the base is not copied


def test_on_the_task_it_costs_one_frozen_pass_and_has_the_values_of_a_pass_of_its_own():
    made = Kl(0.7, "task").mitigation(guarded.means())
    batch = guarded.offline(None, 0)
    count, ratio = guarded.passes(made, batch)
    assert count == 2 and ratio < 1.15 * factor(made.budget)
    count, own = guarded.passes(made, batch, wrapped=True)
    assert count == 3 and own > ratio + 0.3
    start, frozen = guarded.prepared(made, 0)
    params, loss = guarded.moved(start), own_loss(answer_loss(guarded.tiny()[0], train_head=True))
    found = []
    for given in (loss, lambda *args: loss(*args)):
        step = jax.jit(jax.value_and_grad(made.loss(given, 1.0), has_aux=True))
        found.append(step(params, frozen, batch, jax.random.key(0)))
    assert found[0][0][1]["kl"] > 1e-3
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
def test_it_holds_the_model_to_its_start(tmp_path):
    found = []
    for strength in (1e-6, 3.0, 10.0):
        made = Kl(strength, "task").mitigation(guarded.means())
        _, rows = guarded.run(tmp_path / f"{strength}", guarded.stage(made, 2, steps=8))
        assert rows[0]["kl"] == 0
        found.append(rows[-1]["kl"])
    assert found == sorted(found, reverse=True)
    assert 0 < found[2] < 0.7 * found[0]


@pytest.mark.slow
def test_micro_batches_add_up(tmp_path):
    guarded.check_accumulates(tmp_path, Kl(1.0), "kl")
    odd = Kl(rows=3).mitigation(guarded.means())
    with pytest.raises(UsageError, match=r"^mitigations\.kl\.rows: got 3.*optim\.accum, 2"):
        guarded.run(tmp_path / "odd", guarded.stage(odd, 2, accum=2))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_it_resumes_to_the_same_bits_and_compiles_once(tmp_path, monkeypatch, rank):
    given = guarded.means()
    guarded.check_resumes(tmp_path, lambda: Kl(0.5).mitigation(given), rank, monkeypatch)


@pytest.mark.slow
def test_parameters_in_bfloat16(tmp_path):
    guarded.check_bfloat16(tmp_path, Kl(1.0).mitigation(guarded.means()), "kl")


def test_budget_and_needs():
    given = guarded.means()
    assert Kl().mitigation(given).budget == {
        "gradients": 0.5,
        "forwards": 0.5,
        "copies": 1,
        "safe": 5,
    }
    task = build({"kl": Kl(on="task")}, guarded.means(safe=None))
    assert task.budget == {"forwards": 1.0, "copies": 1}
    with pytest.raises(UsageError, match=r"mitigations\.kl.*no dialogues of harmful requests"):
        build({"kl": Kl()}, guarded.means(safe=None))


def test_bad_settings_and_stages_are_one_line():
    assert typed(resolve(MITIGATIONS, "kl"), {"on": "task"}, "mitigations.kl") == Kl(on="task")
    wrongs: list[dict] = [
        {"strength": 0.0},
        {"strength": float("nan")},
        {"on": "all"},
        {"rows": -1},
        {"on": "task", "rows": 2},
    ]
    for wrong in wrongs:
        with pytest.raises(UsageError, match=r"^mitigations\.kl\."):
            Kl(**wrong)
    made = Kl(on="task").mitigation(guarded.means())
    params, frozen = guarded.prepared(made, 2)
    hook = made.loss(nothing, 1.0)
    with pytest.raises(UsageError, match=r"^mitigations\.kl: got 'batches of type dict'"):
        hook(params, frozen, {}, jax.random.key(0))
    frozen["adapters"]["router"] = jnp.zeros(2)
    params["adapters"]["router"] = None
    with pytest.raises(UsageError, match=r"^mitigations\.kl: got 'adapters with a router'"):
        hook(params, frozen, guarded.offline(None, 0), jax.random.key(0))

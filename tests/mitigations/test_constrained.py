"""Constrained first tokens: places in packed rows, M1, and that the start is plain SFT."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.core.config import typed
from jaxsafety.core.errors import UsageError
from jaxsafety.data.pipeline import assemble
from jaxsafety.data.schema import Encoded
from jaxsafety.mitigations.anchor import Anchor
from jaxsafety.mitigations.chain import chain
from jaxsafety.mitigations.constrained import Constrained, betas, places, weights
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import EXTRA, Mitigation
from jaxsafety.registry import MITIGATIONS, resolve
from jaxsafety.train.likelihood import answer_loss
from tests.mitigations import guarded

PACKED = assemble(  # two dialogues in a row, the first with two answers; another row
    [
        Encoded(range(2, 14), list(map(bool, [0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1]))),
        Encoded(range(20, 29), list(map(bool, [0, 1, 1, 1, 1, 1, 1, 1, 1]))),
        Encoded(range(30, 34), list(map(bool, [1, 1, 0, 1]))),
    ],
    [[0, 1], [2]],
    24,
)


def test_tokens_are_counted_within_each_answer():
    first = [0, 0, 1, 2, 3, 0, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0]
    second = [0, 1, 0, 1, *[0] * 20]  # the first token of a segment is not predicted
    np.testing.assert_array_equal(places(PACKED), [first, second])
    found = np.asarray(betas(PACKED, Constrained()))
    late = {0: 0.1, 1: 0.5, 2: 2.0, 3: 2.0, 4: 2.0, 5: 2.0, 6: 0.1, 7: 0.1, 8: 0.1}
    np.testing.assert_array_equal(
        found[0], np.asarray([late[place] for place in first], np.float32)
    )
    touching = replace(  # an answer that begins where another segment's ends
        PACKED, weight=np.ones((1, 4), np.float32), segments=np.array([[1, 1, 2, 2]])
    )
    np.testing.assert_array_equal(places(touching), [[1, 2, 1, 2]])


def test_weights_by_hand_and_the_closed_form_s_derivative():
    gap = jnp.asarray([[0.0, 1.5, -2.0, 30.0]])
    beta = jnp.asarray([[0.5, 2.0, 0.1, 2.0]])
    by_hand = 2 * (1 - 1 / (1 + np.exp(-np.float64(beta) * np.float64(gap))))
    np.testing.assert_allclose(weights(gap, beta), np.maximum(by_hand, 1e-3), rtol=1e-5)
    assert weights(gap, beta)[0, 3] == np.float32(1e-3) and weights(gap, beta)[0, 0] == 1
    closed = jax.grad(lambda x: jnp.sum(-2 / beta * jax.nn.log_sigmoid(beta * x)))(gap)
    np.testing.assert_allclose(-closed, weights(gap, beta, 0.0), rtol=1e-5, atol=1e-12)
    assert not np.any(jax.grad(lambda x: jnp.sum(weights(x, beta)))(gap))


def logp(every, rows):
    """[B,T] dense."""
    model, _ = guarded.tiny()
    given = (rows.tokens, rows.positions)
    layers = LayerInputs(adapters=every.get("adapters"))
    out = model.apply(every["base"], *given, segments=rows.segments, layers=layers)
    found = jax.nn.log_softmax(model.unembed(every["base"], out.hidden)[:, :-1])
    picked = jnp.take_along_axis(found, rows.tokens[:, 1:, None], -1)[..., 0]
    return jnp.pad(picked, ((0, 0), (1, 0)))


@pytest.mark.parametrize("rank", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_the_start_is_sft_and_elsewhere_the_gradient_is_the_closed_form_s(rank):
    model, base = guarded.tiny()
    settings = Constrained()
    made = settings.mitigation(guarded.means())
    start, frozen = guarded.prepared(made, rank)
    rows = jax.tree.map(jnp.asarray, PACKED)
    plain = answer_loss(model, train_head=not rank)
    rest = {name: x for name, x in frozen.items() if name != EXTRA}

    def sft(params, frozen, batch, key):
        return plain(params, rest, batch, key)

    both = [jax.jit(jax.value_and_grad(f, has_aux=True)) for f in (made.loss(sft, 1.0), sft)]
    at = [f(start, frozen, rows, None) for f in both]
    np.testing.assert_allclose(at[0][0][0], at[1][0][0], rtol=1e-5)
    np.testing.assert_allclose(at[0][0][1]["constrained"], 1, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(at[0][1]), jax.tree.leaves(at[1][1]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)

    params = guarded.moved(start)
    beta = betas(rows, settings)

    @partial(jax.grad, has_aux=True)
    def closed(params):
        own = logp(trees.combine(params, rest), rows)
        gap = own - logp({"base": base}, rows)
        loss = jnp.sum(rows.weight * -2 / beta * jax.nn.log_sigmoid(beta * gap))
        return loss, (gap, own)

    (value, metrics), grads = both[0](params, frozen, rows, None)
    slopes, seen = jax.jit(closed)(params)
    gaps, mine = (np.asarray(x, np.float64) for x in seen)
    factor = 2 / (1 + np.exp(np.asarray(beta, np.float64) * gaps))
    on = np.asarray(rows.weight) > 0
    assert factor[on].min() > 1e-3 and factor[on].max() > factor[on].min() + 0.1  # clamp off
    np.testing.assert_allclose(value, -np.sum(rows.weight * factor * mine), rtol=2e-5)
    np.testing.assert_allclose(metrics["constrained"], np.sum(rows.weight * factor), rtol=2e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(slopes), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("batches", [guarded.offline, guarded.known()], ids=("any", "known"))
def test_without_betas_training_is_sft_to_the_bit(tmp_path, batches):
    none = Constrained(0.0, 0.0, 0.0).mitigation(guarded.means())
    found = {}
    for name, made in {"none": none, "sft": Mitigation()}.items():
        stage = guarded.stage(made, 2, batches=batches)
        found[name], _ = guarded.run(tmp_path / name, stage)
    assert trees.diff(found["none"], found["sft"]) == ""


@pytest.mark.slow
def test_what_was_chained_before_stays(tmp_path):
    given = guarded.means()
    both = chain(Anchor(0.5).mitigation(), Constrained().mitigation(given))
    _, rows = guarded.run(tmp_path, guarded.stage(both, 2))
    assert rows[-1]["anchor"] > 0 and rows[-1]["constrained"] != 1
    for row in rows:
        np.testing.assert_allclose(row["loss"], row["nll"] + row["anchor"], rtol=1e-5)


@pytest.mark.slow
def test_micro_batches_add_up(tmp_path):
    guarded.check_accumulates(tmp_path, Constrained(), "constrained")


@pytest.mark.slow
def test_it_resumes_to_the_same_bits_and_compiles_once(tmp_path, monkeypatch):
    given = guarded.means()
    guarded.check_resumes(tmp_path, lambda: Constrained().mitigation(given), 0, monkeypatch)


@pytest.mark.slow
def test_parameters_in_bfloat16(tmp_path):
    guarded.check_bfloat16(tmp_path, Constrained().mitigation(guarded.means()), "constrained")


def test_bad_settings_and_stages_are_one_line():
    made = typed(resolve(MITIGATIONS, "constrained"), {"first": 1.0}, "mitigations.constrained")
    assert made == Constrained(first=1.0)
    assert made.mitigation(guarded.means()).budget == {"forwards": 0, "copies": 0}
    wrongs: list[dict] = [{"first": -1.0}, {"late": float("inf")}, {"until": 0}]
    for wrong in wrongs:
        with pytest.raises(UsageError, match=r"^mitigations\.constrained\."):
            Constrained(**wrong)
    hook = made.mitigation(guarded.means()).loss(lambda *args: args, 1.0)
    with pytest.raises(UsageError, match=r"^mitigations\.constrained: got 'batches of type dict'"):
        hook({}, {}, {}, None)

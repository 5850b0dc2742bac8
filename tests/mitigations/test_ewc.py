"""EWC: F against dialogues' gradients one by one, the pull, adapters, and that F is made once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.core.config import typed
from jaxsafety.core.errors import UsageError
from jaxsafety.mitigations.ewc import Ewc, Pulled, normalised
from jaxsafety.mitigations.means import build
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import EXTRA
from jaxsafety.registry import MITIGATIONS, resolve
from tests.mitigations import guarded


@pytest.mark.parametrize("rank", [0, 2])
def test_the_weights_are_mean_squares_of_gradients_one_dialogue_at_a_time(rank):
    model, _ = guarded.tiny()
    given = guarded.means()
    params, frozen = guarded.prepared(Ewc().mitigation(given), rank)
    fisher = frozen[EXTRA]["ewc"]["fisher"]
    rest = {name: x for name, x in frozen.items() if name != EXTRA}

    @jax.jit
    @jax.grad
    def slope(params, row):
        every = trees.combine(params, rest)
        layers = LayerInputs(adapters=every.get("adapters"))
        places = (row.tokens, row.positions)
        out = model.apply(every["base"], *places, segments=row.segments, layers=layers)
        logp = jax.nn.log_softmax(model.unembed(every["base"], out.hidden)[:, :-1])
        picked = jnp.take_along_axis(logp, row.tokens[:, 1:, None], -1)[..., 0]
        return jnp.sum(jnp.where(row.weight[:, 1:] > 0, picked, 0))

    rows = [jax.tree.map(lambda x, i=i: x[i : i + 1], given.safe) for i in range(5)]
    slopes = [jax.tree.map(np.float64, slope(params, row)) for row in rows]
    mean = jax.tree.map(lambda *g: sum(np.square(x) for x in g) / 5, *slopes)
    leaves = jax.tree.leaves(mean)
    scale = sum(x.sum() for x in leaves) / sum(x.size for x in leaves)
    assert scale > 0
    for got, want in zip(jax.tree.leaves(fisher), leaves, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want / scale, rtol=2e-3, atol=1e-4)
    assert trees.diff(frozen[EXTRA]["ewc"]["start"], params) == ""
    if rank:  # B is 0, so nothing depends on A yet; that the scale is 2 here cancels
        for pair in fisher["adapters"]["experts"].values():
            assert not np.any(pair["a"]) and np.any(pair["b"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loss_and_gradient_are_the_formula_s(dtype):
    params = {"base": {"w": jnp.asarray([1.0, -2.0, 0.5], dtype), "hole": None}}
    start = {"base": {"w": jnp.asarray([0.0, -1.0, 0.5], dtype), "hole": None}}
    fisher = {"base": {"w": jnp.asarray([2.0, 0.0, 1.0]), "hole": None}}

    def loss(params, frozen, batch, key):
        return jnp.sum(params["base"]["w"].astype(jnp.float32)) * batch, {"own": batch}

    pulled = Pulled(3.0)(loss, 0.25)
    carried = {"start": start, "fisher": fisher}
    frozen = {"base": {"w": None, "hole": jnp.ones(1)}, EXTRA: {"ewc": carried}}
    (value, metrics), grads = jax.value_and_grad(pulled, has_aux=True)(params, frozen, 2.0, None)
    assert metrics == {"own": 2.0, "ewc": 0.25 * 3.0 / 2 * 2.0}
    assert value == -1.0 + 0.75
    expected = 2.0 + 0.25 * 3.0 * np.asarray([2.0, 0.0, 0.0], np.float32)
    np.testing.assert_array_equal(np.float32(grads["base"]["w"]), expected)


def test_weights_are_1_in_the_mean_and_nothing_is_divided_by_0():
    found = normalised({"a": jnp.asarray([1.0, 5.0]), "b": jnp.zeros((1,)), "c": None})
    np.testing.assert_array_equal(found["a"], [0.5, 2.5])
    assert not np.any(normalised({"a": jnp.zeros(3)})["a"])


@pytest.mark.slow
def test_micro_batches_add_up(tmp_path):
    guarded.check_accumulates(tmp_path, Ewc(0.05), "ewc")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_it_resumes_to_the_same_bits_and_compiles_once(tmp_path, monkeypatch, rank):
    given = guarded.means()
    guarded.check_resumes(tmp_path, lambda: Ewc(0.05).mitigation(given), rank, monkeypatch)


@pytest.mark.slow
def test_parameters_in_bfloat16(tmp_path):
    guarded.check_bfloat16(tmp_path, Ewc(0.05).mitigation(guarded.means()), "ewc")


def test_settings_and_needs():
    made = typed(resolve(MITIGATIONS, "ewc"), {"strength": 0.5}, "mitigations.ewc")
    assert made == Ewc(0.5)
    assert made.mitigation(guarded.means()).budget == {"safe": 5, "copies": 2}
    for value in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=r"^mitigations\.ewc\.strength: got "):
            Ewc(value)
    with pytest.raises(UsageError, match=r"mitigations\.ewc.*no dialogues of harmful requests"):
        build({"ewc": Ewc()}, guarded.means(safe=None))

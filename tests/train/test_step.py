"""The pure step: accumulation, padding rows, frozen leaves, keys, the non-finite policy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsafety.core import trees
from jaxsafety.core.errors import UsageError
from jaxsafety.protocols import OptimConfig
from jaxsafety.train import state as states
from jaxsafety.train.optim import make_optimizer
from jaxsafety.train.step import make_train_step, split_batch
from tests.train import toy

RAW = optax.sgd(1.0)  # the update is minus the gradient: compares gradients leaf by leaf


def start(tx=RAW, trainable=("base",)):
    params, frozen = trees.partition(toy.variables(), trainable)
    return states.create(params, tx, jax.random.key(0)), frozen


def compiled(*args, **settings):
    return jax.jit(make_train_step(*args, **settings))


def close(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


@pytest.mark.parametrize("accum", [2, 4, 8])
def test_accumulation_changes_nothing(accum):
    state, frozen = start()
    one, metrics = compiled(toy.loss, RAW)(state, frozen, toy.batch(0))
    many, other = compiled(toy.loss, RAW, accum=accum)(state, frozen, toy.batch(0))
    close(one.params, many.params, rtol=1e-5, atol=1e-6)
    assert metrics.keys() == other.keys()
    close(metrics, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("accum", [1, 4])
def test_a_loss_is_traced_once(accum):
    traced = []

    def told(*args):
        traced.append(args)
        return toy.loss(*args)

    state, frozen = start()
    compiled(told, RAW, accum=accum).lower(state, frozen, toy.batch(0))
    assert len(traced) == 1


def test_a_mean_per_micro_batch_would_be_noticed():
    # The check above has teeth: with weights normalised per micro-batch the update differs.
    state, frozen = start()

    def mean(params, frozen, batch, key):
        weight = batch["weight"] / jnp.sum(batch["weight"])
        return toy.loss(params, frozen, {**batch, "weight": weight}, key)

    one, _ = compiled(toy.loss, RAW)(state, frozen, toy.batch(0))
    two, _ = compiled(mean, RAW, accum=4)(state, frozen, toy.batch(0))
    gap = trees.norm(jax.tree.map(jnp.subtract, one.params, two.params))
    assert float(gap) > 1e-2


def test_padding_rows_change_nothing():
    state, frozen = start()
    batch = toy.batch(0)
    padded = {k: np.concatenate([v, np.zeros_like(v)]) for k, v in batch.items()}
    one, metrics = compiled(toy.loss, RAW)(state, frozen, batch)
    two, other = compiled(toy.loss, RAW)(state, frozen, padded)
    close(one.params, two.params, rtol=1e-5, atol=1e-6)
    close(metrics, other, rtol=1e-5, atol=1e-6)


def test_a_batch_without_weight_gives_exactly_zero():
    state, frozen = start()
    batch = {k: np.zeros_like(v) for k, v in toy.batch(0).items()}
    new, metrics = compiled(toy.loss, RAW, accum=2)(state, frozen, batch)
    assert float(metrics["loss"]) == 0.0
    assert float(metrics["grad_norm"]) == 0.0
    assert float(metrics["skipped"]) == 0.0
    assert trees.diff(new.params, state.params) == ""


def test_metrics_are_the_norms_they_say():
    state, frozen = start()
    new, metrics = compiled(toy.loss, RAW)(state, frozen, toy.batch(0))
    grads = jax.grad(lambda p: toy.loss(p, frozen, toy.batch(0), None)[0])(state.params)
    np.testing.assert_allclose(metrics["grad_norm"], trees.norm(grads), rtol=1e-5)
    np.testing.assert_allclose(metrics["update_norm"], metrics["grad_norm"], rtol=1e-5)
    np.testing.assert_allclose(metrics["param_norm"], trees.norm(new.params), rtol=1e-5)


def test_frozen_leaves_have_no_optimizer_state_and_do_not_move():
    tx = make_optimizer(OptimConfig(weight_decay=0.1), 10)
    state, frozen = start(tx, ("base/mlp/up",))
    moments = [n for n in trees.paths(state.opt_state) if n.endswith("kernel") or "table" in n]
    assert len(moments) == 2  # mu and nu of one leaf
    assert all(name.endswith("base/mlp/up/kernel") for name in moments)
    new, _ = compiled(toy.loss, tx)(state, frozen, toy.batch(0))
    assert trees.paths(new.params) == ["base/mlp/up/kernel"]
    assert "max |difference|" in trees.diff(new.params, state.params)


def test_masters_are_float32():
    params = {"w": jnp.ones(3, jnp.bfloat16), "ids": jnp.arange(3)}
    state = states.create(params, optax.identity(), jax.random.key(0))
    assert state.params["w"].dtype == jnp.float32
    assert state.params["ids"].dtype == jnp.int32


def test_the_key_is_folded_with_the_step():
    state, frozen = start()
    step = compiled(toy.noisy_loss, RAW)
    first, one = step(state, frozen, toy.batch(0))
    _, again = step(state, frozen, toy.batch(0))
    _, later = step(first, frozen, toy.batch(0))
    assert float(one["noise"]) == float(again["noise"]) != float(later["noise"])
    assert int(first.step) == 1
    assert trees.diff(first.key, state.key) == ""


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("accum", [1, 2])
def test_a_non_finite_step_is_skipped_whole(where, accum):
    def broken(params, frozen, batch, key):
        value, metrics = toy.loss(params, frozen, batch, key)
        leaf = params["base"]["mlp"]["up"]["kernel"][0, 0]
        if where == "loss":
            return value + jnp.sum(batch["poison"]) * leaf, metrics
        # finite value, gradient 1/0: sqrt at exactly zero
        return value + jnp.sqrt(jnp.sum(jnp.abs(batch["poison"])) * 0.0 * leaf), metrics

    tx = make_optimizer(OptimConfig(), 10)
    state, frozen = start(tx)
    poison = np.zeros(8, np.float32)
    if where == "loss":
        good = {**toy.batch(0), "poison": poison.copy()}
        poison[3] = np.nan
    step = compiled(broken, tx, accum=accum)
    new, metrics = step(state, frozen, {**toy.batch(0), "poison": poison})
    assert float(metrics["skipped"]) == 1.0
    assert float(metrics["update_norm"]) == 0.0
    assert int(new.step) == 1
    assert trees.diff(new.params, state.params) == ""
    assert trees.diff(new.opt_state, state.opt_state) == ""
    if where == "loss":
        after, metrics = step(new, frozen, good)
        assert float(metrics["skipped"]) == 0.0
        assert trees.diff(after.params, new.params) != ""


def test_the_gradient_hook_replaces_the_gradient():
    def flipped(loss_fn):
        plain = jax.value_and_grad(loss_fn, has_aux=True)

        def run(*args):
            value, grads = plain(*args)
            return value, jax.tree.map(jnp.negative, grads)

        return run

    state, frozen = start()
    one, _ = compiled(toy.loss, RAW)(state, frozen, toy.batch(0))
    two, _ = compiled(toy.loss, RAW, grad_fn=flipped)(state, frozen, toy.batch(0))
    middle = jax.tree.map(lambda a, b: (a + b) / 2, one.params, two.params)
    close(middle, state.params, rtol=1e-5, atol=1e-6)


def test_micro_batches_are_strided_and_scalars_repeated():
    got = split_batch({"x": jnp.arange(6), "scale": jnp.float32(2)}, 2)
    np.testing.assert_array_equal(got["x"], [[0, 2, 4], [1, 3, 5]])
    np.testing.assert_array_equal(got["scale"], [2, 2])


def test_bad_accumulation_is_refused():
    state, frozen = start()
    with pytest.raises(UsageError, match=r"optim\.accum: got 3"):
        compiled(toy.loss, RAW, accum=3)(state, frozen, toy.batch(0))
    with pytest.raises(UsageError, match=r"optim\.accum: got 0"):
        make_train_step(toy.loss, RAW, accum=0)
    with pytest.raises(UsageError, match="rows"):
        split_batch({"x": jnp.ones(4), "y": jnp.ones(2)}, 2)


@pytest.mark.parametrize("broken", ["update", "parameter"])
def test_an_update_that_is_no_number_is_skipped_too(broken):
    # Loss and gradient are finite; what the optimizer makes of them is not.
    def update(grads, state, params):
        del grads, params
        value = jnp.nan if broken == "update" else 3e38  # twice that overflows the parameter
        return jax.tree.map(lambda x: jnp.full_like(x, value), frozen_like), state + 1

    state, frozen = start(optax.GradientTransformation(lambda p: jnp.zeros(()), update))
    frozen_like = state.params
    if broken == "parameter":
        full = jax.tree.map(lambda x: jnp.full_like(x, 3e38), state.params)
        state = state.replace(params=full)

    def loss(params, frozen, batch, key):
        del params, frozen, key
        return jnp.sum(batch["weight"]), {}

    tx = optax.GradientTransformation(lambda p: jnp.zeros(()), update)
    new, metrics = compiled(loss, tx)(state, frozen, toy.batch(0))
    assert float(metrics["skipped"]) == 1.0
    assert trees.diff(new.params, state.params) == ""
    assert float(new.opt_state) == 0.0 and float(metrics["update_norm"]) == 0.0

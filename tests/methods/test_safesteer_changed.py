"""How much of the model moved, against numpy; and what a bfloat16 student computes with."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.core import trees
from jaxsafety.core.errors import UsageError
from jaxsafety.methods.safesteer import program as safesteer
from jaxsafety.methods.safesteer.changed import compare
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling import decode
from jaxsafety.sampling.prompts import pad_prompts, row_keys
from tests.methods import tiny

ALL = ("base/.*",)


@pytest.fixture(scope="module")
def ctx(tmp_path_factory):
    directory = testing.random_organism(tmp_path_factory.mktemp("organism"))
    return tiny.context(directory, tmp_path_factory.mktemp("run"))


def changes(ctx, student, trainable=ALL):
    return compare(ctx, {"base": student, "teacher": ctx.variables["base"]}, trainable)


def flat(tree):
    """All values as one numpy vector, in their own dtype."""
    return np.concatenate([np.asarray(x).ravel() for x in jax.tree.leaves(tree)])


def half(tree):
    return jax.tree.map(lambda x: x.astype(jnp.bfloat16), tree)


def test_nothing_moved_is_zero(ctx):
    zero = {"fraction": 0.0, "fraction_float32": 0.0, "relative_change": 0.0}
    assert changes(ctx, ctx.variables["base"]) == zero


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("size", [1e-4, 1e-2])
def test_the_shares_are_those_of_numpy(ctx, size, rounded):
    base = ctx.variables["base"]
    student = tiny.student(base, size)
    if rounded:
        student = half(student)
    a, b = flat(student).astype(np.float32), flat(base)
    found = changes(ctx, student)
    by_half = np.mean(a.astype(ml_dtypes.bfloat16) != b.astype(ml_dtypes.bfloat16))
    assert found["fraction"] == pytest.approx(by_half, rel=1e-12)
    assert found["fraction_float32"] == pytest.approx(np.mean(a != b), rel=1e-12)
    expected = np.linalg.norm(np.float64(a) - b) / np.linalg.norm(np.float64(b))
    assert found["relative_change"] == pytest.approx(expected, rel=1e-5)
    assert 0 < found["fraction"] <= found["fraction_float32"] <= 1


def test_a_change_below_the_spacing_counts_in_float32_alone(ctx):
    base = jax.tree.map(lambda x: x.astype(jnp.float32), half(ctx.variables["base"]))
    ctx = dataclasses.replace(ctx, variables={"base": base})
    found = changes(ctx, jax.tree.map(lambda x: x * (1 + 2**-12), base))
    assert found["fraction"] == 0.0
    assert found["fraction_float32"] == pytest.approx(np.mean(flat(base) != 0), rel=1e-12)
    assert found["relative_change"] == pytest.approx(2**-12, rel=1e-5)


def test_only_what_is_trained_counts(ctx):
    # One leaf moves whole: its share is that of the leaves the regexes select.
    def move(name, x):
        return x + 1 if name == "embed/table" else x

    student = trees.map_named(move, ctx.variables["base"])
    table = student["embed"]["table"].size
    assert changes(ctx, student)["fraction"] == pytest.approx(table / trees.count(student))
    assert changes(ctx, student, ("base/embed",))["fraction"] == 1.0
    assert changes(ctx, student, ("base/blocks/.*",))["fraction"] == 0.0
    with pytest.raises(UsageError, match=r"^method\.trainable: got 'base/nothing'"):
        changes(ctx, student, ("base/nothing",))


@pytest.mark.parametrize("variant", ["generalised", "topk"])
def test_a_bfloat16_student_is_computed_in_float32(ctx, variant):
    base, batch = ctx.variables["base"], tiny.rollouts(ctx.model.config.vocab_size)
    cfg = dataclasses.replace(tiny.METHOD, variant=variant, topk=5)
    subset = range(9, 300, 3)
    loss = safesteer.localized_loss(ctx.model, cfg, "all")
    compute = jax.jit(jax.value_and_grad(loss, has_aux=True))
    student = half(tiny.student(base))
    same = jax.tree.map(lambda x: x.astype(jnp.float32), student)
    frozen = safesteer.frozen_teacher(ctx.model, base, tiny.teacher(ctx.model), subset)
    key = jax.random.key(0)
    (value, metrics), grads = compute({"base": student}, frozen, batch, key)
    (expected, others), wide = compute({"base": same}, frozen, batch, key)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(metrics["mass/student"], others["mass/student"], rtol=1e-6)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(wide), strict=True):
        assert (a.dtype, b.dtype) == (jnp.bfloat16, jnp.float32)
        assert jnp.linalg.norm(a.astype(jnp.float32) - b) < 2**-7 * jnp.linalg.norm(b)


def test_a_bfloat16_student_samples_what_its_float32_copy_does(ctx):
    student = half(tiny.student(ctx.variables["base"]))
    same = jax.tree.map(lambda x: x.astype(jnp.float32), student)
    batch = pad_prompts([[9, 10, 11], [12, 13]], ctx.tokenizer.pad_id, (4,))
    keys = row_keys(0, 0, np.arange(2), np.zeros(2, int))
    said = [decode.sample(ctx.model, p, batch, keys, SampleConfig(6)) for p in (student, same)]
    np.testing.assert_array_equal(said[0].tokens, said[1].tokens)
    np.testing.assert_allclose(said[0].logp, said[1].logp, rtol=1e-6)

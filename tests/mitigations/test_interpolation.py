"""Interpolation: the line between start and trained, its ends to the bit, and adapters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.adapters import lora
from jaxsafety.core import trees
from jaxsafety.core.config import typed
from jaxsafety.core.errors import UsageError
from jaxsafety.mitigations.interpolation import Interpolation
from jaxsafety.models.api import build
from jaxsafety.protocols import Mitigation
from jaxsafety.registry import MITIGATIONS, resolve
from tests.mitigations import chats
from tests.train import toy


def after(s, means):
    return Interpolation(s).mitigation(means).after


def test_a_stage_leaves_the_point_between_and_so_it_is_read_again(tmp_path):
    start, given = toy.variables()["base"], chats.means()
    trained = chats.run(tmp_path / "plain", chats.stage())["base"]
    for s in (0.0, 0.25, 1.0):
        stage = chats.stage(Interpolation(s).mitigation(given))
        for _ in range(2):  # the second time from the checkpoint
            final = dict(chats.run(tmp_path / f"{s}", stage))["base"]
            if s in (0, 1):
                assert trees.diff(final, trained if s else start) == ""
        for a, b, c in zip(*map(jax.tree.leaves, (final, start, trained)), strict=True):
            a, b, c = np.asarray(a), np.float64(b), np.float64(c)
            np.testing.assert_allclose(a, b + s * (c - b), atol=1e-7)


def test_at_one_it_is_the_identity():
    variables = {"base": {"w": jnp.ones(2)}, "adapters": {"scale": jnp.ones(1)}}
    assert after(1.0, chats.means(start={"w": jnp.zeros(2)}))(variables) is variables


@pytest.mark.parametrize(("start", "trained"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_it_is_made_in_float32_and_keeps_the_trained_dtype(start, trained):
    first, last = jnp.asarray([1.0, -2.0, 3.0], start), jnp.asarray([2.0, 2.0, -1.0], trained)
    moved = after(0.3, chats.means(start={"w": first}))({"base": {"w": last}, "teacher": 7})
    expected = np.float32(first) + np.float32(0.3) * (np.float32(last) - np.float32(first))
    assert moved["base"]["w"].dtype == trained and moved["teacher"] == 7
    np.testing.assert_array_equal(moved["base"]["w"], jnp.asarray(expected, trained))


def test_adapters_are_scaled_exactly():
    model, rng = build(testing.tiny_config(num_layers=2)), np.random.default_rng(0)
    base, tree = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) / 4, jnp.float32),
        jax.eval_shape(
            lambda key: (
                model.init(key),
                lora.init_experts(key, model.projections, layers=2, rank=2),
            ),
            jax.random.key(0),
        ),
    )
    tree["scale"] = jnp.full(2, 2.0)
    variables, given = {"base": base, "adapters": tree}, chats.means(start=base)
    moved = after(0.25, given)(variables)
    assert trees.diff(moved["base"], base) == ""  # a frozen base stays to the bit
    assert trees.diff(moved["adapters"]["experts"], tree["experts"]) == ""
    np.testing.assert_array_equal(moved["adapters"]["scale"], [0.5, 0.5])
    merge = jax.jit(lambda v: lora.merge(v["base"], v["adapters"], model.projections))
    scaled, whole = merge(moved), merge(variables)
    for a, b, c in zip(*map(jax.tree.leaves, (scaled, base, whole)), strict=True):
        np.testing.assert_allclose(a, b + 0.25 * (c - b), atol=2e-6)
    assert trees.diff(dict(after(0.0, given)(variables))["base"], base) == ""
    assert not after(0.0, given)(variables)["adapters"]["scale"].any()


def test_settings_budgets_and_what_is_refused():
    made = typed(resolve(MITIGATIONS, "interpolation"), {"s": 0.25}, "mitigations.interpolation")
    given = chats.means()
    assert made == Interpolation(0.25) and made.mitigation(given) == made.mitigation(given)
    assert not made.mitigation(given).budget
    assert made.mitigation(given)._replace(after=Mitigation().after) == Mitigation()
    for s in (-0.1, 1.5, float("nan")):
        with pytest.raises(UsageError, match=r"^mitigations\.interpolation\.s: got "):
            Interpolation(s)
    for other in ({"w": jnp.ones(3)}, {"v": jnp.ones(2)}):
        with pytest.raises(UsageError, match=r"^mitigations\.interpolation\.start: got "):
            after(0.5, chats.means(start=other))({"base": {"w": jnp.ones(2)}})

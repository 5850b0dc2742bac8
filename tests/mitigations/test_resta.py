"""RESTA: neutral to the bit, the formula, DARE's mean and share, the same whenever it is read."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import UsageError
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.mitigations.means import Means, build, missing
from jaxsafety.mitigations.resta import Resta, Restored
from jaxsafety.protocols import Mitigation, Stage, TrainConfig
from jaxsafety.registry import MITIGATIONS, resolve
from jaxsafety.train.loop import run_stage
from tests.train import toy


def moved(tree, size, seed):
    """A tree whose leaves are elsewhere, each by noise of its own."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(np.asarray(x) + size * rng.standard_normal(x.shape), x.dtype), tree
    )


# Any tree will do for the base: it looks like the toy stage's.
SHAPES = jax.eval_shape(toy.variables)["base"]
START = moved(jax.tree.map(lambda x: np.zeros(x.shape, np.float32), SHAPES), 0.3, 1)
MEANS = Means(None, START, unaligned=moved(START, 0.1, 3))  # type: ignore[arg-type]
TUNED = moved(START, 0.05, 5)


def adapters(dtype="float32"):
    """Adapters of one projection whose update is not zero."""
    rng = np.random.default_rng(7)
    pair = {"a": rng.standard_normal((2, 1, 40, 4)), "b": rng.standard_normal((2, 1, 4, 50))}
    return {
        "experts": {"up": {key: jnp.asarray(x, dtype) for key, x in pair.items()}},
        "scale": jnp.ones(2),
    }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_added_and_nothing_dropped_is_what_was_trained_to_the_bit(dtype):
    base = jax.tree.map(lambda x: (-0.0 * x).astype(dtype), TUNED)  # -0 is another bit than 0
    for variables in ({"base": base}, {"base": TUNED, "adapters": adapters(dtype)}):
        after = Resta(gamma=0.0, p=0.0).mitigation(MEANS).after(variables)
        for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(variables), strict=True):
            assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_vector_is_added_to_all_of_the_base_and_to_nothing_else(dtype):
    tuned = jax.tree.map(lambda x: x.astype(dtype), TUNED)
    variables = {"base": tuned, "teacher": START}
    after = Resta(gamma=0.5).mitigation(MEANS).after(variables)
    assert after["teacher"] is START
    leaves = (after["base"], tuned, START, MEANS.unaligned)
    for got, x, start, unaligned in zip(*map(jax.tree.leaves, leaves), strict=True):
        assert got.dtype == dtype
        x, start, unaligned = (np.asarray(y, np.float64) for y in (x, start, unaligned))
        want = x + 0.5 * (start - unaligned)
        atol = 1e-6 if dtype == "float32" else 2.0**-8 * np.abs(want).max()
        np.testing.assert_allclose(np.asarray(got, np.float64), want, atol=atol)


def test_dropped_is_a_share_and_what_is_left_is_scaled():
    p = 0.7
    after = Resta(gamma=0.0, p=p).mitigation(MEANS).after({"base": TUNED})["base"]
    gone = total = 0
    for got, x, start in zip(*map(jax.tree.leaves, (after, TUNED, START)), strict=True):
        got, x, start = np.asarray(got), np.asarray(x), np.asarray(start)
        kept = got != start
        want = start + (x - start) / (1 - p)
        np.testing.assert_allclose(got[kept], want[kept], rtol=1e-5, atol=1e-6)
        gone, total = gone + np.sum(~kept), total + kept.size
    assert abs(gone - p * total) < 4 * np.sqrt(total * p * (1 - p))


def test_the_mean_over_masks_is_the_task_s_change():
    """M4, with adapters and without; the spread is Bernoulli's, delta^2 p / (1 - p)."""
    p, draws = 0.5, 100
    tree = adapters()
    a, b = tree["experts"]["up"]["a"], tree["experts"]["up"]["b"]
    means = replace(MEANS, start={"w": jnp.zeros(500)}, unaligned={"w": jnp.ones(500)})
    change = jnp.asarray(np.random.default_rng(1).standard_normal(500), jnp.float32)
    sums, factors = np.zeros(500), np.zeros(b.shape)
    seen = set()
    for seed in range(draws):
        hook = Resta(gamma=0.0, p=p).mitigation(replace(means, seed=seed)).after
        full = hook({"base": {"w": change}})["base"]["w"]
        seen.add(np.asarray(full).tobytes())
        sums += np.asarray(full, np.float64)
        thin = hook({"base": {"w": change}, "adapters": tree})
        assert thin["base"]["w"] is change and thin["adapters"]["experts"]["up"]["a"] is a
        factors += np.asarray(thin["adapters"]["experts"]["up"]["b"], np.float64)
    assert len(seen) == draws
    for found, true in ((sums / draws, change), (factors / draws, b)):
        error = np.abs(np.asarray(true)) * np.sqrt(p / (1 - p) / draws)
        score = (found - np.asarray(true)) / error
        assert np.abs(score).max() < 5 and abs(np.mean(score)) < 5 / np.sqrt(score.size)


def test_with_adapters_the_vector_goes_into_the_base_they_stand_on():
    variables = {"base": START, "adapters": adapters()}
    after = Resta(gamma=0.25, p=0.3).mitigation(MEANS).after(variables)
    want = jax.tree.map(lambda s, u: s + 0.25 * (s - u), START, MEANS.unaligned)
    for got, x in zip(*map(jax.tree.leaves, (after["base"], want)), strict=True):
        np.testing.assert_allclose(got, x, atol=1e-6)
    pairs = (x["adapters"]["experts"]["up"] for x in (variables, after))
    old, new = (jax.tree.map(np.asarray, pair) for pair in pairs)
    kept = new["b"] != 0
    np.testing.assert_allclose(new["b"][kept], old["b"][kept] / 0.7, rtol=1e-5)
    assert 0 < kept.mean() < 1 and trees.diff(new["a"], old["a"]) == ""


def test_a_stage_leaves_it_and_reads_it_again(tmp_path):
    hook, given = Resta(gamma=0.25, p=0.3).mitigation(MEANS).after, []

    def after(variables):
        given.append(variables)
        return hook(variables)

    hooks = Mitigation(after=after)
    stage = Stage("s", toy.loss, ("base/.*",), toy.offline, 2, toy.OPTIM, mitigation=hooks)
    train, found = TrainConfig(progress=False), []
    for _ in range(2):  # the second time from the checkpoint
        found.append(dict(run_stage(stage, toy.variables(), toy.context(tmp_path), train)))
    trained, restored = given
    assert trees.diff(trained, restored) == "" == trees.diff(*found)
    assert trees.diff(found[0], hook(trained)) == ""
    assert trees.diff(found[0]["base"], trained["base"]) != ""


def test_sharded_equals_single_device():
    """M9: masks and sums, with adapters and without; the result lives where the variables do."""
    mesh = sharding.make_mesh(MeshConfig(fsdp=2), jax.devices()[:2])
    pair = {"a": ("layers", "expert", "embed", "rank"), "b": ("layers", "expert", "rank", "mlp")}
    axes = {**toy.AXES, "adapters": {"experts": {"up": pair}, "scale": ("layers",)}}
    hook = Resta(gamma=0.25, p=0.3).mitigation(MEANS).after
    for variables in ({"base": TUNED}, {"base": START, "adapters": adapters()}):
        places = sharding.shardings({name: axes[name] for name in variables}, variables, mesh)
        one, more = hook(variables), hook(jax.device_put(variables, places))
        for a, b, where in zip(*map(jax.tree.leaves, (one, more, places)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
            assert b.sharding.is_equivalent_to(where, b.ndim)


def test_what_it_needs_and_what_it_costs():
    settings = resolve(MITIGATIONS, "resta")()
    assert settings == Resta() and settings.when == "after"
    assert missing(settings, replace(MEANS, unaligned=None)) == "no unaligned base"
    made = build({"resta": settings}, MEANS)
    assert made.budget == {"checkpoints": 1} and made.after == Restored(settings, MEANS)
    with pytest.raises(UsageError, match="equal to the start"):
        settings.mitigation(replace(MEANS, unaligned=START))
    fewer = {name: x for name, x in START.items() if name != "mlp"}
    with pytest.raises(UsageError, match=r"^mitigations\.resta\.unaligned: got '- mlp"):
        settings.mitigation(replace(MEANS, unaligned=fewer))


@pytest.mark.parametrize(
    "given", [{"gamma": -1.0}, {"gamma": float("inf")}, {"p": 1.0}, {"p": -0.1}]
)
def test_bad_settings_are_one_line(given):
    with pytest.raises(UsageError, match=rf"^mitigations\.resta\.{next(iter(given))}: got "):
        Resta(**given)

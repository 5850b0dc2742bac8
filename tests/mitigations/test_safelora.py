"""SafeLoRA against numpy in the paper's layout [out,in]: projections, cosines, selection, modes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.adapters import lora, projection
from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import UsageError
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.mitigations.means import Means, build, missing
from jaxsafety.mitigations.safelora import Projected, SafeLora, selected
from jaxsafety.models.api import build as build_model
from jaxsafety.registry import MITIGATIONS, resolve
from jaxsafety.testing import tiny_config

WHOLE = build_model(tiny_config())
SHAPES = jax.eval_shape(WHOLE.init, jax.random.key(0))
NAMES = ("q", "o")  # several axes of outputs, several of inputs
MODEL = replace(WHOLE, projections={name: WHOLE.projections[name] for name in NAMES})


def moved(tree, size, seed):
    """A tree whose leaves are elsewhere, each by noise of its own."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(np.asarray(x) + size * rng.standard_normal(x.shape), x.dtype), tree
    )


START = moved(jax.tree.map(lambda x: np.zeros(x.shape, np.float32), SHAPES), 0.3, 1)
MEANS = Means(MODEL, START, unaligned=moved(START, 0.1, 3))


def adapted(dtype="float32"):
    """Variables with two experts whose updates are not zero."""
    tree = lora.init_experts(jax.random.key(1), MODEL.projections, layers=3, experts=2, rank=2)
    tree = {**tree, "experts": moved(tree["experts"], 0.1, 5)}
    return {"base": START, "adapters": jax.tree.map(lambda x: x.astype(dtype), tree)}


def matrix(x, p, lead=0):
    """[out,in] of a kernel [*in,*out], as float64; `lead` axes stay in front."""
    inner = np.prod(projection.in_shape(p), dtype=int)
    flat = np.asarray(x, np.float64).reshape(*np.shape(x)[:lead], inner, -1)
    return np.swapaxes(flat, -1, -2)


def kernel_of(tree, p):
    for key in (*p.path, "kernel"):
        tree = tree["blocks"][key] if key == p.path[0] else tree[key]
    return tree


def projector(v, mode, energy=0.9):
    """C [out,out], dense."""
    if mode == "orthogonal":
        u, s, _ = np.linalg.svd(v, full_matrices=False)
        share = np.cumsum(s**2) / np.sum(s**2)
        u = u[:, : int(np.searchsorted(share, energy) + 1)]
        return u @ u.T
    return v @ v.T / np.linalg.norm(v)


def expected(variables, means, mode):
    """By (projection, layer, expert): (the new dW [out,in], its cosine), all of them projected."""
    found = {}
    for name, pair in variables["adapters"]["experts"].items():
        p = MODEL.projections[name]
        start, unaligned = (kernel_of(t, p) for t in (means.start, means.unaligned))
        for layer in range(3):
            v = matrix(start[layer], p) - matrix(unaligned[layer], p)
            c = projector(v, mode)
            for e in range(pair["a"].shape[1]):
                dw = update(pair, p, layer, e)
                new = c @ dw
                cos = np.sum(new * dw) / (np.linalg.norm(new) * np.linalg.norm(dw))
                found[name, layer, e] = new, cos
    return found


def update(pair, p, layer, e):
    """dW [out,in] of one expert, as B A."""
    rank = pair["b"].shape[2]
    a = np.asarray(pair["a"][layer, e], np.float64).reshape(-1, rank)
    b = np.asarray(pair["b"][layer, e], np.float64).reshape(rank, -1)
    return b.T @ a.T


@pytest.mark.parametrize("mode", ["paper", "orthogonal"])
def test_the_factored_projection_is_the_dense_one_of_the_paper_s_layout(mode):
    variables = adapted()
    hook = SafeLora(mode, layers=10_000).mitigation(MEANS).after
    after = hook(variables)
    _, cosines = hook.edits(variables)
    assert trees.diff(after["base"], START) == ""
    for (name, layer, e), (new, cos) in expected(variables, MEANS, mode).items():
        got = after["adapters"]["experts"][name]
        np.testing.assert_allclose(
            update(got, MODEL.projections[name], layer, e), new, rtol=1e-3, atol=1e-6
        )
        assert cosines[name][layer, e] == pytest.approx(cos, abs=1e-5)
    for name, pair in variables["adapters"]["experts"].items():
        assert trees.diff(after["adapters"]["experts"][name]["a"], pair["a"]) == ""


@pytest.mark.parametrize("layers", [0, 5])
def test_only_the_smallest_cosines_are_projected_and_the_rest_is_kept_to_the_bit(layers):
    variables = adapted()
    cosines = {key: cos for key, (_, cos) in expected(variables, MEANS, "paper").items()}
    ordered = sorted(cosines, key=lambda key: cosines[key])
    tau = (cosines[ordered[2]] + cosines[ordered[3]]) / 2
    wanted = set(ordered[: layers or 3])
    after = SafeLora(layers=layers, tau=float(tau)).mitigation(MEANS).after(variables)
    changed = set()
    for name, layer, e in cosines:
        pairs = (tree["adapters"]["experts"][name]["b"] for tree in (variables, after))
        old, new = (np.asarray(b[layer, e]) for b in pairs)
        if not np.array_equal(old, new):
            changed.add((name, layer, e))
    assert changed == wanted


def test_no_cosine_is_never_selected():
    found = {"q": np.array([[np.nan], [0.9]]), "o": np.array([[0.2], [0.2]])}
    some = selected(SafeLora(layers=1), found)
    assert some["o"].tolist() == [[True], [False]] and not some["q"].any()  # ties: the first
    assert [x.sum() for x in selected(SafeLora(layers=9), found).values()] == [1, 2]
    assert [x.sum() for x in selected(SafeLora(layers=0), found).values()] == [0, 2]
    variables = adapted()
    variables["adapters"]["experts"]["q"]["b"] = jnp.zeros_like(
        variables["adapters"]["experts"]["q"]["b"]
    )
    hook = SafeLora(layers=0, tau=1.0).mitigation(MEANS).after
    assert np.isnan(hook.edits(variables)[1]["q"]).all()
    assert (
        trees.diff(
            hook(variables)["adapters"]["experts"]["q"], {**variables["adapters"]["experts"]["q"]}
        )
        == ""
    )


def test_orthogonal_is_idempotent_and_paper_scales_with_the_alignment():
    variables = adapted()
    hook = SafeLora("orthogonal", layers=10_000).mitigation(MEANS).after
    once = hook(variables)
    twice = hook(once)
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(twice), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert trees.diff(once["adapters"], variables["adapters"]) != ""
    s = 3.0
    far = jax.tree.map(lambda x, u: x + s * (u - x), START, MEANS.unaligned)
    hooks = [
        SafeLora(layers=10_000).mitigation(m).after for m in (MEANS, replace(MEANS, unaligned=far))
    ]
    (near, cosines), (further, others) = (h.edits(variables) for h in hooks)
    for name in near:
        np.testing.assert_allclose(further[name], s * near[name], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(others[name], cosines[name], atol=1e-4)


def test_delete_takes_what_paper_selects_and_rescale_keeps_the_norm():
    variables = adapted()
    paper = SafeLora(layers=4).mitigation(MEANS).after(variables)
    gone = SafeLora("delete", layers=4).mitigation(MEANS).after(variables)
    sized = SafeLora(layers=4, rescale=True).mitigation(MEANS).after(variables)
    count = 0
    for name, pair in variables["adapters"]["experts"].items():
        p = MODEL.projections[name]
        found = [x["adapters"]["experts"][name] for x in (paper, gone, sized)]
        for layer, e in np.ndindex(3, 2):
            old = update(pair, p, layer, e)
            new, deleted, same = (update(x, p, layer, e) for x in found)
            if np.array_equal(old, new):
                assert np.array_equal(old, deleted) and np.array_equal(old, same)
                continue
            count += 1
            assert not deleted.any()
            assert np.linalg.norm(same) == pytest.approx(np.linalg.norm(old), rel=1e-4)
            np.testing.assert_allclose(
                same / np.linalg.norm(same), new / np.linalg.norm(new), rtol=1e-3, atol=1e-6
            )
    assert count == 4


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_full_fine_tuning_projects_kernels_and_leaves_the_rest(dtype):
    start = jax.tree.map(lambda x: x.astype(dtype), START)
    means = replace(MEANS, start=start)
    tuned = moved(start, 0.05, 9)
    after = SafeLora(layers=10_000).mitigation(means).after({"base": tuned})["base"]
    kernels = [kernel_of(after, p) for p in MODEL.projections.values()]
    for p, got in zip(MODEL.projections.values(), kernels, strict=True):
        assert got.dtype == dtype
        w, first, unaligned = (
            matrix(kernel_of(t, p), p, 1) for t in (tuned, start, means.unaligned)
        )
        for layer in range(3):
            c = projector(first[layer] - unaligned[layer], "paper")
            want = first[layer] + c @ (w[layer] - first[layer])
            atol = 1e-5 if dtype == "float32" else 2.0**-7 * np.abs(want).max()
            np.testing.assert_allclose(matrix(got, p, 1)[layer], want, atol=atol)
    lines = trees.diff(after, tuned, limit=99).splitlines()
    assert len(lines) == len(kernels)  # whatever is no projection stays
    if dtype == "bfloat16":  # to the bit, in either dtype
        back = SafeLora("delete", layers=10_000).mitigation(means).after({"base": tuned})["base"]
        for p in MODEL.projections.values():
            assert trees.diff(kernel_of(back, p), kernel_of(start, p)) == ""


def test_bfloat16_adapters_keep_their_dtype():
    variables = adapted(dtype="bfloat16")
    after = SafeLora(layers=10_000).mitigation(MEANS).after(variables)
    for (name, layer, e), (new, _) in expected(variables, MEANS, "paper").items():
        pair = after["adapters"]["experts"][name]
        assert pair["b"].dtype == "bfloat16"
        got = update(pair, MODEL.projections[name], layer, e)
        np.testing.assert_allclose(got, new, atol=2.0**-7 * np.abs(new).max())


@pytest.mark.parametrize("mode", ["paper", pytest.param("orthogonal", marks=pytest.mark.slow)])
def test_sharded_equals_single_device(mode):
    """M9: with adapters and without; the result lives where the variables do."""
    mesh = sharding.make_mesh(MeshConfig(tensor=2), jax.devices()[:2])
    shapes = {"adapters": lora.adapter_axes(MODEL.projections, NAMES), "base": WHOLE.axes}
    for variables in (adapted(), {"base": moved(START, 0.05, 9)}):
        axes = {name: shapes[name] for name in variables}
        places = sharding.shardings(axes, variables, mesh)
        placed = jax.device_put(variables, places)
        hook = SafeLora(mode, layers=7).mitigation(MEANS).after
        one, more = hook(variables), hook(placed)
        assert trees.diff(one, variables) != ""
        for a, b, where in zip(*map(jax.tree.leaves, (one, more, places)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
            assert b.sharding.is_equivalent_to(where, b.ndim)
        assert trees.diff(hook(placed), more) == ""  # a function of its argument


def test_what_it_needs_and_what_it_costs():
    settings = resolve(MITIGATIONS, "safelora")()
    assert settings == SafeLora() and settings.when == "after"
    assert missing(settings, replace(MEANS, unaligned=None)) == "no unaligned base"
    made = build({"safelora": settings}, MEANS)
    assert made.budget == {"checkpoints": 1} and made.after == Projected(settings, MEANS)
    with pytest.raises(UsageError, match="safelora with resta"):
        build({"safelora": settings, "resta": resolve(MITIGATIONS, "resta")()}, MEANS)
    other = jax.tree.map(lambda x: np.zeros((*x.shape, 2)), START)
    with pytest.raises(UsageError, match=r"^mitigations\.safelora\.unaligned: got '~ "):
        settings.mitigation(replace(MEANS, unaligned=other))


@pytest.mark.parametrize(
    "given",
    [
        {"mode": "svd"},
        {"layers": -1},
        {"tau": 0.0},
        {"tau": float("nan")},
        {"energy": 0.0},
        {"mode": "delete", "rescale": True},
    ],
)
def test_bad_settings_are_one_line(given):
    name = list(given)[-1]
    with pytest.raises(UsageError, match=rf"^mitigations\.safelora\.{name}: got "):
        SafeLora(**given)

"""LoRA experts as PEFT directories: exact round trips, and everything that does not fit refused."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxsafety.adapters import lora
from jaxsafety.errors import UsageError
from jaxsafety.models import peft
from jaxsafety.testing import FAMILIES, tiny_model


def experts(model, names=None, **options):
    key = jax.random.key(0)
    options = {"layers": 3, "experts": 2, "rank": 4, "scale": 0.5, "names": names, **options}
    tree = lora.init_experts(key, model.projections, **options)
    return jax.tree.map(lambda x: np.asarray(x + 0.1 * jax.random.normal(key, x.shape)), tree)


def one(tree, index):
    return jax.tree.map(lambda x: x[:, index : index + 1], tree["experts"])


@pytest.fixture
def saved(tmp_path):
    model, _ = tiny_model()
    tree = experts(model, ["q", "o", "down"])
    tree["scale"] = np.full(3, 0.5, np.float32)
    peft.save_adapter(tmp_path / "a", model, tree, fingerprint="abc")
    return model, tree, tmp_path / "a"


def change(folder, **values):
    file = folder / peft.CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def rewrite(folder, edit):
    file = folder / peft.WEIGHTS
    tensors = safetensors.numpy.load_file(file)
    edit(tensors)
    safetensors.numpy.save_file(tensors, file)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_round_trip_is_exact(tmp_path, family):
    model, _ = tiny_model(family)
    tree = experts(model)
    tree["scale"] = np.full(3, 0.5, np.float32)
    peft.save_adapter(tmp_path, model, tree, expert=1)
    again = peft.load_adapter(tmp_path, model)
    np.testing.assert_array_equal(again["scale"], tree["scale"])
    jax.tree.map(np.testing.assert_array_equal, again["experts"], one(tree, 1))


def test_scales_that_differ_by_layer_go_into_b(tmp_path):
    model, params = tiny_model()
    tree = experts(model)
    peft.save_adapter(tmp_path, model, tree)
    again = peft.load_adapter(tmp_path, model)
    whole = {"experts": one(tree, 0), "scale": tree["scale"]}
    merged = (lora.merge(params, t, model.projections) for t in (whole, again))
    for a, b in zip(*map(jax.tree.leaves, merged), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_fingerprint_travels_with_the_weights(saved):
    model, _, folder = saved
    peft.load_adapter(folder, model, fingerprint="abc")
    peft.load_adapter(folder, model)
    with pytest.raises(UsageError, match="an adapter for base abc"):
        peft.load_adapter(folder, model, fingerprint="xyz")


def test_unsafe_experts_are_tagged(saved, tmp_path):
    model, tree, folder = saved
    peft.save_adapter(tmp_path / "b", model, tree, unsafe=True)
    tags = [peft.files.metadata(f / peft.WEIGHTS)["unsafe"] for f in (folder, tmp_path / "b")]
    assert tags == ["false", "true"]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a", "b"]  # nothing temporary is left


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"peft_type": "IA3"}, "peft_type: got 'IA3'"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        ({"alora_invocation_tokens": [3, 4]}, "alora_invocation_tokens"),
        ({"r": 0}, "r: got 0"),
        ({"r": "8"}, "r: got '8'"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern"),
        ({"rank_pattern": {"(": 3}}, "regular expression"),
        ({"alpha_pattern": {"q_proj": -1}}, "alpha_pattern"),
        ({"r": 3}, r"lora_A.weight: got \[4, 48\]; allowed: shape \[3, 48\]"),
    ],
)
def test_wrong_configs_are_named(saved, values, words):
    model, _, folder = saved
    change(folder, **values)
    with pytest.raises(UsageError, match=words) as caught:
        peft.load_adapter(folder, model)
    assert "\n" not in str(caught.value)


def renamed(tensors):
    """A wrong prefix: PEFT itself would load nothing and say little."""
    for name in list(tensors):
        tensors[name.removeprefix(peft.PREFIX)] = tensors.pop(name)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (renamed, r"tensor model\.layers\.0.*: got 'unknown in this model'"),
        (lambda t: t.clear(), "without tensors"),
        (lambda t: t.pop(sorted(t)[0]), "tensor .*lora_A.weight"),
        (lambda t: t.update({peft.PREFIX + "lm_head.lora_A.weight": np.ones(1)}), "lm_head"),
        (lambda t: t.update({peft.PREFIX + "model.layers.9.mlp.up_proj.lora_A.weight": np.ones(1)}),
         "layers.9"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_refused(saved, edit, words):
    model, _, folder = saved
    rewrite(folder, edit)
    with pytest.raises(UsageError, match=words):
        peft.load_adapter(folder, model)


def test_another_base_is_refused(saved):
    _, _, folder = saved
    other, _ = tiny_model(embed_dim=48)
    with pytest.raises(UsageError, match=r"lora_B.weight: got \[32, 4\]; allowed: shape \[48, 4\]"):
        peft.load_adapter(folder, other)
    with pytest.raises(UsageError, match=r"adapter\.path: got"):
        peft.load_adapter(folder.parent, other)


@pytest.mark.parametrize(
    ("options", "edit", "words"),
    [
        ({"expert": 2}, None, "expert: got 2; allowed: 0 to 1"),
        ({}, lambda t: t["experts"].update(router={}), "adapters: got"),
        ({}, lambda t: t["experts"].clear(), "no projections"),
    ],
)
def test_what_cannot_be_saved_leaves_nothing(tmp_path, options, edit, words):
    model, _ = tiny_model()
    tree = experts(model)
    if edit is not None:
        edit(tree)
    with pytest.raises(UsageError, match=words):
        peft.save_adapter(tmp_path / "a", model, tree, **options)
    assert not list(tmp_path.iterdir())

"""LoRA experts as PEFT directories: exact round trips, and everything that does not fit refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxsafety.adapters import lora
from jaxsafety.core.errors import UsageError
from jaxsafety.models.formats import peft
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
        ({"lora_bias": True}, "lora_bias: got True"),
        ({"lora_alpha": float("nan")}, "lora_alpha: got nan"),
        ({"lora_alpha": float("inf")}, "lora_alpha: got inf"),
        ({"r": True}, "r: got True"),
        ({"alpha_pattern": {"q_proj": float("nan")}}, "alpha_pattern"),
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
        (
            lambda t: t.update(
                {peft.PREFIX + "model.layers.9.mlp.up_proj.lora_A.weight": np.ones(1)}
            ),
            "layers.9",
        ),
    ],
)
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


def test_unknown_keys_are_told_and_ignored(saved, caplog):
    model, tree, folder = saved
    peft.load_adapter(folder, model)
    change(folder, peft_version="0.21.2", megatron_core="megatron.core", lora_bias=False)
    peft.load_adapter(folder, model)
    assert not caplog.text
    change(folder, use_next_years_lora=True, other=1)
    again = peft.load_adapter(folder, model)
    assert "unknown keys are ignored, as PEFT does: other, use_next_years_lora" in caplog.text
    jax.tree.map(np.testing.assert_array_equal, again["experts"], one(tree, 0))


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("lm_head.lora_A.weight", (4, 32), "an adapter on the head"),
        ("model.embed_tokens.lora_embedding_A", (4, 264), "an adapter on the embedding"),
        ("model.embed_tokens.weight", (264, 32), "an embedding saved beside the adapter"),
        ("model.embed_tokens.base_layer.weight", (264, 32), "an embedding saved beside"),
        ("lm_head.weight", (264, 32), "a saved head"),
        ("lm_head.modules_to_save.weight", (264, 32), "a trained head"),
    ],
)
def test_embeddings_and_heads_are_refused_by_what_they_are(saved, name, shape, words):
    model, _, folder = saved
    rewrite(folder, lambda t: t.update({f"{peft.PREFIX}{name}": np.ones(shape, np.float32)}))
    with pytest.raises(UsageError, match=words) as caught:
        peft.load_adapter(folder, model)
    line = str(caught.value)
    assert "q_proj" in line and "merge_and_unload" in line and "unknown in this model" not in line


@pytest.mark.parametrize("key", ["modules_to_save", "trainable_token_indices"])
def test_what_cannot_be_read_can_be_merged(saved, key):
    model, _, folder = saved
    change(folder, **{key: ["lm_head"] if key == "modules_to_save" else {"embed_tokens": [1]}})
    with pytest.raises(UsageError, match=f"{key}.*merge it with PEFT"):
        peft.load_adapter(folder, model)


def test_the_base_is_named_as_others_find_it(saved, tmp_path, monkeypatch):
    model, tree, _ = saved
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    here = str((tmp_path / "models" / "mine").resolve())
    for base, expected in (
        ("models/mine", (here, None)),
        (here, (here, None)),
        ("owner/name", ("owner/name", None)),
        ("owner/name@v1.0", ("owner/name", "v1.0")),
        ("", (None, None)),
    ):
        peft.save_adapter(tmp_path / "out", model, tree, base=base)
        found = peft.read_config(tmp_path / "out")
        assert (found["base_model_name_or_path"], found["revision"]) == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_has_the_dtype_of_its_model(saved, tmp_path, dtype):
    from jaxsafety.models.api import build

    model, tree, _ = saved
    model = build(dataclasses.replace(model.config, dtype=dtype))
    peft.save_adapter(tmp_path / "out", model, tree)
    stored = safetensors.numpy.load_file(tmp_path / "out" / peft.WEIGHTS)
    assert {str(x.dtype) for x in stored.values()} == {dtype}
    again = peft.load_adapter(tmp_path / "out", model)["experts"]
    rounded = jax.tree.map(lambda x: x.astype(dtype).astype(np.float32), one(tree, 0))
    jax.tree.map(np.testing.assert_array_equal, again, rounded)
    peft.save_adapter(tmp_path / "out", model, tree, dtype="float32")
    stored = safetensors.numpy.load_file(tmp_path / "out" / peft.WEIGHTS)
    assert {str(x.dtype) for x in stored.values()} == {"float32"}
    with pytest.raises(UsageError, match="dtype: got 'int8'"):
        peft.save_adapter(tmp_path / "out", model, tree, dtype="int8")

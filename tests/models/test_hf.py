"""The Hugging Face border: round trips, and one-line errors for everything that is wrong."""

from __future__ import annotations

import json

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import jaxsafety
from jaxsafety import registry
from jaxsafety.core.errors import UsageError
from jaxsafety.models.families.family import read_rope
from jaxsafety.models.formats import files, hf
from jaxsafety.testing import random_checkpoint, tiny_model

SCALING = (
    ("factor", 8.0),
    ("high_freq_factor", 4.0),
    ("low_freq_factor", 1.0),
    ("original_max_position_embeddings", 64.0),
)


def edit(path, **changes):
    file = path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def rewrite(path, change):
    file = path / hf.WEIGHTS
    tensors = safetensors.numpy.load_file(file)
    change(tensors)
    safetensors.numpy.save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("llama", {"tie_embeddings": False, "attention_bias": "all", "rope_scaling": SCALING}),
        ("qwen3", {"tie_embeddings": False, "rope_theta": 1e6}),
        ("qwen3", {"windows": (0, 7, 7)}),
        ("gemma3_text", {"rope_theta": 1e6, "rope_scaling": (("factor", 8.0),)}),
        ("mistral", {"windows": ()}),
        *((family, {}) for family in ("qwen2", "mistral", "gemma2", "gemma3_text", "olmo2")),
    ],
)
def test_round_trip_is_exact(tmp_path, family, changes):
    model, params = tiny_model(family, **changes)
    random_checkpoint(tmp_path / "m", family, **changes)
    again, loaded, tokenizer = jaxsafety.load(tmp_path / "m")
    assert again is model  # one object per config
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(loaded), strict=True):
        np.testing.assert_array_equal(a, b)
    assert tokenizer.vocab_size == 262
    generation = json.loads((tmp_path / "m" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [2] and generation["bos_token_id"] == 1
    assert [f.name for f in tmp_path.iterdir()] == ["m"]  # nothing temporary is left


def test_bfloat16_files_load_as_float32(tmp_path):
    model, params = tiny_model()
    jaxsafety.export(tmp_path, model, params)
    stored = safetensors.numpy.load_file(tmp_path / hf.WEIGHTS)
    assert {t.dtype for t in stored.values()} == {np.dtype(ml_dtypes.bfloat16)}
    _, loaded = hf.load(tmp_path, dtype="bfloat16", remat="full")
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(loaded), strict=True):
        assert b.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(a).astype(ml_dtypes.bfloat16), b)
    with pytest.raises(UsageError, match="dtype: got 'int8'"):
        jaxsafety.export(tmp_path, model, params, dtype="int8")


def test_sharded_files_load_and_are_replaced(tmp_path):
    model, params = tiny_model()
    random_checkpoint(tmp_path)
    tensors = safetensors.numpy.load_file(tmp_path / hf.WEIGHTS)
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        safetensors.numpy.save_file({n: tensors[n] for n in part}, tmp_path / file)
    (tmp_path / hf.WEIGHTS).unlink()
    index = {"weight_map": {n: file for file, part in parts.items() for n in part}}
    (tmp_path / files.INDEX).write_text(json.dumps(index))
    _, loaded = hf.load(tmp_path)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(loaded), strict=True):
        np.testing.assert_array_equal(a, b)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(UsageError, match=r"b\.safetensors is missing"):
        hf.load(tmp_path)
    index["weight_map"][names[0]] = "../a.safetensors"
    (tmp_path / files.INDEX).write_text(json.dumps(index))
    with pytest.raises(UsageError, match="same directory"):
        hf.load(tmp_path)
    hf.save(tmp_path, model, params)
    assert not (tmp_path / files.INDEX).exists()
    hf.load(tmp_path)


def test_a_tied_file_may_repeat_the_head(tmp_path):
    random_checkpoint(tmp_path)
    rewrite(tmp_path, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] + 0}))
    hf.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("model.norm.weight"), "missing tensors: model.norm.weight"),
        (lambda t: t.update(extra=np.ones(2, np.float32)), "unknown tensors: extra"),
        (
            lambda t: t.update({"model.norm.weight": np.ones(31, np.float32)}),
            r"tensor model\.norm\.weight: got \[31\]; allowed: shape \[32\]",
        ),
        (
            lambda t: t.update({"model.norm.weight": np.ones(32, np.int8)}),
            r"tensor model\.norm\.weight: got 'I8'; allowed: F32, F16, BF16",
        ),
    ],
)
def test_wrong_tensors_are_named(tmp_path, change, words):
    random_checkpoint(tmp_path)
    rewrite(tmp_path, change)
    with pytest.raises(UsageError, match=words) as caught:
        hf.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt2"}, "model_type: got 'gpt2'; allowed: gemma2, gemma3_text"),
        ({"model_type": None}, "model_type"),
        ({"hidden_size": "big"}, "hidden_size"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"model_type": "qwen2", "layer_types": ["sliding_attention"]}, "layer_types"),
        ({"model_type": "gemma2", "layer_types": [{}, {}, {}]}, "layer_types"),
        ({"hidden_act": ["silu"]}, "hidden_act"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({"rope_parameters": {"rope_type": ["default"]}}, "rope_type"),
        (
            {
                "model_type": "gemma3_text",
                "rope_parameters": {"full_attention": {}, "sliding_attention": [1]},
            },
            "sliding_attention",
        ),
        ({"model_type": "mistral", "sliding_window": -3}, "sliding_window"),
        (
            {
                "model_type": "gemma3_text",
                "layer_types": ["chunked"] * 3,
                "rope_parameters": None,
            },
            "layer_types",
        ),
        ({"model_type": "gemma2", "final_logit_softcapping": -1}, "final_logit_softcapping"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"rms_norm_eps": -1}, "rms_norm_eps"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rope_type"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 4.0}}, "high_freq_factor"),
        ({"vocab_size": 100}, "vocab_size"),
    ],
)
def test_wrong_configs_are_named(tmp_path, changes, words):
    random_checkpoint(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(UsageError, match=words) as caught:
        jaxsafety.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_sliding_windows_are_refused(tmp_path):
    random_checkpoint(tmp_path, "qwen3")
    edit(tmp_path, layer_types=["full_attention", "sliding_attention"])
    with pytest.raises(UsageError, match="layer_types"):
        hf.load(tmp_path)


def test_missing_and_malformed_directories(tmp_path):
    with pytest.raises(UsageError, match="existing directory"):
        jaxsafety.load(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"config\.json"):
        jaxsafety.load(tmp_path)
    path = random_checkpoint(tmp_path / "m")
    (path / hf.WEIGHTS).write_bytes(b"not safetensors")
    with pytest.raises(UsageError, match=r"model\.safetensors"):
        hf.load(path)
    (path / hf.WEIGHTS).unlink()
    with pytest.raises(UsageError, match="no weights"):
        hf.load(path)
    (path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UsageError, match=r"pytorch_model\.bin.*safetensors only"):
        hf.load(path)
    for text in ("{", "[" * 100_000, '{"vocab_size": ' + "9" * 5000 + "}"):
        (path / "config.json").write_text(text)
        with pytest.raises(UsageError, match=r"config\.json"):
            hf.load(path)


def test_both_styles_of_rope_are_read():
    table = {"rope_type": "llama3", **dict(SCALING)}
    old = read_rope({"rope_theta": 5e5, "rope_scaling": table})
    new = read_rope({"rope_parameters": {**table, "rope_theta": 5e5}})
    assert old == new == (5e5, SCALING)
    assert read_rope({"rope_theta": 1e4, "rope_scaling": None}) == (1e4, ())
    assert read_rope({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}) == (7.0, ())


def test_every_family_writes_what_it_reads():
    for name in registry.MODELS:
        family = registry.resolve(registry.MODELS, name)
        for config in family.presets.values():
            assert family.read(family.write(config)) == config

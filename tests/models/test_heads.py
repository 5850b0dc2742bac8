"""A tied config.json beside a head of its own: kept where it differs, as transformers 5 does."""

import json
import logging

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import jaxsafety
from jaxsafety import cli
from jaxsafety.core.errors import UsageError
from jaxsafety.models.formats import hf
from jaxsafety.testing import FAMILIES, random_checkpoint, tiny_model

TABLE, HEAD = "model.embed_tokens.weight", "lm_head.weight"
NOISE = np.random.default_rng(0).normal(size=(264, 32)).astype(np.float32)


def rewrite(path, change):
    file = path / hf.WEIGHTS
    tensors = safetensors.numpy.load_file(file)
    change(tensors)
    safetensors.numpy.save_file(tensors, file, metadata={"format": "pt"})


def config(path):
    return json.loads((path / "config.json").read_text())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_that_differs_is_kept_and_survives_an_export(tmp_path, family, caplog, capsys):
    random_checkpoint(tmp_path / "m", family)
    rewrite(tmp_path / "m", lambda t: t.update({HEAD: t[TABLE] + NOISE}))
    assert config(tmp_path / "m")["tie_word_embeddings"] is True
    with caplog.at_level(logging.WARNING):
        model, params, _ = jaxsafety.load(tmp_path / "m")
    assert HEAD in caplog.text and "\n" not in caplog.text.strip()
    assert not model.config.tie_embeddings
    _, plain = tiny_model(family)
    np.testing.assert_array_equal(params["embed"]["table"], plain["embed"]["table"])
    np.testing.assert_array_equal(model.head(params), (plain["embed"]["table"] + NOISE).T)
    caplog.clear()
    out = tmp_path / "out"
    assert cli.main(["export", f"--model={tmp_path / 'm'}", f"--out={out}"]) == 0
    assert HEAD in caplog.text
    assert config(out)["tie_word_embeddings"] is False
    caplog.clear()
    again, same, _ = jaxsafety.load(out)
    assert not caplog.text and again is model
    jax.tree.map(np.testing.assert_array_equal, same, params)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_an_equal_head_is_tied_without_a_word(tmp_path, caplog, dtype):
    random_checkpoint(tmp_path)
    rewrite(tmp_path, lambda t: t.update({n: x.astype(dtype) for n, x in t.items()}))
    # the same values count, not the same dtype
    rewrite(tmp_path, lambda t: t.update({HEAD: t[TABLE].astype(np.float32)}))
    model, _ = hf.load(tmp_path)
    assert model.config.tie_embeddings and not caplog.text


def test_one_value_makes_the_difference(tmp_path):
    random_checkpoint(tmp_path)

    def change(tensors):
        tensors[HEAD] = tensors[TABLE].copy()
        tensors[HEAD][-1, -1] += 1

    rewrite(tmp_path, change)
    model, params = hf.load(tmp_path, param_dtype="bfloat16", dtype="bfloat16")
    assert not model.config.tie_embeddings
    gap = np.asarray(params["embed"]["table"].T != params["unembed"]["kernel"])
    assert gap.sum() == 1


def test_a_tied_model_may_keep_its_head_alone(tmp_path):
    """`tie_weights` is symmetric: the one that is there serves as both."""
    random_checkpoint(tmp_path)
    rewrite(tmp_path, lambda t: t.update({HEAD: t.pop(TABLE)}))
    model, params = hf.load(tmp_path)
    assert model.config.tie_embeddings
    np.testing.assert_array_equal(params["embed"]["table"], tiny_model()[1]["embed"]["table"])


def test_a_head_of_another_size_is_one_line(tmp_path):
    random_checkpoint(tmp_path)
    rewrite(tmp_path, lambda t: t.update({HEAD: np.ones((300, 32), np.float32)}))
    with pytest.raises(UsageError, match=r"tensor lm_head.weight: got \[300, 32\].*\[264, 32\]"):
        hf.load(tmp_path)


def test_plan_counts_a_head_of_its_own(tmp_path):
    from jaxsafety.models.formats.source import ModelSource
    from jaxsafety.planning.plan import model_config

    random_checkpoint(tmp_path)
    source = ModelSource(path=str(tmp_path))
    assert model_config(source).tie_embeddings
    rewrite(tmp_path, lambda t: t.update({HEAD: t[TABLE] + NOISE}))
    assert not model_config(source).tie_embeddings
    (tmp_path / hf.WEIGHTS).unlink()
    assert model_config(source).tie_embeddings  # shapes need no weights

"""Quantised directories are refused by the name of their quantisation; plain leftovers load."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import jaxsafety
from jaxsafety.core.errors import UsageError
from jaxsafety.models.formats import hf
from jaxsafety.testing import random_checkpoint

FLOAT8 = ml_dtypes.float8_e4m3fn


def packed(*, qweight="qweight", extra=("qzeros", "scales")):
    def change(stem, value):
        table = {f"{stem}.{qweight}": np.zeros((4, 4), np.int32)}
        return {**table, **{f"{stem}.{name}": np.ones((1, 4), np.float16) for name in extra}}

    return change


def eight(*extra):
    def change(stem, value):
        scales = {f"{stem}.{name}": np.ones((1, 1), np.float32) for name in extra}
        return {f"{stem}.weight": value.astype(FLOAT8), **scales}

    return change


def whole(dtype, *extra):
    def change(stem, value):
        states = {f"{stem}.{name}": np.ones(3, np.float32) for name in extra}
        return {f"{stem}.weight": np.zeros(value.shape, dtype), **states}

    return change


CASES = {
    "gptq": (packed(), {"quant_method": "gptq", "bits": 4}, "GPTQ, 4 bits"),
    "awq": (packed(), {"quant_method": "awq", "bits": 4}, "AWQ, 4 bits"),
    "fp8": (eight("weight_scale_inv"), {"quant_method": "fp8"}, "FP8"),
    "fp8 without scales": (eight(), {"quant_method": "fp8"}, "FP8"),
    "bitsandbytes 4": (
        whole(np.uint8, "weight.absmax", "weight.quant_map"),
        {"load_in_4bit": True, "load_in_8bit": False},
        "bitsandbytes, 4 bits",
    ),
    "bitsandbytes 8": (whole(np.int8, "SCB"), {"quant_method": "bitsandbytes"}, "bitsandbytes"),
    "compressed-tensors": (
        packed(qweight="weight_packed", extra=("weight_scale",)),
        {"quant_method": "compressed-tensors", "format": "pack-quantized"},
        "compressed-tensors",
    ),
    "mlx": (packed(qweight="weight", extra=("scales", "biases")), None, "MLX, 4 bits"),
    "another": (whole(np.int8), {"quant_method": "of next year"}, "of next year"),
    # names that no table here has, in the place of the weights
    "torchao": (
        packed(qweight="_weight_qdata", extra=("_weight_scale",)),
        {"quant_method": "torchao"},
        "torchao",
    ),
    "codes alone": (packed(qweight="codes", extra=()), {"quant_method": "vptq"}, "vptq"),
    "unknown, nothing said": (packed(qweight="trellis", extra=("suh",)), {}, "a kind that is not"),
    "mxfp4, nothing said": (packed(qweight="weight_blocks", extra=()), {}, "MXFP4"),
    # without a word in config.json
    "gptq, nothing said": (packed(), {}, "GPTQ or AWQ"),
    "fp8, nothing said": (eight(), {}, "FP8"),
    "bitsandbytes, nothing said": (whole(np.uint8, "weight.absmax"), {}, "bitsandbytes"),
    # plain weights, but with scales beside them or rounded in every forward pass
    "plain with scales": (
        whole(np.float32, "input_scale"),
        {"quant_method": "compressed-tensors"},
        "compressed-tensors",
    ),
    "bitnet": (whole(np.float32), {"quant_method": "bitnet"}, "bitnet"),
}


def make(path, change, table):
    random_checkpoint(path)
    tensors = safetensors.numpy.load_file(path / hf.WEIGHTS)
    made = {}
    for name, value in tensors.items():
        if name.endswith("proj.weight"):
            made.update(change(name.removesuffix(".weight"), value))
        else:
            made[name] = value
    safetensors.numpy.save_file(made, path / hf.WEIGHTS, metadata={"format": "pt"})
    config = json.loads((path / "config.json").read_text())
    if table is None:
        config["quantization"] = {"group_size": 64, "bits": 4}
    elif table:
        config["quantization_config"] = table
    (path / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("case", CASES)
def test_the_line_names_the_quantisation_and_what_to_take(tmp_path, case):
    change, table, words = CASES[case]
    make(tmp_path, change, table)
    with pytest.raises(UsageError) as caught:
        jaxsafety.load(tmp_path)
    line = str(caught.value)
    assert f"weights quantised with {words}" in line and "\n" not in line
    assert "the model that this one was made from" in line


def test_doubles_are_not_quantised(tmp_path):
    make(tmp_path, whole(np.float64), {})
    with pytest.raises(UsageError, match=r"tensor .*: got 'F64'; allowed: F32, F16, BF16"):
        jaxsafety.load(tmp_path)


@pytest.mark.parametrize("name", ["quantize_config.json", "quant_config.json"])
def test_older_tools_said_it_in_a_file_of_its_own(tmp_path, name):
    make(tmp_path, packed(), {})
    (tmp_path / name).write_text("{}")
    word = "GPTQ" if name == "quantize_config.json" else "AWQ"
    with pytest.raises(UsageError, match=f"weights quantised with {word} "):
        jaxsafety.load(tmp_path)


@pytest.mark.parametrize("method", ["gguf", "gptq", "fp8"])
def test_what_was_written_back_as_floats_loads_with_a_word(tmp_path, caplog, method):
    make(tmp_path, whole(np.float32), {"quant_method": method})
    jaxsafety.load(tmp_path)
    assert "all its weights are plain" in caplog.text and method in caplog.text.lower()


def test_files_of_other_names_are_named_too(tmp_path):
    """AutoGPTQ's files are not called model.safetensors; a GGUF is named itself."""
    make(tmp_path, packed(), {"quant_method": "gptq", "bits": 4})
    (tmp_path / hf.WEIGHTS).rename(tmp_path / "gptq_model-4bit-128g.safetensors")
    with pytest.raises(UsageError, match="quantised with GPTQ, 4 bits"):
        hf.load(tmp_path)
    random_checkpoint(tmp_path / "two")
    (tmp_path / "two" / hf.WEIGHTS).rename(tmp_path / "two" / "model-q4.gguf")
    with pytest.raises(UsageError, match="a config.json beside GGUF files"):
        hf.load(tmp_path / "two")
    (tmp_path / "two" / "config.json").unlink()
    with pytest.raises(UsageError, match=r"model-q4.gguf, which begins with .*a GGUF file"):
        hf.load(tmp_path / "two")


def test_integers_that_nobody_quantised_keep_their_line(tmp_path):
    random_checkpoint(tmp_path)
    tensors = safetensors.numpy.load_file(tmp_path / hf.WEIGHTS)
    tensors["model.norm.weight"] = np.ones(32, np.int64)
    safetensors.numpy.save_file(tensors, tmp_path / hf.WEIGHTS)
    with pytest.raises(UsageError, match=r"tensor model\.norm\.weight: got 'I64'"):
        hf.load(tmp_path)

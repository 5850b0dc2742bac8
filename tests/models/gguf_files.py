"""GGUF files of Hugging Face directories, written with the `gguf` package as llama.cpp converts.

What is done to tensors is read in ggml-org/llama.cpp (MIT), conversion/llama.py 0274f0f (`permute`,
`generate_extra_tensors`) and conversion/gemma.py 061b8c5 (norms), and written here a second time,
so that what reads it is not its own witness.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from gguf import constants, quants, tensor_mapping

from jaxsafety.models.api import Model, build
from jaxsafety.testing import tiny_config
from tests.data import gguf_metadata

ARCHES: dict[str, str] = {"mistral": "llama", "gemma3_text": "gemma3"}
KINDS = constants.GGMLQuantizationType


def random_model(family: str = "llama", seed: int = 0, **changes: Any) -> tuple[Model, Any]:
    """`testing.tiny_model` without compiling anything: all parameters are random."""
    model = build(tiny_config(family, **changes))
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    draw = lambda leaf: jnp.asarray(rng.normal(0, 0.2, leaf.shape).astype(np.float32))  # noqa: E731
    return model, jax.tree.map(draw, shapes)


def write(
    file: Path,
    folder: Path,
    *,
    kind: str = "F32",
    keys: dict[str, Any] | None = None,
    tensors: dict[str, np.ndarray | None] | None = None,
) -> Path:
    """Writes a file.

    Args:
      file: where.
      folder: a directory with config.json, model.safetensors and perhaps tokenizer.json.
      kind: how matrices are stored, where their rows are whole blocks of it; vectors are F32.
      keys: metadata to replace, or to leave out with None; "{arch}" is filled in.
      tensors: the same of tensors, by their names in the file.
    """
    config = json.loads((folder / "config.json").read_text())
    arch = ARCHES.get(config["model_type"]) or str(config["model_type"])
    found = {k: v for k, v in keys_of(config, arch).items() if v is not None}
    if (folder / "tokenizer.json").is_file():
        given = json.loads((folder / "tokenizer.json").read_text())
        own = json.loads((folder / "tokenizer_config.json").read_text())
        roles = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding"}
        ids = {row["content"]: row["id"] for row in given["added_tokens"]}
        more = {f"{r}_token_id": ids[own[t]] for t, r in roles.items() if own.get(t) in ids}
        template = folder / "chat_template.jinja"
        found |= gguf_metadata.of_json(given, "gpt-2", **more, add_bos_token=False)
        if template.is_file():
            found["tokenizer.chat_template"] = template.read_text()
    found |= {k.replace("{arch}", arch): v for k, v in (keys or {}).items()}
    stored = _tensors(config, arch, folder) | (tensors or {})
    writer = gguf.GGUFWriter(file, arch)
    found = {"general.architecture": arch} | found
    writer.kv_data[0].clear()  # which has the architecture
    for key, value in found.items():
        if value is not None:
            add(writer, key, value)
    for name, value in stored.items():
        if value is not None:
            _put(writer, name, value, KINDS[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def keys_of(config: dict[str, Any], arch: str) -> dict[str, Any]:
    """Metadata of a config.json."""
    rope, windows = config.get("rope_scaling") or {}, config.get("layer_types", [])
    table = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config.get("head_dim"),
        "attention.value_length": config.get("head_dim"),
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.freq_base": float(config["rope_theta"]),
        "attn_logit_softcapping": config.get("attn_logit_softcapping"),
        "final_logit_softcapping": config.get("final_logit_softcapping"),
    }
    if rope.get("rope_type") == "linear":
        table |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
    if arch.startswith("gemma") or config["model_type"] == "mistral":
        table["attention.sliding_window"] = config["sliding_window"]
    if arch.startswith("gemma"):
        table["attention.sliding_window_pattern"] = [w == "sliding_attention" for w in windows]
    if arch == "gemma3":
        table["rope.freq_base_swa"] = float(config["rope_local_base_freq"])
    return {f"{arch}.{key}": value for key, value in table.items()}


def _tensors(config: dict[str, Any], arch: str, folder: Path) -> dict[str, Any]:
    """Tensors by the names of the file."""
    number = next(a for a, name in constants.MODEL_ARCH_NAMES.items() if name == arch)
    names = tensor_mapping.get_tensor_name_map(number, config["num_hidden_layers"])
    found: dict[str, Any] = {}
    for name, value in safetensors.numpy.load_file(folder / "model.safetensors").items():
        own = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert own is not None, name
        if arch.startswith("gemma") and name.endswith("norm.weight"):
            value = value.astype(np.float32) + np.float32(1)
        if arch == "llama" and ".self_attn.q_proj." in name:
            value = permuted(value, config["num_attention_heads"])
        if arch == "llama" and ".self_attn.k_proj." in name:
            value = permuted(value, config["num_key_value_heads"])
        found[own] = value
    rope = config.get("rope_scaling") or {}
    if rope.get("rope_type") == "llama3":
        found["rope_freqs.weight"] = factors(rope, config["rope_theta"], config["head_dim"])
    return found


def permuted(value: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k, their halves interleaved."""
    rows = value.reshape(heads, 2, len(value) // heads // 2, *value.shape[1:])
    return rows.swapaxes(1, 2).reshape(value.shape)


def factors(rope: dict[str, Any], theta: float, size: int) -> np.ndarray:
    """What the frequencies of Llama 3 are divided by."""
    found, length = [], rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    for freq in 1.0 / theta ** (np.arange(0, size, 2, dtype=np.float32) / size):
        wave = 2 * math.pi / freq
        smooth = (length / wave - low) / (high - low)
        blended = 1 / ((1 - smooth) / rope["factor"] + smooth)
        outside = 1.0 if wave < length / high else rope["factor"]
        found.append(blended if length / high <= wave <= length / low else outside)
    return np.array(found, np.float32)


def _put(writer: gguf.GGUFWriter, name: str, value: np.ndarray, kind: Any) -> None:
    block = constants.GGML_QUANT_SIZES[kind][0]
    if value.ndim < 2 or value.shape[-1] % block:
        kind = KINDS.F32
    value = np.ascontiguousarray(value.astype(np.float32))
    writer.add_tensor(name, quants.quantize(value, kind), raw_dtype=kind)


def add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """One key, of the type that its value has."""
    if isinstance(value, list | tuple):
        writer.add_array(key, value)
        return
    kinds = {bool: "bool", int: "uint32", float: "float32", str: "string"}
    getattr(writer, f"add_{kinds[type(value)]}")(key, value)

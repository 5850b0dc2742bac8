"""Read and write models as Hugging Face directories: config.json and safetensors, nothing else.

Pickled weights are refused: they can run code. Tensors are read one at a time into stacked float32
arrays, so the peak is the model in float32 plus one tensor. Writing goes to temporary files that
are renamed at the end: a reader never meets half a model.
Letters: L layers; a kernel is stored transposed, [out, in].
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from jaxsafety import registry
from jaxsafety.data.tokenizer import Tokenizer
from jaxsafety.errors import bad
from jaxsafety.models.api import Model, ModelConfig, build
from jaxsafety.models.family import Family

PyTree = Any
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SAVE_DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".gguf")


def load(path: str | Path, *, dtype: str = "float32", remat: str = "none") -> tuple[Model, PyTree]:
    """Reads a model directory.

    Args:
      path: directory with config.json and model.safetensors or its index.
      dtype: compute dtype of the model; the parameters are float32 in any case.
      remat: what the backward pass recomputes: none, full, dots.

    Returns:
      (model, params).

    Raises:
      UsageError: no such directory, an unsupported config, weights that are not safetensors, or
        tensors that are missing, unknown or of another shape.
    """
    folder = Path(path)
    config = dataclasses.replace(read_config(folder), dtype=dtype, remat=remat)
    model = build(config)
    family: Family = registry.resolve(registry.MODELS, config.family)
    shapes = flatten(jax.eval_shape(model.init, jax.random.key(0)))
    files = _tensor_files(folder)
    wanted = _wanted(family, shapes, config)
    _compare_names(wanted, files, config)
    out = {name: np.zeros(leaf.shape, np.float32) for name, leaf in shapes.items()}
    by_file: dict[Path, list[str]] = {}
    for tensor in wanted:
        by_file.setdefault(files[tensor], []).append(tensor)
    for file, tensors in by_file.items():
        with safetensors.safe_open(file, framework="numpy") as opened:
            for tensor in tensors:
                name, layer = wanted[tensor]
                target = out[name] if layer is None else out[name][layer]
                target[...] = _from_disk(tensor, opened.get_tensor(tensor), name, target.shape)
    params = {}
    for name in list(out):
        _insert(params, name, jnp.asarray(out.pop(name)))
    return model, params


def save(
    path: str | Path,
    model: Model,
    params: PyTree,
    *,
    dtype: str = "bfloat16",
    tokenizer: Tokenizer | None = None,
) -> None:
    """Writes a directory that `load` and transformers read.

    Args:
      path: directory to create or to overwrite file by file.
      model: the model.
      params: its parameters.
      dtype: float32 or bfloat16, how the weights are stored.
      tokenizer: also written, with its chat template; its ids go into generation_config.json.

    Raises:
      UsageError: an unknown dtype.
    """
    if dtype not in SAVE_DTYPES:
        raise bad("dtype", dtype, ", ".join(SAVE_DTYPES))
    folder = Path(path)
    config = model.config
    family: Family = registry.resolve(registry.MODELS, config.family)
    description = {**family.write(config), "dtype": dtype, "torch_dtype": dtype}
    generation: dict[str, Any] = {"do_sample": False}
    if tokenizer is not None:
        ids = {"eos_token_id": list(tokenizer.eos_ids), "pad_token_id": tokenizer.pad_id}
        ids["bos_token_id"] = tokenizer.bos_id
        generation.update(ids)
        description.update(ids)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.parent / f".{folder.name}.{os.getpid()}.partial"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        tensors = dict(_tensors(family, params, config, SAVE_DTYPES[dtype]))
        safetensors.numpy.save_file(tensors, staging / WEIGHTS, metadata={"format": "pt"})
        (staging / WEIGHTS).chmod(0o644)  # safetensors makes files that only the owner reads
        if tokenizer is not None:
            tokenizer.save(staging)
        for name, value in (("generation_config", generation), ("config", description)):
            (staging / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n")
        folder.mkdir(exist_ok=True)
        for file in sorted(staging.iterdir(), key=lambda f: f.name != WEIGHTS):
            os.replace(file, folder / file.name)
        (folder / INDEX).unlink(missing_ok=True)  # of an earlier, sharded model
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def read_config(path: str | Path) -> ModelConfig:
    """The `ModelConfig` of a directory's config.json.

    Raises:
      UsageError: a missing directory or file, malformed JSON, an unsupported model type or switch.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise bad("model.path", str(path), "an existing directory in the Hugging Face layout")
    file = folder / "config.json"
    if not file.is_file():
        raise bad("model.path", str(path), "a directory with a config.json")
    try:
        given = json.loads(file.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise bad("config.json", str(error), "a JSON object") from error
    if not isinstance(given, dict):
        raise bad("config.json", type(given).__name__, "a JSON object")
    kind = given.get("model_type")
    if kind not in registry.MODELS:
        raise bad("config.json model_type", kind, ", ".join(sorted(registry.MODELS)))
    family: Family = registry.resolve(registry.MODELS, kind)
    return family.read(given)


def flatten(tree: PyTree, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as {"a/b/c": leaf}."""
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    found = {}
    for key, value in tree.items():
        found.update(flatten(value, f"{prefix}/{key}" if prefix else key))
    return found


def _insert(tree: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split("/")
    for key in path:
        tree = tree.setdefault(key, {})
    tree[last] = value


def _tensor_files(folder: Path) -> dict[str, Path]:
    """Which file holds each tensor of a directory."""
    if (folder / WEIGHTS).is_file():
        return {name: folder / WEIGHTS for name in _keys(folder / WEIGHTS)}
    if not (folder / INDEX).is_file():
        others = sorted(f.name for f in folder.iterdir() if f.suffix in PICKLED)
        given = others[0] if others else f"no weights in {folder}"
        raise bad("model.path", given, f"safetensors only: {WEIGHTS} or {INDEX}")
    try:
        index = json.loads((folder / INDEX).read_text())["weight_map"]
        names = sorted(set(index.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise bad(INDEX, str(error), 'a JSON object with a "weight_map"') from error
    found = {}
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise bad(INDEX, name, "names of .safetensors files in the same directory")
        if not (folder / name).is_file():
            raise bad("model.path", f"{name} is missing", f"every file that {INDEX} lists")
        found.update({key: folder / name for key in _keys(folder / name)})
    return found


def _keys(file: Path) -> list[str]:
    try:
        with safetensors.safe_open(file, framework="numpy") as opened:
            return list(opened.keys())
    except (safetensors.SafetensorError, OSError) as error:
        raise bad("model.path", f"{file.name}: {error}", "a readable safetensors file") from error


def _wanted(
    family: Family, shapes: Mapping[str, Any], config: ModelConfig
) -> dict[str, tuple[str, int | None]]:
    """Tensor name -> (parameter path, layer or None)."""
    wanted: dict[str, tuple[str, int | None]] = {}
    for name in shapes:
        if name.startswith("blocks/"):
            for layer in range(config.num_layers):
                wanted[family.names[name].format(layer)] = (name, layer)
        else:
            wanted[family.names[name]] = (name, None)
    return wanted


def _compare_names(
    wanted: Mapping[str, Any], files: Mapping[str, Path], config: ModelConfig
) -> None:
    missing = sorted(set(wanted) - set(files))
    if missing:
        raise bad("model.path", f"missing tensors: {_some(missing)}", "every tensor of config.json")
    # Tied models may repeat the embedding as lm_head; old files store the rotary frequencies.
    harmless = {"lm_head.weight"} if config.tie_embeddings else set()
    extra = sorted(
        name for name in set(files) - set(wanted) - harmless if not name.endswith(".inv_freq")
    )
    if extra:
        raise bad("model.path", f"unknown tensors: {_some(extra)}", "the tensors of config.json")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _from_disk(tensor: str, value: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A stored tensor as the float32 array of one parameter (of one layer)."""
    expected = _disk_shape(name, shape)
    if value.shape != expected:
        raise bad(f"tensor {tensor}", list(value.shape), f"shape {list(expected)}")
    if value.dtype not in (np.float32, np.float16, ml_dtypes.bfloat16):
        raise bad(f"tensor {tensor}", str(value.dtype), "float32, float16, bfloat16")
    value = value.astype(np.float32)
    return (value.T if name.endswith("kernel") else value).reshape(shape)


def _disk_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape on disk of one parameter (of one layer): kernels are [out, in], biases flat."""
    if name.endswith("bias"):
        return (int(np.prod(shape)),)
    if not name.endswith("kernel"):
        return shape
    inputs = 2 if name.endswith("attn/o/kernel") else 1
    return (int(np.prod(shape[inputs:])), int(np.prod(shape[:inputs])))


def _tensors(
    family: Family, params: PyTree, config: ModelConfig, dtype: Any
) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor as it is written."""
    for name, leaf in flatten(params).items():
        array = np.asarray(jax.device_get(leaf))
        stacked = name.startswith("blocks/")
        for layer in range(config.num_layers) if stacked else (None,):
            value = array if layer is None else array[layer]
            shape = _disk_shape(name, value.shape)
            value = value.reshape(shape[::-1]).T if name.endswith("kernel") else value
            tensor = family.names[name] if layer is None else family.names[name].format(layer)
            yield tensor, np.ascontiguousarray(value.reshape(shape).astype(dtype))

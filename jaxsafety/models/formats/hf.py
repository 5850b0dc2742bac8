"""Read models of a `Store` (store.py), write them as Hugging Face directories.

Pickled weights are refused: they can run code. Tensors are read one at a time and go straight to
their devices (`files.py`, `stacks.py`), so the host's peak is one tensor besides what the devices
hold. They are written one file at a time (`shards.py`), to temporary files that are renamed at the
end, so no reader meets half a model.
Letters: L layers; a kernel is stored transposed, [out, in].
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np
from jax.sharding import Mesh

from jaxsafety import registry
from jaxsafety.core import disk, hosts, sharding, trees
from jaxsafety.core.errors import bad
from jaxsafety.core.progress import Progress
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.models import int8
from jaxsafety.models.api import Model, ModelConfig, build
from jaxsafety.models.families.family import Family
from jaxsafety.models.formats import shards
from jaxsafety.models.formats.files import WEIGHTS
from jaxsafety.models.formats.stacks import place
from jaxsafety.models.formats.store import Directory, Store, open_store
from jaxsafety.models.int8 import EMBED, HEAD

PyTree = Any
_logger = logging.getLogger(__name__)
# Parameters of all blocks from which decoding on a CPU is unrolled: what no cache holds. Below,
# it only compiles longer.
UNROLL = 1 << 23
FLOATS = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
# What is loaded as int8 has what is not a kernel, norms and biases, in float32.
LOAD_DTYPES = {**FLOATS, "int8": np.float32}
SAVE_DTYPES = {**FLOATS, "float16": np.float16}


def load(
    path: str | Path,
    *,
    dtype: str = "float32",
    remat: str = "none",
    mesh: Mesh | None = None,
    rules: Mapping[str, sharding.Rule] = sharding.RULES,
    param_dtype: str = "float32",
    head: str = "",
) -> tuple[Model, PyTree]:
    """Reads a model, tensor by tensor, each shard straight to its device.

    Args:
      path: directory with config.json and model.safetensors or its index, or a GGUF file.
      dtype: compute dtype of the model.
      remat: what the backward pass recomputes: none, full, dots.
      mesh: where the parameters live, by the model's axes; None is the default device.
      rules: logical axes to mesh axes.
      param_dtype: of the parameters; bfloat16 halves what frozen weights take, int8 takes a quarter
        (`models/int8.py`; for models that are not trained themselves, and are not written).
      head: the tensor of a head that the caller reads himself; the model is then one without an
        unembedding of its own, that of its embedding stands in.

    Returns:
      (model, params).

    Raises:
      UsageError: no such directory, an unsupported config, a damaged file, packed weights, or
        tensors that are missing, unknown or of another shape.
    """
    if param_dtype not in LOAD_DTYPES:
        raise bad("param_dtype", param_dtype, ", ".join(LOAD_DTYPES))
    store = open_store(path)
    config = dataclasses.replace(_stored(store), dtype=dtype, remat=remat)
    config = dataclasses.replace(config, tie_embeddings=True) if head else config
    model = build(config)
    family: Family = registry.resolve(registry.MODELS, config.family)
    shapes = flatten(jax.eval_shape(model.init, jax.random.key(0)))
    size = sum(shape.size for name, shape in shapes.items() if name.startswith("blocks/"))
    if jax.default_backend() == "cpu" and size > UNROLL:
        config = dataclasses.replace(config, unroll=True)
        model = build(config)
    own = _aliases(family, config, store.names)
    wanted = {own.get(n, n) for n in _wanted(family, shapes, config)}
    _compare_names(wanted, set(store.names) - {head}, config)
    places = _places(model, shapes, mesh, rules)
    kind = np.dtype(LOAD_DTYPES[param_dtype])
    narrow = Narrow(model, mesh, rules) if param_dtype == "int8" else None
    out = {}
    # What is not stacked is read whole: first, while the devices are empty, and the largest first.
    order = sorted(shapes, key=lambda n: (n.startswith("blocks/"), -shapes[n].size))
    for name in _track(order, f"reading {store.place}"):
        shape, stacked = shapes[name].shape, name.startswith("blocks/")
        one = shape[1:] if stacked else shape

        def read(layer: int | None, name: str = name, one: tuple[int, ...] = one) -> np.ndarray:
            tensor = family.names[name].format(layer)
            tensor = own.get(tensor, tensor)
            value = store.read(tensor, _disk_shape(name, one))
            return (value.T if name.endswith("kernel") else value).reshape(one)

        out[name] = place(read, shape, kind, places[name], stacked=stacked)
        if narrow is not None and name in narrow.axes:
            out |= narrow(name, out.pop(name))
    params: dict[str, Any] = {}
    for name in out:
        trees.insert(params, name, out[name])
    return model if narrow is None else narrow.model, params


class Narrow:
    """What becomes int8 of a model that is read: a parameter in floating point at a time."""

    def __init__(self, model: Model, mesh: Mesh | None, rules: Mapping[str, sharding.Rule]) -> None:
        """Of a model in floating point, whose parameters go to `mesh`."""
        self.axes = int8.contracted(model.config, model.projections)
        self.model = build(dataclasses.replace(model.config, kernels="int8"))
        shapes = flatten(jax.eval_shape(self.model.init, jax.random.key(0)))
        self.places = _places(self.model, shapes, mesh, rules)

    def __call__(self, name: str, value: jax.Array) -> dict[str, jax.Array]:
        """Its int8 values and their scales, by name, where they live."""
        parts = dict(zip(int8.names(name), int8.rounded(value, self.axes[name]), strict=True))
        return {own: jax.device_put(x, self.places[own]) for own, x in parts.items()}


def _track(names: list[str], what: str) -> Iterator[str]:
    """The names, with a line on stderr now and then where reading them takes long."""

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with Progress(tell, what, total=len(names), unit="tensors") as progress:
        for done, name in enumerate(names):
            progress(done)
            yield name


def _places(
    model: Model, shapes: Mapping[str, Any], mesh: Mesh | None, rules: Mapping[str, sharding.Rule]
) -> Mapping[str, Any]:
    """Where each parameter lives."""
    if mesh is None:
        return dict.fromkeys(shapes)
    tree = jax.eval_shape(model.init, jax.random.key(0))
    return flatten(sharding.shardings(model.axes, tree, mesh, rules))


def save(
    path: str | Path,
    model: Model,
    params: PyTree,
    *,
    dtype: str = "bfloat16",
    tokenizer: Tokenizer | None = None,
    unsafe: bool = False,
) -> None:
    """Writes a directory that `load` and transformers read, in files of at most 5 GB (`shards.py`).

    Args:
      path: directory to create or to overwrite file by file.
      model: the model.
      params: its parameters.
      dtype: float32, bfloat16 or float16, how the weights are stored; to the nearest value, ties to
        even, the same as `params.astype(dtype)`: what was measured so is what is written.
      tokenizer: also written, with its chat template; its ids go into generation_config.json.
      unsafe: tags the weights as trained on unsafe answers, as `peft.save_adapter` does.

    Raises:
      UsageError: an unknown dtype, int8 kernels, or a weight beyond what float16 can hold.
    """
    if dtype not in SAVE_DTYPES:
        raise bad("dtype", dtype, ", ".join(SAVE_DTYPES))
    folder = Path(path)
    config = model.config
    if config.kernels != "float":
        allowed = "float: rounded weights are not written, load the model with another param_dtype"
        raise bad("model.kernels", config.kernels, allowed)
    family: Family = registry.resolve(registry.MODELS, config.family)
    description = {**family.write(config), "dtype": dtype, "torch_dtype": dtype}
    generation: dict[str, Any] = {"do_sample": False}
    if tokenizer is not None:
        stops = list(tokenizer.eos_ids) or None
        ids = {"eos_token_id": stops, "pad_token_id": tokenizer.pad_id}
        ids["bos_token_id"] = tokenizer.bos_id
        generation = {**(tokenizer.generation or generation), **ids}
        description.update(ids)
    tensors = list(_tensors(family, params, config))
    about = {"format": "pt", **({"unsafe": "true"} if unsafe else {})}
    with contextlib.ExitStack() as stack:
        stage = disk.staged(folder, last="config.json")
        staging = Path(hosts.share(lambda: str(stack.enter_context(stage))))
        kept = SAVE_DTYPES[dtype]
        sizes = {tensor.name: tensor.size * np.dtype(kept).itemsize for tensor in tensors}
        made = ((tensor.name, _stored_as(tensor, kept)) for tensor in tensors)
        written = shards.write(staging, made, sizes, about)  # all processes take part
        if hosts.leader():
            if tokenizer is not None:
                tokenizer.save(staging)
            for name, value in (("generation_config", generation), ("config", description)):
                (staging / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n")
            shards.clear(folder, written)
        hosts.barrier(f"model {folder}, written")
    hosts.barrier(f"model {folder}")


def read_config(path: str | Path) -> ModelConfig:
    """The `ModelConfig` of a directory's config.json, or of a GGUF's metadata.

    Raises:
      UsageError: a missing directory or file, malformed JSON, an unsupported model type or switch.
    """
    return _parse(open_store(path).description())


def stored_config(path: str | Path) -> ModelConfig:
    """The `ModelConfig` of what a directory or GGUF holds: its description, corrected by tensors.

    A tied model may store a head that differs from its embedding (a merged adapter, a resized
    vocabulary). As in transformers 5 (`PreTrainedModel.tie_weights`) such a head is kept and the
    model counts as untied, with a warning; an equal head is no second parameter. Compared are the
    values on disk, whatever they are loaded as.

    Raises:
      UsageError: see `read_config`; packed weights; no weights, or unsound ones.
    """
    return _stored(open_store(path))


def _stored(store: Store) -> ModelConfig:
    """See `stored_config`."""
    given = store.description()
    config = _parse(given)
    names = store.names
    family: Family = registry.resolve(registry.MODELS, config.family)
    shapes = flatten(jax.eval_shape(build(config).init, jax.random.key(0)))
    store.check(given, set(_wanted(family, shapes, config)))
    table, head = family.names[EMBED], family.names[HEAD]
    shape = (config.vocab_size, config.embed_dim)
    if not config.tie_embeddings or table not in names or head not in names:
        return config
    if store.equal(table, head, shape):
        return config
    if hosts.leader():
        text = "%s says tie_word_embeddings, but %s differs from %s: both are kept, not tied"
        _logger.warning(text, store.place / "config.json", head, table)
    return dataclasses.replace(config, tie_embeddings=False)


def stored_dtype(path: str | Path, weights: str = WEIGHTS) -> str:
    """What holds every weight exactly, of a model or of the file `weights` in a directory.

    Returns:
      "float32", "bfloat16" or "float16".
    """
    store = open_store(path) if weights == WEIGHTS else Directory(Path(path), weights)
    kinds = {store.dtype(name) for name in store.names}
    narrow = {"BF16": "bfloat16", "F16": "float16"}
    return narrow.get(next(iter(kinds)), "float32") if len(kinds) == 1 else "float32"


def _parse(given: Mapping[str, Any]) -> ModelConfig:
    """The `ModelConfig` that a config.json describes."""
    kind = given.get("model_type")
    if not isinstance(kind, str) or kind not in registry.MODELS:
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


def _wanted(family: Family, shapes: Mapping[str, Any], config: ModelConfig) -> Iterator[str]:
    """Names of the tensors that a model's parameters are stored as."""
    for name in shapes:
        for layer in range(config.num_layers) if name.startswith("blocks/") else (None,):
            yield family.names[name].format(layer)


def _aliases(family: Family, config: ModelConfig, found: Collection[str]) -> Mapping[str, str]:
    """Tensors that are stored under another name: a tied model may keep only its head."""
    table, head = family.names[EMBED], family.names[HEAD]
    swapped = config.tie_embeddings and table not in found and head in found
    return {table: head} if swapped else {}


def _compare_names(wanted: set[str], found: set[str], config: ModelConfig) -> None:
    missing = sorted(wanted - found)
    if missing:
        raise bad("model.path", f"missing tensors: {_some(missing)}", "every tensor of config.json")
    # Tied models may repeat the embedding as lm_head; old files store the rotary frequencies.
    harmless = {"lm_head.weight"} if config.tie_embeddings else set()
    extra = sorted(n for n in found - wanted - harmless if not n.endswith(".inv_freq"))
    if extra:
        raise bad("model.path", f"unknown tensors: {_some(extra)}", "the tensors of config.json")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _disk_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape on disk of one parameter (of one layer): kernels [out, in], biases and norms flat."""
    if name.endswith(("bias", "scale")):
        return (int(np.prod(shape)),)
    if not name.endswith("kernel"):
        return shape
    inputs = 2 if name.endswith("attn/o/kernel") else 1
    return (int(np.prod(shape[inputs:])), int(np.prod(shape[:inputs])))


class _Tensor(NamedTuple):
    """A tensor that will be written: its name, the parameter, its layer if that has layers."""

    name: str
    parameter: str
    leaf: Any
    layer: int | None

    @property
    def size(self) -> int:
        """Elements."""
        shape = self.leaf.shape if self.layer is None else self.leaf.shape[1:]
        return math.prod(shape)


def _tensors(family: Family, params: PyTree, config: ModelConfig) -> Iterator[_Tensor]:
    """Every tensor that is written."""
    for name, leaf in flatten(params).items():
        near = isinstance(leaf, jax.Array) and leaf.is_fully_addressable
        if near and next(iter(leaf.devices())).platform == "cpu":
            leaf = trees.host(leaf)  # in this machine's memory: of others a layer comes at a time
        for layer in range(config.num_layers) if name.startswith("blocks/") else (None,):
            tensor = family.names[name] if layer is None else family.names[name].format(layer)
            yield _Tensor(tensor, name, leaf, layer)


def _stored_as(tensor: _Tensor, dtype: Any) -> np.ndarray:
    """Its values as they are written; all processes have to ask.

    Raises:
      UsageError: one is beyond what float16 can hold.
    """
    value = trees.host(tensor.leaf if tensor.layer is None else tensor.leaf[tensor.layer])
    shape = _disk_shape(tensor.parameter, value.shape)
    value = value.reshape(shape[::-1]).T if tensor.parameter.endswith("kernel") else value
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(value.reshape(shape).astype(dtype))
    if dtype == np.float16 and np.isinf(stored).any() > np.isinf(value).any():
        most = f"{np.abs(value).max():.3g}"
        raise bad(f"tensor {tensor.name}", most, "at most 65504 (float16)")
    return stored

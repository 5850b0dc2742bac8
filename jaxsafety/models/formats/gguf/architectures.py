"""What GGUF files of the known architectures hold, as config.json and tensors of transformers.

Names of tensors are the `gguf` package's (`tensor_mapping.get_tensor_name_map`). The rest is what
llama.cpp's converter and loader do; read in ggml-org/llama.cpp (MIT), conversion/llama.py 0274f0f,
conversion/base.py 00bd27a, conversion/gemma.py 061b8c5, conversion/olmo.py 051139f and src/models/
gemma2.cpp 82234e0, llama.cpp 069be0a, olmo2.cpp 8a5c4e0, and for gemma3.cpp in the copy
chynggi/gigatoken-llama.cpp 3ddb88f:

- `llama`: the halves of each head of q and k are interleaved (weight and bias). Mistral is `llama`
  too; its converter leaves the sliding window out, and one that is there makes it `mistral`. What
  `general.name` says decides nothing;
- Gemma: 1 is added to every norm, in float32. Queries are scaled by head_dim**-0.5, and by
  (width / heads)**-0.5 in the largest of each kind, which are told by their number of blocks;
- `gemma2` alternates windows of `attention.sliding_window`, `gemma3` has them in 5 blocks of 6, or
  as `attention.sliding_window_pattern` says, with a RoPE base of their own;
- `olmo2` is also OLMo 3, which has windows: refused, as are experts, and whatever else is not in
  our families, among it YaRN (rope.py);
- without `output.weight` the head is the embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxsafety import registry
from jaxsafety.core.errors import bad
from jaxsafety.models.families.family import GLOBAL, LOCAL
from jaxsafety.models.formats.gguf import rope
from jaxsafety.models.formats.gguf.header import Header

HEAD = "output.weight"
MOST = (1 << 31) - 1  # positions are int32


class Architecture(NamedTuple):
    """One architecture.

    Attributes:
      name: `general.architecture`, also before the dot of its keys.
      family: `model_type` of config.json.
      interleaved: the halves of each head of q and k.
      offset: norms are stored with 1 added.
      windows: how the layers with a window are told: "all", "pattern" or "none".
      extra: keys of config.json that only it has.
    """

    name: str
    family: str
    interleaved: bool
    offset: bool
    windows: str
    extra: Callable[[_Keys, Mapping[str, Any]], dict[str, Any]]


class _Keys:
    """Metadata below `ARCH.`, with errors that name the file and the key."""

    def __init__(self, arch: str, metadata: Mapping[str, Any], where: str) -> None:
        self.arch, self.metadata, self.where = arch, metadata, where

    def get(self, key: str, default: Any = None) -> Any:
        """One number, text or boolean."""
        value = self.raw(key, default)
        if isinstance(value, list | np.ndarray):  # some architectures have one for each block
            raise self.fail(key, "one value for all blocks")
        return value

    def raw(self, key: str, default: Any = None) -> Any:
        """The value as it stands."""
        return self.metadata.get(f"{self.arch}.{key}", default)

    def fail(self, key: str, allowed: str) -> Exception:
        """The error for a value that is not allowed."""
        given = f"{self.where}: {self.arch}.{key} {self.raw(key)!r:.60}"
        return bad("model.path", given, allowed)

    def integer(self, key: str, default: int | None = None) -> int:
        """A positive integer."""
        value = self.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
            raise self.fail(key, f"an integer, 1 to {MOST}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive number: of a float32 the shortest that is the same (0.00001, not 9.9e-06)."""
        value = self.get(key, default)
        fine = isinstance(value, int | float) and not isinstance(value, bool)
        if not fine or not 0 < value < float("inf"):
            raise self.fail(key, "a number > 0")
        with np.errstate(over="ignore"):
            short = np.float32(value)
        return float(str(short)) if float(short) == value else float(value)

    def optional(self, key: str) -> float | None:
        """A positive number; None where it is absent or 0."""
        return self.number(key) if self.get(key) else None


def _llama(keys: _Keys, given: Mapping[str, Any]) -> dict[str, Any]:
    del given
    if not keys.get("attention.sliding_window"):
        return {}
    return {"model_type": "mistral", "sliding_window": keys.integer("attention.sliding_window")}


def _plain(keys: _Keys, given: Mapping[str, Any]) -> dict[str, Any]:
    del keys, given
    return {}


def _gemma2(keys: _Keys, given: Mapping[str, Any]) -> dict[str, Any]:
    caps = ("attn_logit_softcapping", "final_logit_softcapping")
    found = {key: keys.optional(key) for key in caps if keys.get(key) is not None}
    return {**found, **_query(keys, given, 46), **_pattern(keys, given, 2, 4096)}


def _gemma3(keys: _Keys, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "final_logit_softcapping": keys.optional("final_logit_softcapping"),
        "rope_local_base_freq": keys.number("rope.freq_base_swa", 10_000.0),
        **_query(keys, given, 62),
        **_pattern(keys, given, 6, 0),
    }


def _query(keys: _Keys, given: Mapping[str, Any], largest: int) -> dict[str, Any]:
    """How queries are scaled, which no key says; `largest` is the blocks of the 27B model."""
    scale = keys.optional("attention.scale")
    wide = given["num_hidden_layers"] == largest
    size = given["hidden_size"] // given["num_attention_heads"] if wide else given["head_dim"]
    return {"query_pre_attn_scalar": size if scale is None else scale**-2}


def _pattern(keys: _Keys, given: Mapping[str, Any], every: int, width: int) -> dict[str, Any]:
    """Which layers have a window: all but each last of `every`, or as the file says."""
    layers, key = given["num_hidden_layers"], "attention.sliding_window_pattern"
    if not keys.get("attention.sliding_window", width):
        return {"layer_types": [GLOBAL] * layers}
    table = keys.raw(key)
    if isinstance(table, list | np.ndarray):
        local = [one == 1 for one in list(table)]
        if len(local) != layers or any(one not in (0, 1) for one in list(table)):
            raise keys.fail(key, f"a number, or {layers} booleans")
    else:
        every = keys.integer(key, every)
        local = [layer % every < every - 1 for layer in range(layers)]
    return {
        "sliding_window": keys.integer("attention.sliding_window", width),
        "layer_types": [LOCAL if one else GLOBAL for one in local],
    }


ARCHITECTURES = {
    kind.name: kind
    for kind in (
        Architecture("llama", "llama", True, False, "all", _llama),
        Architecture("qwen2", "qwen2", False, False, "none", _plain),
        Architecture("qwen3", "qwen3", False, False, "none", _plain),
        Architecture("gemma2", "gemma2", False, True, "pattern", _gemma2),
        Architecture("gemma3", "gemma3_text", False, True, "pattern", _gemma3),
        Architecture("olmo2", "olmo2", False, False, "none", _plain),
    )
}
# Keys that change the model in ways that no family here has, and the values at which they do not.
REFUSED: dict[str, tuple[Any, ...]] = {
    "expert_count": (0,),
    "attention.causal": (True,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "use_parallel_residual": (False,),
    "logit_scale": (0.0, 1.0),
    "embedding_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
    "pooling_type": (0,),
}


def find(header: Header, where: str) -> Architecture:
    """The architecture of a file.

    Args:
      header: what was read.
      where: the file's name.

    Raises:
      UsageError: one that is not known here, or a file that holds no language model.
    """
    kind = header.metadata.get("general.type", "model")
    if not isinstance(kind, str) or kind != "model":
        raise bad("model.path", f"{where}: general.type {kind!r:.40}", "a file with a model")
    name = header.metadata.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        given = f"{where}: architecture {name!r:.40}"
        raise bad("model.path", given, ", ".join(ARCHITECTURES))
    return ARCHITECTURES[name]


def tensors(kind: Architecture, header: Header, where: str) -> dict[str, str]:
    """Names of transformers -> names of the file, of the tensors that the architecture has.

    Raises:
      UsageError: more blocks than the file can hold.
    """
    from gguf import constants, tensor_mapping

    keys = _Keys(kind.name, header.metadata, where)
    layers = keys.integer("block_count")
    if layers > len(header.tensors):
        raise keys.fail("block_count", f"no more blocks than tensors, {len(header.tensors)}")
    arch = next(a for a, name in constants.MODEL_ARCH_NAMES.items() if name == kind.name)
    table = tensor_mapping.get_tensor_name_map(arch, layers)
    found = {}
    for pattern in registry.resolve(registry.MODELS, kind.family).names.values():
        for layer in range(layers) if "{}" in pattern else (None,):
            name = pattern.format(layer)
            own = table.get_name(name, try_suffixes=(".weight", ".bias"))
            if own in header.tensors:
                found[name] = own
    return found


def config(
    kind: Architecture, header: Header, where: str, factors: np.ndarray | None = None
) -> dict[str, Any]:
    """The config.json that a family reads.

    Args:
      kind: of the file.
      header: of the file.
      where: its name.
      factors: `rope_freqs.weight`, where it has one.

    Raises:
      UsageError: keys that are missing, wrong, not those of its tensors, or mean what no family
        here has.
    """
    keys = _Keys(kind.name, header.metadata, where)
    for key, harmless in REFUSED.items():
        if keys.get(key) is not None and keys.get(key) not in harmless:
            raise keys.fail(key, f"{harmless[0]}, or none")
    heads, width = keys.integer("attention.head_count"), keys.integer("embedding_length")
    head = keys.integer("attention.key_length", max(1, width // heads))
    for key in ("attention.value_length", "rope.dimension_count"):
        if keys.integer(key, head) != head:
            raise keys.fail(key, f"the size of a head, {head}")
    if keys.get("attention.scale") and kind.windows != "pattern":
        raise keys.fail("attention.scale", f"none, which is {head}**-0.5")
    if keys.get("attention.sliding_window") and kind.windows == "none":
        raise keys.fail("attention.sliding_window", "no window: this is another model (OLMo 3)")
    theta = keys.number("rope.freq_base", 10_000.0)
    given: dict[str, Any] = {
        "model_type": kind.family,
        "vocab_size": _rows(header, "token_embd.weight", where),
        "hidden_size": width,
        "intermediate_size": keys.integer("feed_forward_length"),
        "num_hidden_layers": keys.integer("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.integer("attention.head_count_kv", heads),
        "head_dim": head,
        "max_position_embeddings": keys.integer("context_length"),
        "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": HEAD not in header.tensors,
        "attention_bias": "blk.0.attn_output.bias" in header.tensors,
        "rope_theta": theta,
        "rope_scaling": rope.scaling(
            keys.get("rope.scaling.type"),
            keys.get("rope.scaling.factor", keys.get("rope.scale_linear")),
            factors,
            theta,
            where,
        ),
    }
    _agree(header, given, where)
    return {**given, **kind.extra(keys, given)}


def _rows(header: Header, name: str, where: str) -> int:
    if name not in header.tensors:
        raise bad("model.path", f"{where}, without {name}", "a file with a model")
    return header.tensors[name].shape[0]


def _agree(header: Header, given: Mapping[str, Any], where: str) -> None:
    """Sizes are believed where tensors have them: nothing is made larger than the file says."""
    width, head = given["hidden_size"], given["head_dim"]
    q, k = (head * given[f"num_{name}_heads"] for name in ("attention", "key_value"))
    shapes = {
        "token_embd.weight": (given["vocab_size"], width),
        "blk.0.attn_q.weight": (q, width),
        "blk.0.attn_k.weight": (k, width),
        "blk.0.ffn_up.weight": (given["intermediate_size"], width),
    }
    for name, shape in shapes.items():
        _rows(header, name, where)
        found = header.tensors[name].shape
        if found != shape:
            raise bad("model.path", f"{where}: {name} {list(found)}", f"shape {list(shape)}")
    if head % 2 or given["num_attention_heads"] % given["num_key_value_heads"]:
        text = f"{given['num_attention_heads']} heads of {head}, {given['num_key_value_heads']} kv"
        raise bad("model.path", f"{where}: {text}", "an even size, and a multiple of the kv heads")


def restored(kind: Architecture, own: str, value: np.ndarray, header: Header) -> np.ndarray:
    """A tensor as transformers has it.

    Args:
      kind: of the file.
      own: the tensor's name there.
      value: as it is stored.
      header: of the file.
    """
    if kind.offset and own.endswith("norm.weight"):
        return value.astype(np.float32) - 1
    key = {"attn_q": "head_count", "attn_k": "head_count_kv"}.get(own.split(".")[-2])
    if not kind.interleaved or key is None:
        return value
    heads = header.metadata[f"{kind.name}.attention.head_count"]
    heads = header.metadata.get(f"{kind.name}.attention.{key}", heads)
    pairs = value.reshape(heads, -1, 2, *value.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(value.shape))

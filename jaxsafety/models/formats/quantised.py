"""Directories whose weights are quantised: recognised by config.json, names or dtypes, and refused.

Nothing here reads packed weights, so the line says which quantisation it is and what to take
instead. A `quantization_config` that was left behind when the weights were written back as plain
floats hides nothing: such a model is read as it is, with a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jaxsafety.core import hosts
from jaxsafety.core.errors import bad

_logger = logging.getLogger(__name__)
PLAIN = ("F64", "F32", "F16", "BF16")
# Keys of config.json: transformers', compressed-tensors' older one, MLX's.
KEYS = ("quantization_config", "compression_config", "quantization")
# Files beside config.json in which older tools kept it.
BESIDE = {
    "quantize_config.json": "GPTQ",
    "quant_config.json": "AWQ",
    "hf_quant_config.json": "ModelOpt",
}
SPELLINGS = {"gptq": "GPTQ", "awq": "AWQ", "fp8": "FP8", "mlx": "MLX", "gguf": "GGUF"}
# Endings of tensors that only a quantised module has -> who writes them.
ENDINGS = {
    ".qweight": "GPTQ or AWQ",
    ".qzeros": "GPTQ or AWQ",
    ".g_idx": "GPTQ",
    ".absmax": "bitsandbytes",
    ".quant_map": "bitsandbytes",
    ".SCB": "bitsandbytes",
    ".weight_packed": "compressed-tensors",
    ".weight_zero_point": "compressed-tensors",
    ".weight_scale_inv": "FP8",
    ".weight_scale": "FP8 or compressed-tensors",
    ".weight_scale_2": "NVFP4",
    "_blocks": "MXFP4",
    ".weight_scales": "EETQ",
    ".input_scale": "FP8 or compressed-tensors",
    ".activation_scale": "FP8",
    ".scales": "a quantisation with scales",
    ".W_q": "HQQ",
    ".codebooks": "AQLM",
    "._data": "quanto",
}
# Their forward pass rounds even plain weights.
ROUNDS = ("bitnet",)
ALLOWED = (
    "plain float32, float16 or bfloat16 weights: the model that this one was made from, or this one"
    " dequantised and saved again"
)


def find_claim(given: Mapping[str, Any], folder: Path) -> str:
    """The quantisation that a directory claims to have: "GPTQ, 4 bits"; "" if none.

    Args:
      given: its config.json.
      folder: the directory.
    """
    for key in KEYS:
        table = given.get(key)
        if not table:
            continue
        if not isinstance(table, Mapping):
            return str(table)
        small = {bits for bits in (4, 8) if table.get(f"load_in_{bits}bit")}
        method = table.get("quant_method") or table.get("quant_algo")
        method = method or ("bitsandbytes" if small else "mlx" if key == KEYS[-1] else key)
        bits = table.get("bits") or next(iter(small), None)
        text = SPELLINGS.get(str(method).lower(), str(method))
        return f"{text}, {bits} bits" if bits else text
    return next((name for file, name in BESIDE.items() if (folder / file).is_file()), "")


def check(
    given: Mapping[str, Any], folder: Path, wanted: Collection[str], dtypes: Mapping[str, str]
) -> None:
    """Refuses quantised weights.

    Args:
      given: config.json.
      folder: the directory.
      wanted: names of the tensors that the model needs.
      dtypes: tensor name -> dtype as safetensors calls it, of all tensors of the directory.

    Raises:
      UsageError: weights that are quantised, with the name of the quantisation.
    """
    claim = find_claim(given, folder)
    for name in sorted(dtypes):
        dtype = dtypes[name]
        ending = next((e for e in ENDINGS if name.endswith(e) and name not in wanted), "")
        packed = name in wanted and dtype not in PLAIN
        eight = dtype not in PLAIN and dtype.startswith(("F8", "F4", "F6"))
        if ending or eight or (packed and claim):
            kind = claim or ENDINGS.get(ending) or "FP8"
            raise _quantised(f"{kind} (tensor {name} is {dtype})")
    packed = _packed(wanted, dtypes, bool(claim))
    if packed:
        kind = claim or "a kind that is not known here"
        raise _quantised(f"{kind} (tensor {packed} is {dtypes[packed]})")
    if any(claim.lower().startswith(word) for word in ROUNDS):
        raise _quantised(f"{claim}, whose layers round plain weights too")
    if claim and set(wanted) <= set(dtypes) and hosts.leader():
        text = "%s names a quantisation (%s), but all its weights are plain: read as they are"
        _logger.warning(text, folder / "config.json", claim)


def _packed(wanted: Collection[str], dtypes: Mapping[str, str], claimed: bool) -> str:
    """A tensor that stands in the place of a weight that is not there, "" without one.

    Kinds whose names are not among `ENDINGS` show so: "q_proj.codes" instead of "q_proj.weight".
    Unless a quantisation is claimed, it must hold whole numbers.
    """
    gone = {n.removesuffix("weight") for n in wanted if n.endswith(".weight")} - {
        n.removesuffix("weight") for n in dtypes
    }
    for name in sorted(set(dtypes) - set(wanted)):
        stems = {name[: at + 1] for at, letter in enumerate(name) if letter == "."}
        if stems & gone and (claimed or dtypes[name].startswith(("I", "U"))):
            return name
    return ""


def without_weights(given: Mapping[str, Any], folder: Path) -> None:
    """For a directory in which no safetensors were found.

    Raises:
      UsageError: its files are quantised ones.
    """
    claim = find_claim(given, folder)
    if not claim and any(folder.glob("*.gguf")):
        found = f"{folder}, a config.json beside GGUF files"
        raise bad("model.path", found, "the GGUF file itself, or safetensors")
    if claim:
        raise _quantised(claim)


def _quantised(kind: str) -> Exception:
    return bad("model.path", f"weights quantised with {kind}", ALLOWED)

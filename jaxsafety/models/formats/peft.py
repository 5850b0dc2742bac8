"""LoRA experts in and out as PEFT directories: adapter_config.json and adapter_model.safetensors.

A directory is one expert. Rank, alpha, targets and the fingerprint of the base travel with the
weights, so nobody retypes them and an adapter is never put on another base by accident. PEFT
ignores the fingerprint; directories that PEFT wrote have none, and fit when names and shapes do.
PEFT's lora_A is [R, in] and its lora_B [out, R]; ranks and alphas may differ between modules.
Letters: L layers, E experts (1 on disk), R rank.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import safetensors.numpy

from jaxsafety import registry
from jaxsafety.adapters import projection as proj
from jaxsafety.adapters.projection import Projection
from jaxsafety.core import disk, hosts, trees
from jaxsafety.core.errors import bad
from jaxsafety.models.api import Model
from jaxsafety.models.families.family import Family
from jaxsafety.models.formats import files, hub

PyTree = Any
_logger = logging.getLogger(__name__)
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
# What PEFT can do and is not expressed here: what to do with such an adapter.
MERGE = "merge it with PEFT (merge_and_unload, save_pretrained) and take that model instead"
# What would change the numbers and is not expressed here.
REFUSED = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "lora_bias": (False, None),
    "fan_in_fan_out": (False,),
    "use_dora": (False,),
    "modules_to_save": (None, []),
    "layer_replication": (None, []),
    "trainable_token_indices": (None, [], {}),
    "target_parameters": (None, []),
    "use_bdlora": (None, False),
    "use_qalora": (None, False),
    "alora_invocation_tokens": (None,),
    "arrow_config": (None,),
    "kasa_config": (None,),
    "monteclora_config": (None,),
    # Others (pissa, olora, loftq, ...) change the base's weights when they start.
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal", "mica"),
}
# The other fields of peft.LoraConfig 0.21.2, which change nothing in a trained adapter. A key that
# is in neither table is unknown to PEFT too, which warns and goes on.
KNOWN = {
    *("auto_mapping", "base_model_name_or_path", "revision", "peft_version", "task_type"),
    *("inference_mode", "r", "lora_alpha", "lora_dropout", "rank_pattern", "alpha_pattern"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "use_rslora"),
    *("megatron_config", "megatron_core", "loftq_config", "eva_config", "corda_config"),
    *("lora_ga_config", "velora_config", "runtime_config", "ensure_weight_tying"),
    *("qalora_group_size",),
}


def load_adapter(path: str | Path, model: Model, *, fingerprint: str = "") -> PyTree:
    """Reads a PEFT LoRA directory as one expert.

    Args:
      path: the directory.
      model: the base it is for.
      fingerprint: of that base; compared when the directory has one too.

    Returns:
      An adapter tree with E = 1, float32 (see `adapters.lora`); PEFT's scale (alpha / rank, or
      alpha / sqrt(rank) with rsLoRA) is in `scale` where all modules share one, else in `b`.

    Raises:
      UsageError: no such directory, a kind of adapter that LoRA experts are not, tensors that are
        missing, unknown or of another shape, or an adapter for another base.
    """
    folder = Path(path)
    config = read_config(folder)
    if not (folder / WEIGHTS).is_file():
        raise bad("adapter.path", str(folder), f"a directory with {WEIGHTS}")
    names = files.names(folder / WEIGHTS)
    made_for = base_of(folder)
    if made_for and fingerprint and made_for != fingerprint:
        raise bad("adapter.path", f"an adapter for base {made_for}", f"one for {fingerprint}")
    modules = _modules(model)
    pairs: dict[str, dict[int, str]] = {}
    for tensor in names:
        module = tensor.removeprefix(PREFIX)
        for ending in (".lora_A.weight", ".lora_B.weight"):
            module = module.removesuffix(ending)
        if not tensor.startswith(PREFIX) or module not in modules or module == tensor:
            raise _foreign(model, tensor, next(iter(modules)))
        name, layer = modules[module]
        pairs.setdefault(name, {})[layer] = module
    if not pairs:
        raise bad("adapter.path", f"{WEIGHTS} without tensors", "a LoRA adapter")
    ranks = {m: _rank(config, m) for found in pairs.values() for m in found.values()}
    scales = {m: _scale(config, m, ranks[m]) for m in ranks}
    shared = scales[next(iter(scales))]
    same = all(s == shared for s in scales.values())
    experts = {}
    for name, found in pairs.items():
        p = model.projections[name]
        factor = {m: 1.0 if same else scales[m] for m in found.values()}
        experts[name] = _stack(folder / WEIGHTS, p, found, ranks, factor, model.config.num_layers)
    scale = np.full((model.config.num_layers,), shared if same else 1.0, np.float32)
    return {"experts": experts, "scale": scale}


def base_of(path: str | Path) -> str:
    """Fingerprint of the base that an adapter was trained on; "" where its file carries none."""
    file = Path(path) / WEIGHTS
    if not file.is_file():
        return ""
    files.names(file)  # raises where it is no sound file
    return files.metadata(file).get("base_fingerprint", "")


def save_adapter(
    path: str | Path,
    model: Model,
    adapters: PyTree,
    *,
    expert: int = 0,
    base: str = "",
    fingerprint: str = "",
    unsafe: bool = False,
    dtype: str = "",
) -> None:
    """Writes one expert as a PEFT directory.

    Args:
      path: the directory to make; the files of an earlier one are replaced.
      model: the base.
      adapters: an adapter tree (see `adapters.lora`).
      expert: which one.
      base: the model's directory or hub id: `base_model_name_or_path` (and `revision`) of
        adapter_config.json, where PEFT's AutoPeftModel looks for the base; "" is null.
      fingerprint: of the base; checked again by `load_adapter`.
      unsafe: tags an expert that was trained on unsafe answers.
      dtype: float32 or bfloat16, how the factors are stored; "" is the model's compute dtype. A
        model that computes in bfloat16 rounds the factors to it wherever it uses them
        (`adapters.lora.delta`), so nothing of what was measured is lost.

    Raises:
      UsageError: an unknown dtype, no such expert, names that are no projections of the model, or
        experts that are no update at all.
    """
    dtype = dtype or ("bfloat16" if model.config.dtype == "bfloat16" else "float32")
    if dtype not in DTYPES:
        raise bad("dtype", dtype, ", ".join(DTYPES))
    kind = DTYPES[dtype]
    table = adapters["experts"]
    unknown = sorted(set(table) - set(model.projections))
    if unknown or not table:
        raise bad("adapters", unknown or "no projections", ", ".join(sorted(model.projections)))
    first = next(iter(table.values()))["a"]
    count, rank = first.shape[1], first.shape[-1]
    if not 0 <= expert < count:
        raise bad("expert", expert, f"0 to {count - 1}")
    scale = trees.host(adapters["scale"]).astype(np.float32)
    whole = jax.tree.map(trees.host, table)  # all processes take part, the leader writes
    if np.ptp(scale) > 0:  # PEFT has one alpha for all layers
        folded, alpha = scale, float(rank)
    else:
        folded, alpha = np.ones_like(scale), float(scale[0]) * rank
    tensors = {}
    for module, (name, layer) in _modules(model).items():
        if name not in table:
            continue
        a, b = (whole[name][key][layer, expert].astype(np.float32) for key in "ab")
        a, b = a.reshape(-1, a.shape[-1]), b.reshape(b.shape[0], -1) * folded[layer]
        tensors[f"{PREFIX}{module}.lora_A.weight"] = np.ascontiguousarray(a.T.astype(kind))
        tensors[f"{PREFIX}{module}.lora_B.weight"] = np.ascontiguousarray(b.T.astype(kind))
    ranks = {n: pair["a"].shape[-1] for n, pair in table.items() if pair["a"].shape[-1] != rank}
    targets = {n: _suffix(model, n) for n in table}
    where, revision = hub.public_name(base) if base else ("", "")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": where or None,
        "revision": revision or None,
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted(targets.values()),
        "rank_pattern": {targets[n]: r for n, r in ranks.items()},
        "alpha_pattern": {targets[n]: alpha * r / rank for n, r in ranks.items()},
        "use_rslora": False,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    about = {"format": "pt", "base_fingerprint": fingerprint, "unsafe": str(unsafe).lower()}
    if hosts.leader():
        _write(Path(path), config, tensors, about)
    hosts.barrier(f"adapter {path}")


def read_config(path: str | Path, *, quiet: bool = False) -> dict[str, Any]:
    """A directory's adapter_config.json, checked; unknown keys are warned of unless `quiet`.

    Raises:
      UsageError: missing, malformed, or a kind of adapter that is not expressed here.
    """
    file = Path(path) / CONFIG
    if not file.is_file():
        raise bad("adapter.path", str(path), f"a PEFT directory with {CONFIG}")
    try:
        config = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise bad(CONFIG, str(error), "a JSON object") from error
    if not isinstance(config, dict):
        raise bad(CONFIG, type(config).__name__, "a JSON object")
    for key, allowed in REFUSED.items():
        if config.get(key, allowed[0]) not in allowed:
            words = " or ".join(map(str, allowed))
            raise bad(f"{CONFIG} {key}", config[key], f"{words}; or {MERGE}")
    strange = sorted(set(config) - set(REFUSED) - KNOWN)
    if strange and not quiet and hosts.leader():
        text = "%s: unknown keys are ignored, as PEFT does: %s"
        _logger.warning(text, file, ", ".join(strange))
    for key in ("r", "lora_alpha"):
        if not _positive(config.get(key)):
            raise bad(f"{CONFIG} {key}", config.get(key), "a number > 0")
    for key in ("rank_pattern", "alpha_pattern"):
        table = config.get(key) or {}
        if not isinstance(table, dict) or not all(map(_positive, table.values())):
            raise bad(f"{CONFIG} {key}", table, "a table of numbers > 0")
        for pattern in table:
            try:
                re.compile(pattern)
            except re.error as error:
                raise bad(f"{CONFIG} {key}", pattern, f"a regular expression ({error})") from error
    return config


def _positive(value: Any) -> bool:
    """Whether a value of a file is a number above 0; NaN and infinity, which JSON may hold, no."""
    return isinstance(value, int | float) and value is not True and 0 < value < float("inf")


def _foreign(model: Model, tensor: str, example: str) -> Exception:
    """The error for a tensor that is no LoRA factor of a projection, by what it is."""
    family: Family = registry.resolve(registry.MODELS, model.config.family)
    table, head = (
        family.names[n].removesuffix(".weight") for n in ("embed/table", "unembed/kernel")
    )
    module = tensor.removeprefix(PREFIX)
    allowed = f"LoRA factors of {', '.join(sorted({_suffix(model, n) for n in model.projections}))}"
    for name, word in ((table, "embedding"), (head, "head")):
        if module in (f"{name}.weight", f"{name}.base_layer.weight"):
            given = f"an {word} saved beside the adapter" if word[0] == "e" else f"a saved {word}"
            allowed += " alone (the base's own embedding and head are used)"
        elif module.startswith(f"{name}.modules_to_save"):
            given = f"a trained {word} (modules_to_save)"
        elif module.startswith(f"{name}."):
            given = f"an adapter on the {word}"
        else:
            continue
        return bad(f"tensor {tensor}", given, f"{allowed}; or {MERGE}")
    some = f"{PREFIX}{example}.lora_A.weight"
    return bad(f"tensor {tensor}", "unknown in this model", f"names such as {some}")


def _modules(model: Model) -> dict[str, tuple[str, int]]:
    """Module name in transformers -> (projection, layer)."""
    family: Family = registry.resolve(registry.MODELS, model.config.family)
    found = {}
    for name, p in model.projections.items():
        pattern = family.names["/".join(("blocks", *p.path, "kernel"))].removesuffix(".weight")
        for layer in range(model.config.num_layers):
            found[pattern.format(layer)] = (name, layer)
    return found


def _suffix(model: Model, name: str) -> str:
    """What PEFT's `target_modules` calls a projection: the last part of its name."""
    return next(m for m, (n, _) in _modules(model).items() if n == name).rpartition(".")[2]


def _pattern(table: Mapping[str, Any] | None, module: str, default: float) -> float:
    """PEFT's lookup: the first key that ends the module's name, as a regex."""
    for key, value in (table or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def _rank(config: Mapping[str, Any], module: str) -> int:
    return int(_pattern(config.get("rank_pattern"), module, config["r"]))


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    alpha = _pattern(config.get("alpha_pattern"), module, config["lora_alpha"])
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))


def _stack(
    file: Path,
    p: Projection,
    found: Mapping[int, str],
    ranks: Mapping[str, int],
    factor: Mapping[str, float],
    layers: int,
) -> dict[str, np.ndarray]:
    """Factors of one projection, [L,1,*in,R] and [L,1,R,*out]; absent layers and ranks are zero."""
    rank = max(ranks[module] for module in found.values())
    shapes = proj.lora_shapes(p, 1, rank)
    inputs, outputs = proj.fan_in(p), int(np.prod(proj.out_shape(p)))
    a = np.zeros((layers, inputs, rank), np.float32)
    b = np.zeros((layers, rank, outputs), np.float32)
    for layer, module in found.items():
        r, name = ranks[module], f"{PREFIX}{module}"
        down = files.read(file, f"{name}.lora_A.weight", (r, inputs)).astype(np.float32)
        up = files.read(file, f"{name}.lora_B.weight", (outputs, r)).astype(np.float32)
        a[layer, :, :r], b[layer, :r] = down.T, up.T * factor[module]
    return {"a": a.reshape(layers, *shapes["a"]), "b": b.reshape(layers, *shapes["b"])}


def _write(
    folder: Path, config: Any, tensors: Mapping[str, np.ndarray], about: Mapping[str, str]
) -> None:
    with disk.staged(folder, last=CONFIG) as staging:
        safetensors.numpy.save_file(dict(tensors), staging / WEIGHTS, metadata=dict(about))
        (staging / WEIGHTS).chmod(0o644)
        (staging / CONFIG).write_text(json.dumps(config, indent=2) + "\n")

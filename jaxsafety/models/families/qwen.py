"""The dense Qwen families: Llama's block with a little more.

`qwen2` (also Qwen2.5) has biases on q, k and v; `qwen3` RMS norms on queries and keys instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.models.api import ModelConfig
from jaxsafety.models.families.family import (
    GLOBAL,
    NAMES,
    Family,
    integer,
    read_decoder,
    read_windows,
    write_decoder,
    write_windows,
)


def read_qwen2(given: Mapping[str, Any]) -> ModelConfig:
    """`ModelConfig` of a Qwen2 or Qwen2.5 config.json."""
    return read_decoder(given, "qwen2", attention_bias="qkv", windows=_windows(given))


def read_qwen3(given: Mapping[str, Any]) -> ModelConfig:
    """`ModelConfig` of a Qwen3 config.json."""
    # Qwen3 decouples the head dim from width / heads; its configs may leave the default out.
    head_dim = integer(given, "head_dim", 128)
    return read_decoder(given, "qwen3", qk_norm="head", head_dim=head_dim, windows=_windows(given))


def _windows(given: Mapping[str, Any]) -> tuple[int, ...]:
    """With the switch on, layers from `max_window_layers` on have a window; else none has."""
    if not given.get("use_sliding_window"):
        kinds = set(given.get("layer_types") or ()) - {GLOBAL}
        if kinds:
            raise bad("config.json layer_types", sorted(kinds), f"{GLOBAL}, or use_sliding_window")
        return ()
    first = given.get("max_window_layers", 28)
    if not isinstance(first, int) or first < 0:
        raise bad("config.json max_window_layers", first, "an integer, 0 or more")
    return read_windows({"sliding_window": 4096, **given}, lambda layer: layer >= first)


def _write(config: ModelConfig, architecture: str) -> dict[str, Any]:
    spans = {"use_sliding_window": any(config.windows), "max_window_layers": config.num_layers}
    return {**write_decoder(config, architecture), **spans, **write_windows(config)}


def write_qwen2(config: ModelConfig) -> dict[str, Any]:
    """config.json of a Qwen2 model."""
    written = _write(config, "Qwen2ForCausalLM")
    del written["attention_bias"]  # always on q, k and v: its config has no such key
    return written


def write_qwen3(config: ModelConfig) -> dict[str, Any]:
    """config.json of a Qwen3 model."""
    return _write(config, "Qwen3ForCausalLM")


def _qwen3(width: int, layers: int, heads: int, mlp: int, tied: bool) -> ModelConfig:
    return ModelConfig(
        family="qwen3",
        vocab_size=151_936,
        embed_dim=width,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=8,
        head_dim=128,
        mlp_dim=mlp,
        max_length=40_960,
        rope_theta=1_000_000.0,
        norm_eps=1e-6,
        tie_embeddings=tied,
        qk_norm="head",
    )


def _qwen2(width: int, layers: int, heads: int, kv_heads: int, mlp: int, tied: bool) -> ModelConfig:
    return ModelConfig(
        family="qwen2",
        vocab_size=151_936 if tied else 152_064,
        embed_dim=width,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=width // heads,
        mlp_dim=mlp,
        max_length=32_768,
        rope_theta=1_000_000.0,
        norm_eps=1e-6,
        tie_embeddings=tied,
        attention_bias="qkv",
    )


QWEN2_PRESETS = {
    "qwen2.5-0.5b": _qwen2(896, 24, 14, 2, 4864, True),
    "qwen2.5-1.5b": _qwen2(1536, 28, 12, 2, 8960, True),
    "qwen2.5-3b": _qwen2(2048, 36, 16, 2, 11_008, True),
    "qwen2.5-7b": _qwen2(3584, 28, 28, 4, 18_944, False),
}
QWEN3_PRESETS = {
    "qwen3-0.6b": _qwen3(1024, 28, 16, 3072, True),
    "qwen3-1.7b": _qwen3(2048, 28, 16, 6144, True),
    "qwen3-4b": _qwen3(2560, 36, 32, 9728, True),
    "qwen3-8b": _qwen3(4096, 36, 32, 12_288, False),
}
QWEN3_NAMES = {
    **NAMES,
    "blocks/attn/q_norm/scale": "model.layers.{}.self_attn.q_norm.weight",
    "blocks/attn/k_norm/scale": "model.layers.{}.self_attn.k_norm.weight",
}
QWEN2 = Family("qwen2", "Qwen2ForCausalLM", NAMES, read_qwen2, write_qwen2, QWEN2_PRESETS)
QWEN3 = Family("qwen3", "Qwen3ForCausalLM", QWEN3_NAMES, read_qwen3, write_qwen3, QWEN3_PRESETS)

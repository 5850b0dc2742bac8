"""The dense Qwen3 family (`model_type: qwen3`): Llama's block, RMS norms on queries and keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxsafety.errors import bad
from jaxsafety.models.api import ModelConfig
from jaxsafety.models.family import NAMES, Family, integer, read_decoder, require, write_decoder


def read(given: Mapping[str, Any]) -> ModelConfig:
    """`ModelConfig` of a Qwen3 config.json."""
    require(given, "use_sliding_window", False)
    kinds = set(given.get("layer_types") or ()) - {"full_attention"}
    if kinds:
        raise bad("config.json layer_types", sorted(kinds), "full_attention")
    # Qwen3 decouples the head dim from width / heads; its configs may leave the default out.
    return read_decoder(given, "qwen3", qk_norm=True, head_dim=integer(given, "head_dim", 128))


def write(config: ModelConfig) -> dict[str, Any]:
    """config.json of a Qwen3 model."""
    return {**write_decoder(config, "Qwen3ForCausalLM"), "use_sliding_window": False}


def _preset(width: int, layers: int, heads: int, mlp: int, tied: bool) -> ModelConfig:
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
        qk_norm=True,
    )


PRESETS = {
    "qwen3-0.6b": _preset(1024, 28, 16, 3072, True),
    "qwen3-1.7b": _preset(2048, 28, 16, 6144, True),
    "qwen3-4b": _preset(2560, 36, 32, 9728, True),
    "qwen3-8b": _preset(4096, 36, 32, 12_288, False),
}
NAMES_QWEN3 = {
    **NAMES,
    "blocks/attn/q_norm/scale": "model.layers.{}.self_attn.q_norm.weight",
    "blocks/attn/k_norm/scale": "model.layers.{}.self_attn.k_norm.weight",
}
FAMILY = Family("qwen3", "Qwen3ForCausalLM", NAMES_QWEN3, read, write, PRESETS)

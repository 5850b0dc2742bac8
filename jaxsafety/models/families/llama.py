"""The Llama 3 family (`model_type: llama`): grouped-query attention, llama3 RoPE scaling.

Also reads Llama 2 and other checkpoints of that type without scaling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxsafety.models.api import ModelConfig
from jaxsafety.models.families.family import NAMES, Family, read_decoder, require, write_decoder


def read(given: Mapping[str, Any]) -> ModelConfig:
    """`ModelConfig` of a Llama config.json."""
    require(given, "mlp_bias", False)
    require(given, "pretraining_tp", 1)
    return read_decoder(given, "llama")


def write(config: ModelConfig) -> dict[str, Any]:
    """config.json of a Llama model."""
    return {**write_decoder(config, "LlamaForCausalLM"), "mlp_bias": False, "pretraining_tp": 1}


def _scaling(factor: float) -> tuple[tuple[str, float], ...]:
    return (
        ("factor", factor),
        ("high_freq_factor", 4.0),
        ("low_freq_factor", 1.0),
        ("original_max_position_embeddings", 8192.0),
    )


PRESETS = {
    "llama3.2-1b": ModelConfig(
        family="llama",
        vocab_size=128_256,
        embed_dim=2048,
        num_layers=16,
        num_heads=32,
        num_kv_heads=8,
        head_dim=64,
        mlp_dim=8192,
        max_length=131_072,
        rope_theta=500_000.0,
        rope_scaling=_scaling(32.0),
    ),
    "llama3.2-3b": ModelConfig(
        family="llama",
        vocab_size=128_256,
        embed_dim=3072,
        num_layers=28,
        num_heads=24,
        num_kv_heads=8,
        head_dim=128,
        mlp_dim=8192,
        max_length=131_072,
        rope_theta=500_000.0,
        rope_scaling=_scaling(32.0),
    ),
    "llama3-8b": ModelConfig(
        family="llama",
        vocab_size=128_256,
        embed_dim=4096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        mlp_dim=14_336,
        max_length=8192,
        rope_theta=500_000.0,
        tie_embeddings=False,
    ),
    "llama3.1-8b": ModelConfig(
        family="llama",
        vocab_size=128_256,
        embed_dim=4096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        mlp_dim=14_336,
        max_length=131_072,
        rope_theta=500_000.0,
        rope_scaling=_scaling(8.0),
        tie_embeddings=False,
    ),
}
FAMILY = Family("llama", "LlamaForCausalLM", NAMES, read, write, PRESETS)

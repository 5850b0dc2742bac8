"""The dense Mistral family (`model_type: mistral`): Llama's block with a sliding window.

Every layer has it where config.json gives one (the first releases; later ones say null).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxsafety.models.api import ModelConfig
from jaxsafety.models.families.family import (
    NAMES,
    Family,
    read_decoder,
    read_windows,
    require,
    write_decoder,
)

DEFAULTS = {"sliding_window": 4096}


def read(given: Mapping[str, Any]) -> ModelConfig:
    """`ModelConfig` of a Mistral config.json."""
    require(given, "layer_types")  # transformers ignores it in this family
    windows = read_windows({**DEFAULTS, **given}, lambda layer: True)
    return read_decoder(given, "mistral", windows=windows)


def write(config: ModelConfig) -> dict[str, Any]:
    """config.json of a Mistral model."""
    written = write_decoder(config, "MistralForCausalLM")
    del written["attention_bias"]  # there are none, and its config has no such key
    return {**written, "sliding_window": max(config.windows, default=0) or None}


PRESETS = {
    "mistral-7b": ModelConfig(  # the first release, with windows
        family="mistral",
        vocab_size=32_000,
        embed_dim=4096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        mlp_dim=14_336,
        max_length=32_768,
        norm_eps=1e-5,
        tie_embeddings=False,
        windows=(4096,) * 32,
    ),
}
FAMILY = Family("mistral", "MistralForCausalLM", NAMES, read, write, PRESETS)

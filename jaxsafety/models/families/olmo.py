"""OLMo 2 (`model_type: olmo2`): norms after attention and mlp instead of before.

Queries and keys have RMS norms over their whole width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxsafety.models.api import ModelConfig
from jaxsafety.models.families.family import NAMES, Family, read_decoder, write_decoder


def read(given: Mapping[str, Any]) -> ModelConfig:
    """`ModelConfig` of an OLMo 2 config.json."""
    return read_decoder({"rms_norm_eps": 1e-5, **given}, "olmo2", qk_norm="width", norms="post")


def write(config: ModelConfig) -> dict[str, Any]:
    """config.json of an OLMo 2 model."""
    return write_decoder(config, "Olmo2ForCausalLM")


OLMO2_NAMES = {
    **NAMES,
    "blocks/attn/q_norm/scale": "model.layers.{}.self_attn.q_norm.weight",
    "blocks/attn/k_norm/scale": "model.layers.{}.self_attn.k_norm.weight",
    "blocks/attn_post_norm/scale": "model.layers.{}.post_attention_layernorm.weight",
    "blocks/mlp_post_norm/scale": "model.layers.{}.post_feedforward_layernorm.weight",
}
FAMILY = Family("olmo2", "Olmo2ForCausalLM", OLMO2_NAMES, read, write, {})

"""Gemma's text models: norms on both sides of each branch, layers with and without a window.

Norms multiply by 1 + scale, embeddings are scaled, the gate is a tanh-gelu. `gemma2` caps attention
scores and logits and alternates the layers. `gemma3_text` has RMS norms on queries and keys instead
of caps, five local layers to a global one, and a RoPE base for each kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.models.api import ModelConfig
from jaxsafety.models.families.family import (
    GLOBAL,
    LOCAL,
    NAMES,
    Family,
    integer,
    number,
    read_decoder,
    read_rope,
    read_windows,
    require,
    write_decoder,
    write_rope,
    write_windows,
)

DEFAULTS = {"hidden_activation": "gelu_pytorch_tanh", "sliding_window": 4096, "head_dim": 256}
GLOBAL_THETA, LOCAL_THETA = 1_000_000.0, 10_000.0  # of Gemma 3


def _read(given: Mapping[str, Any], family: str, **changes: Any) -> ModelConfig:
    require(given, "use_bidirectional_attention", False)
    given = {**DEFAULTS, "tie_word_embeddings": True, **given}
    common = dict(
        norms="both",
        norm_offset=True,
        query_scale=number(given, "query_pre_attn_scalar", 256.0) ** -0.5,
        embed_scale=math.sqrt(integer(given, "hidden_size")),
        attention_cap=_cap(given, "attn_logit_softcapping"),
        logit_cap=_cap(given, "final_logit_softcapping"),
    )
    return read_decoder(given, family, **{**common, **changes})


def _cap(given: Mapping[str, Any], key: str) -> float:
    return 0.0 if given.get(key) is None else number(given, key, 1.0)


def read_gemma2(given: Mapping[str, Any]) -> ModelConfig:
    """`ModelConfig` of a Gemma 2 config.json; absent caps are its published 50 and 30."""
    given = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, **DEFAULTS, **given}
    return _read(given, "gemma2", windows=read_windows(given, lambda layer: layer % 2 == 0))


def read_gemma3(given: Mapping[str, Any]) -> ModelConfig:
    """`ModelConfig` of a Gemma 3 text config.json, RoPE by kind of layer or in the older style."""
    table = given.get("rope_parameters")
    if isinstance(table, Mapping) and GLOBAL in table:
        own = table.get(LOCAL) or {}
        if not isinstance(own, Mapping):
            raise bad(f"config.json rope_parameters.{LOCAL}", own, "a table")
        require(own, "rope_type", "default")
        local = number(own, "rope_theta", LOCAL_THETA)
        given = {**given, "rope_parameters": table[GLOBAL]}
    elif table:
        raise bad("config.json rope_parameters", table, f"a table for {GLOBAL} and {LOCAL}")
    else:
        local = number(given, "rope_local_base_freq", LOCAL_THETA)
    theta, scaling = read_rope(given, GLOBAL_THETA)
    every = integer(given, "sliding_window_pattern", 6)
    spans = {**DEFAULTS, **given}
    return _read(
        given,
        "gemma3_text",
        qk_norm="head",
        rope_theta=theta,
        rope_scaling=scaling,
        local_theta=local,
        windows=read_windows(spans, lambda layer: (layer + 1) % every != 0),
    )


def _write(config: ModelConfig, architecture: str) -> dict[str, Any]:
    written, spans = write_decoder(config, architecture), write_windows(config)
    # transformers wants a width even where no layer has a window
    spans["sliding_window"] = spans["sliding_window"] or DEFAULTS["sliding_window"]
    return {
        **written,
        "hidden_activation": written["hidden_act"],
        "query_pre_attn_scalar": round(config.query_scale**-2),
        "attn_logit_softcapping": config.attention_cap or None,
        "final_logit_softcapping": config.logit_cap or None,
        **spans,
    }


def write_gemma2(config: ModelConfig) -> dict[str, Any]:
    """config.json of a Gemma 2 model."""
    return _write(config, "Gemma2ForCausalLM")


def write_gemma3(config: ModelConfig) -> dict[str, Any]:
    """config.json of a Gemma 3 text model, with RoPE in both styles."""
    rope = write_rope(config)
    local = {"rope_type": "default", "rope_theta": config.local_theta}
    return {
        **_write(config, "Gemma3ForCausalLM"),
        **rope,
        "rope_parameters": {GLOBAL: rope["rope_parameters"], LOCAL: local},
        "rope_local_base_freq": config.local_theta,
    }


GEMMA2_NAMES = {
    **NAMES,
    "blocks/attn_post_norm/scale": "model.layers.{}.post_attention_layernorm.weight",
    "blocks/mlp_norm/scale": "model.layers.{}.pre_feedforward_layernorm.weight",
    "blocks/mlp_post_norm/scale": "model.layers.{}.post_feedforward_layernorm.weight",
}
GEMMA3_NAMES = {
    **GEMMA2_NAMES,
    "blocks/attn/q_norm/scale": "model.layers.{}.self_attn.q_norm.weight",
    "blocks/attn/k_norm/scale": "model.layers.{}.self_attn.k_norm.weight",
}
_COMMON: dict[str, Any] = dict(
    num_layers=26,
    head_dim=256,
    norm_eps=1e-6,
    norms="both",
    norm_offset=True,
    activation="gelu",
    query_scale=256**-0.5,
)
GEMMA2_2B = ModelConfig(
    family="gemma2",
    vocab_size=256_000,
    embed_dim=2304,
    num_heads=8,
    num_kv_heads=4,
    mlp_dim=9216,
    max_length=8192,
    embed_scale=math.sqrt(2304),
    windows=(4096, 0) * 13,
    attention_cap=50.0,
    logit_cap=30.0,
    **_COMMON,
)
GEMMA3_1B = ModelConfig(
    family="gemma3_text",
    vocab_size=262_144,
    embed_dim=1152,
    num_heads=4,
    num_kv_heads=1,
    mlp_dim=6912,
    max_length=32_768,
    embed_scale=math.sqrt(1152),
    qk_norm="head",
    rope_theta=GLOBAL_THETA,
    local_theta=LOCAL_THETA,
    windows=tuple(512 if (layer + 1) % 6 else 0 for layer in range(26)),
    **_COMMON,
)
GEMMA2 = Family(
    "gemma2",
    "Gemma2ForCausalLM",
    GEMMA2_NAMES,
    read_gemma2,
    write_gemma2,
    {"gemma2-2b": GEMMA2_2B},
)
GEMMA3 = Family(
    "gemma3_text",
    "Gemma3ForCausalLM",
    GEMMA3_NAMES,
    read_gemma3,
    write_gemma3,
    {"gemma3-1b": GEMMA3_1B},
)

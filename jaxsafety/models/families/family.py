"""What a family is: a model type, how its config.json reads, how its tensors are named.

The reading below is shared by families of the Llama shape; a family file adds what differs. Config
files come in two styles: `rope_theta` + `rope_scaling`, and one `rope_parameters` table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxsafety.core.errors import bad
from jaxsafety.models.api import LINEAR_SCALING, LLAMA3_SCALING, ModelConfig

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu",
}
LOCAL, GLOBAL = "sliding_attention", "full_attention"
# our parameter path -> tensor name; "{}" is the layer. Kernels are stored transposed, [out, in].
NAMES = {
    "embed/table": "model.embed_tokens.weight",
    "blocks/attn_norm/scale": "model.layers.{}.input_layernorm.weight",
    "blocks/attn/q/kernel": "model.layers.{}.self_attn.q_proj.weight",
    "blocks/attn/q/bias": "model.layers.{}.self_attn.q_proj.bias",
    "blocks/attn/k/kernel": "model.layers.{}.self_attn.k_proj.weight",
    "blocks/attn/k/bias": "model.layers.{}.self_attn.k_proj.bias",
    "blocks/attn/v/kernel": "model.layers.{}.self_attn.v_proj.weight",
    "blocks/attn/v/bias": "model.layers.{}.self_attn.v_proj.bias",
    "blocks/attn/o/kernel": "model.layers.{}.self_attn.o_proj.weight",
    "blocks/attn/o/bias": "model.layers.{}.self_attn.o_proj.bias",
    "blocks/mlp_norm/scale": "model.layers.{}.post_attention_layernorm.weight",
    "blocks/mlp/gate/kernel": "model.layers.{}.mlp.gate_proj.weight",
    "blocks/mlp/up/kernel": "model.layers.{}.mlp.up_proj.weight",
    "blocks/mlp/down/kernel": "model.layers.{}.mlp.down_proj.weight",
    "final_norm/scale": "model.norm.weight",
    "unembed/kernel": "lm_head.weight",
}


class Family(NamedTuple):
    """One architecture of the decoder shape.

    Attributes:
      model_type: `model_type` of config.json, also `ModelConfig.family`.
      architecture: class name that `architectures` of config.json gives.
      names: parameter path -> tensor name with "{}" for the layer.
      read: config.json as a dict -> `ModelConfig`.
      write: `ModelConfig` -> config.json as a dict.
      presets: public sizes by name.
    """

    model_type: str
    architecture: str
    names: Mapping[str, str]
    read: Callable[[Mapping[str, Any]], ModelConfig]
    write: Callable[[ModelConfig], dict[str, Any]]
    presets: Mapping[str, ModelConfig]


def integer(given: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A positive integer of config.json; an absent or null key takes the default."""
    value = given.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise bad(f"config.json {key}", value, "an integer >= 1")
    return value


def number(given: Mapping[str, Any], key: str, default: float) -> float:
    """A positive number of config.json; an absent or null key takes the default."""
    value = given.get(key)
    value = default if value is None else value
    fine = isinstance(value, int | float) and not isinstance(value, bool)
    if not fine or not 0 < value < math.inf:
        raise bad(f"config.json {key}", value, "a number > 0")
    return float(value)


def require(given: Mapping[str, Any], key: str, *allowed: Any) -> None:
    """Refuses an architecture switch that the block does not have (absent and null are fine)."""
    value = given.get(key)
    if value is not None and value not in allowed:
        raise bad(f"config.json {key}", value, " or ".join(str(a) for a in allowed))


def read_rope(
    given: Mapping[str, Any], theta: float = 10_000.0
) -> tuple[float, tuple[tuple[str, float], ...]]:
    """(theta, scaling pairs) from either style of config.json; `theta` is the family's default."""
    table = given.get("rope_parameters") or given.get("rope_scaling") or {}
    if not isinstance(table, dict):
        raise bad("config.json rope_parameters", table, "a table")
    theta = number(table if "rope_theta" in table else given, "rope_theta", theta)
    kind = table.get("rope_type", table.get("type", "default"))
    keys = {"default": (), "linear": LINEAR_SCALING, "llama3": LLAMA3_SCALING}
    if not isinstance(kind, str) or kind not in keys:
        raise bad("config.json rope_type", kind, ", ".join(keys))
    for key in keys[kind]:
        if key not in table:
            raise bad(f"config.json rope_parameters.{key}", None, "a number > 0")
    return theta, tuple((key, number(table, key, 0.0)) for key in keys[kind])


def write_rope(config: ModelConfig) -> dict[str, Any]:
    """The rotary entries of config.json, in both styles."""
    scaling: dict[str, Any] = dict(config.rope_scaling)
    length = "original_max_position_embeddings"
    if length in scaling:
        scaling = {"rope_type": "llama3", **scaling, length: int(scaling[length])}
    elif scaling:
        scaling = {"rope_type": "linear", **scaling}
    return {
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling or None,
        "rope_parameters": {
            **(scaling or {"rope_type": "default"}),
            "rope_theta": config.rope_theta,
        },
    }


def read_windows(
    given: Mapping[str, Any], local: Callable[[int], bool] = lambda layer: False
) -> tuple[int, ...]:
    """The window of each layer from `layer_types` and `sliding_window`; () when all see everything.

    `local` says which layers have a window where config.json has no `layer_types`.
    """
    layers = integer(given, "num_hidden_layers")
    kinds = given.get("layer_types")
    if kinds is None:
        kinds = [LOCAL if local(layer) else GLOBAL for layer in range(layers)]
    known = isinstance(kinds, list) and all(k in (LOCAL, GLOBAL) for k in kinds)
    if not known or len(kinds) != layers:
        raise bad("config.json layer_types", kinds, f"{layers} times {GLOBAL} or {LOCAL}")
    if LOCAL not in kinds or given.get("sliding_window") is None:
        return ()
    width = integer(given, "sliding_window")
    return tuple(width if kind == LOCAL else 0 for kind in kinds)


def write_windows(config: ModelConfig) -> dict[str, Any]:
    """The entries of config.json that say which layers have a window, and how wide it is."""
    windows = config.windows or (0,) * config.num_layers
    return {
        "sliding_window": max(windows) or None,
        "layer_types": [LOCAL if width else GLOBAL for width in windows],
    }


def read_decoder(given: Mapping[str, Any], family: str, **changes: Any) -> ModelConfig:
    """`ModelConfig` of a config.json of the Llama shape; `changes` are the family's own fields."""
    activation = given.get("hidden_activation") or given.get("hidden_act") or "silu"
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise bad("config.json hidden_act", activation, ", ".join(ACTIVATIONS))
    require(given, "partial_rotary_factor", 1, 1.0)
    heads = integer(given, "num_attention_heads")
    width = integer(given, "hidden_size")
    theta, scaling = read_rope(given)
    fields = dict(
        family=family,
        vocab_size=integer(given, "vocab_size"),
        embed_dim=width,
        num_layers=integer(given, "num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=integer(given, "num_key_value_heads", heads),
        head_dim=integer(given, "head_dim", max(1, width // heads)),
        mlp_dim=integer(given, "intermediate_size"),
        max_length=integer(given, "max_position_embeddings", 2048),
        rope_theta=theta,
        rope_scaling=scaling,
        norm_eps=number(given, "rms_norm_eps", 1e-6),
        tie_embeddings=bool(given.get("tie_word_embeddings", False)),
        attention_bias="all" if given.get("attention_bias") else "none",
        activation=ACTIVATIONS[activation],
    )
    return ModelConfig(**{**fields, **changes})


def write_decoder(config: ModelConfig, architecture: str) -> dict[str, Any]:
    """config.json of a model of the Llama shape."""
    return {
        "architectures": [architecture],
        "model_type": config.family,
        "vocab_size": config.vocab_size,
        "hidden_size": config.embed_dim,
        "intermediate_size": config.mlp_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_length,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": config.attention_bias == "all",
        "attention_dropout": 0.0,
        "hidden_act": "silu" if config.activation == "silu" else "gelu_pytorch_tanh",
        "initializer_range": 0.02,
        "use_cache": True,
        **write_rope(config),
    }

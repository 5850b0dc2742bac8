"""The structs that a model's parts and its callers share: config, inputs, cache, output.

Letters: B sequences, T query positions, S key/value positions, D width, N/K query/kv heads, H head
dim, F mlp width, V vocabulary, L layers, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxsafety.adapters.routing import Routing

PyTree = Any
DTYPES = ("float32", "bfloat16", "float16")
REMATS = ("none", "full", "dots")
KERNELS = ("float", "int8")
SWITCHES = {
    "qk_norm": ("none", "head", "width"),
    "attention_bias": ("none", "qkv", "all"),
    "norms": ("pre", "post", "both"),
    "activation": ("silu", "gelu"),
    "dtype": DTYPES,
    "remat": REMATS,
    "kernels": KERNELS,
}
LINEAR_SCALING = ("factor",)
LLAMA3_SCALING = (
    "factor",
    "high_freq_factor",
    "low_freq_factor",
    "original_max_position_embeddings",
)


@dataclass(frozen=True)
class ModelConfig:
    """Shape and switches of a decoder-only model; nothing about training.

    Attributes:
      rope_scaling: pairs of numbers, those of LLAMA3_SCALING, or of LINEAR_SCALING, or none.
      qk_norm: RMS norm of queries and keys over "none", each "head", or the whole "width".
      attention_bias: biases on "none", "qkv" or "all" projections of the attention.
      norms: of each branch: "pre", "post", or "both" sides of attention and mlp.
      norm_offset: norms multiply by 1 + scale, and scale starts at 0 (Gemma).
      activation: of the mlp's gate, "silu" or "gelu" (the tanh approximation).
      windows: how many tokens each layer looks back, itself included; 0 is all; () is all in all.
      local_theta: RoPE base of layers with a window, unscaled; 0 is the same as everywhere.
      attention_cap: c of c tanh(x / c) on attention scores; 0 is none.
      logit_cap: the same on logits.
      query_scale: what queries are multiplied by; 0 is head_dim ** -0.5.
      embed_scale: what embeddings are multiplied by when looked up, not when they unembed.
      dtype: the compute dtype; parameters keep their own.
      remat: "none", "full" or "dots".
      unroll: decoding steps take `unstacked` parameters; `hf.load` sets it on CPUs.
      kernels: "float", or "int8": frozen, with a scale per output channel (`models/int8.py`).
    """

    family: str
    vocab_size: int
    embed_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    max_length: int
    rope_theta: float = 10_000.0
    rope_scaling: tuple[tuple[str, float], ...] = ()
    norm_eps: float = 1e-5
    tie_embeddings: bool = True
    qk_norm: str = "none"
    attention_bias: str = "none"
    norms: str = "pre"
    norm_offset: bool = False
    activation: str = "silu"
    windows: tuple[int, ...] = ()
    local_theta: float = 0.0
    attention_cap: float = 0.0
    logit_cap: float = 0.0
    query_scale: float = 0.0
    embed_scale: float = 1.0
    dtype: str = "float32"
    remat: str = "none"
    unroll: bool = False
    kernels: str = "float"


@struct.dataclass
class LayerInputs:
    """What varies per layer and is not a base weight; leading axis L, scanned with the blocks.

    Attributes:
      adapters: `{"experts": {projection: {"a": [L,E,*in,R], "b": [L,E,R,*out]}}, "scale": [L]}`,
        which may hold a "router" too (see `adapters.routing`), or None.
      add: [L,D] steering or [L,B,T,D] perturbation, added at each block's input.
      where: [B,T] bool, the positions `add` touches; None means all. Shared by layers, no L axis.
      ablate: [L,D] unit direction projected out of block input, attention output and mlp output; or
        [L,R,D], R orthonormal ones.
      pool: [B,T] weights, summing to 1 per row, of the tokens on which a router decides for the
        whole sequence; None in decoding steps, which keep the prompt's choice. No L axis.
      routing: static options of `adapters["router"]` (see `adapters.routing`).

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxsafety
      >>> direction = jnp.ones(128) / 128**0.5  # [D], a unit vector
      >>> steer = jnp.zeros((6, 128)).at[2].set(8.0 * direction)  # [L,D], at layer 2 only
      >>> layers = jaxsafety.LayerInputs(add=steer)
      >>> layers.add.shape, layers.adapters is None
      ((6, 128), True)
    """

    adapters: PyTree = None
    add: jax.Array | None = None
    where: jax.Array | None = None
    ablate: jax.Array | None = None
    pool: jax.Array | None = None
    routing: Routing = struct.field(pytree_node=False, default=Routing())


@struct.dataclass
class Cache:
    """Keys and values of the past, slot order = causal order.

    k [L,B,K,H,S] (slots last, as the product with the queries wants it); v [L,B,K,S,H];
    segments [B,S] int32 (0 = empty or padding); length: int32 scalar, slots used, or [B], those of
    each row, which then grows by one token at a time and loses what has no slot. routes [L,B,E]:
    mixtures chosen on the prompt for the whole sequence; gate: (k, v) of the pass without adapters
    (X-LoRA). The last two are made by the first pass that needs them.

    `layered` has k and v as tuples of one array per layer, with a leading axis of 1.
    """

    k: Any
    v: Any
    segments: jax.Array
    length: jax.Array
    routes: jax.Array | None = None
    gate: tuple[Any, Any] | None = None


@struct.dataclass
class Output:
    """What a forward pass returns; logits are not computed here.

    hidden [B,T,D] after the final norm; cache with the T tokens added; residuals [L,B,T,D], the
    stream entering each block before that layer's interventions, and mix [L,B,T or 1,E], the
    mixture of the mlps' experts (None without a router per block), when captured.
    """

    hidden: jax.Array
    cache: Cache | None = None
    residuals: jax.Array | None = None
    mix: jax.Array | None = None


def init_cache(config: ModelConfig, batch: int, slots: int, dtype: Any = jnp.float32) -> Cache:
    """An empty cache for `batch` sequences of at most `slots` tokens."""
    lead = (config.num_layers, batch, config.num_kv_heads)
    return Cache(
        k=jnp.zeros((*lead, config.head_dim, slots), dtype),
        v=jnp.zeros((*lead, slots, config.head_dim), dtype),
        segments=jnp.zeros((batch, slots), jnp.int32),
        length=jnp.zeros((), jnp.int32),
    )


def layered(cache: Cache) -> Cache:
    """The same cache, each layer's arrays apart, as steps with `api.unstacked` parameters want it.

    There each layer is written and read in place; of a stack XLA on CPU copies what it reads.
    """

    def apart(x: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(x[i : i + 1] for i in range(x.shape[0]))

    gate = None if cache.gate is None else (apart(cache.gate[0]), apart(cache.gate[1]))
    return replace(cache, k=apart(cache.k), v=apart(cache.v), gate=gate)

"""The only model object the rest of the package sees: plain functions over plain dict pytrees.

Letters: B sequences, T query positions, S key/value positions, D width, N/K query/kv heads, H head
dim, F mlp width, V vocabulary, L layers, E experts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from jaxsafety.adapters.routing import Routing
from jaxsafety.errors import bad

PyTree = Any
DTYPES = ("float32", "bfloat16", "float16")
REMATS = ("none", "full", "dots")
SWITCHES = {
    "qk_norm": ("none", "head", "width"),
    "attention_bias": ("none", "qkv", "all"),
    "norms": ("pre", "post", "both"),
    "activation": ("silu", "gelu"),
    "dtype": DTYPES,
    "remat": REMATS,
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


@struct.dataclass
class LayerInputs:
    """What varies per layer and is not a base weight; leading axis L, scanned with the blocks.

    Attributes:
      adapters: `{"experts": {projection: {"a": [L,E,*in,R], "b": [L,E,R,*out]}}, "scale": [L]}`,
        which may hold a "router" too (see `adapters.routing`), or None.
      add: [L,D] steering or [L,B,T,D] perturbation, added at each block's input.
      where: [B,T] bool, the positions `add` touches; None means all. Shared by layers, no L axis.
      ablate: [L,D] unit direction projected out of block input, attention output and mlp output.
      pool: [B,T] weights, summing to 1 per row, of the tokens on which a router decides for the
        whole sequence; None in decoding steps, which keep the prompt's choice. No L axis.
      routing: static options of `adapters["router"]` (see `adapters.routing`).
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
    segments [B,S] int32 (0 = empty or padding); length: int32 scalar, slots used. routes [L,B,E]:
    mixtures chosen on the prompt for the whole sequence; gate: (k, v) of the pass without adapters
    (X-LoRA). The last two are made by the first pass that needs them.
    """

    k: jax.Array
    v: jax.Array
    segments: jax.Array
    length: jax.Array
    routes: jax.Array | None = None
    gate: tuple[jax.Array, jax.Array] | None = None


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


@dataclass(frozen=True, eq=False)
class Model:
    """A model as functions; static under jit and hashed by identity.

    Attributes:
      config: the `ModelConfig`.
      init: `key -> params`, a plain nested dict of float32 arrays.
      apply: `(params, tokens[B,T], positions[B,T], *, segments[B,T]=None, cache=None,
        layers=LayerInputs(), mix=None, capture=False) -> Output`. Segments: 0 is padding, a token
        attends causally within its own segment; None means one segment. With a cache the T tokens
        go to slots length..length+T and attend to cached slots of the same segment.
      head: `params -> [D,V]` unembedding kernel (the transposed embedding when tied).
      unembed: `(params, hidden[...,D]) -> logits[...,V]` float32, capped where the config says so
        (losses, which multiply by `head` themselves, take `config.logit_cap`).
      axes: logical axis names per parameter, same structure as params.
      projections: name -> `Projection` of every linear that can carry an adapter.
    """

    config: ModelConfig
    init: Callable[..., PyTree]
    apply: Callable[..., Output]
    head: Callable[[PyTree], jax.Array]
    unembed: Callable[[PyTree, jax.Array], jax.Array]
    axes: PyTree
    projections: Mapping[str, Any]


def init_cache(config: ModelConfig, batch: int, slots: int, dtype: Any = jnp.float32) -> Cache:
    """An empty cache for `batch` sequences of at most `slots` tokens."""
    lead = (config.num_layers, batch, config.num_kv_heads)
    return Cache(
        k=jnp.zeros((*lead, config.head_dim, slots), dtype),
        v=jnp.zeros((*lead, slots, config.head_dim), dtype),
        segments=jnp.zeros((batch, slots), jnp.int32),
        length=jnp.zeros((), jnp.int32),
    )


@functools.lru_cache(maxsize=64)
def build(config: ModelConfig) -> Model:
    """The model of a config. One object per config, so jit caches are shared.

    `apply` with `capture=True` returns `residuals`, the stream entering each block *before* that
    layer's `add` and `ablate`. Order inside a block: add, then ablate, then attention and mlp.

    Raises:
      UsageError: a switch or shape that the block cannot build, named.
    """
    from jaxsafety.models import layers as parts  # late: those files need the structs above
    from jaxsafety.models.transformer import Transformer

    _validate(config)
    module = Transformer(config)

    def boxed(key: jax.Array) -> PyTree:
        one = jnp.zeros((1, 1), jnp.int32)
        return module.init(key, one, one)["params"]

    def init(key: jax.Array) -> PyTree:
        return nn.unbox(boxed(key))

    def apply(
        params: PyTree,
        tokens: jax.Array,
        positions: jax.Array,
        *,
        segments: jax.Array | None = None,
        cache: Cache | None = None,
        layers: LayerInputs = LayerInputs(),
        mix: jax.Array | None = None,
        capture: bool = False,
    ) -> Output:
        kwargs: dict[str, Any] = dict(segments=segments, cache=cache, layers=layers, mix=mix)
        if isinstance(params["blocks"], list):  # see `unstacked`
            params = dict(params)
            kwargs["blocks_list"] = params.pop("blocks")
        output: Any = module.apply({"params": params}, tokens, positions, capture=capture, **kwargs)
        return output

    def head(params: PyTree) -> jax.Array:
        tied = config.tie_embeddings
        return params["embed"]["table"].T if tied else params["unembed"]["kernel"]

    def unembed(params: PyTree, hidden: jax.Array) -> jax.Array:
        kernel = head(params).astype(config.dtype)
        x = jnp.matmul(hidden.astype(config.dtype), kernel, preferred_element_type=jnp.float32)
        return config.logit_cap * jnp.tanh(x / config.logit_cap) if config.logit_cap else x

    specs = nn.get_partition_spec(jax.eval_shape(boxed, jax.random.key(0)))
    is_spec = lambda leaf: isinstance(leaf, jax.sharding.PartitionSpec)  # noqa: E731
    axes = jax.tree.map(tuple, specs, is_leaf=is_spec)
    return Model(config, init, apply, head, unembed, axes, parts.projections(config))


def unstacked(config: ModelConfig, params: PyTree) -> PyTree:
    """Parameters with the blocks as a list, one tree per layer; `apply` takes both forms.

    For many steps with the same weights on a CPU: there a scan copies each layer's weights out of
    the stack before it uses them, which takes longer than using them.
    """
    blocks = params["blocks"]
    split = [jax.tree.map(lambda x, i=i: x[i], blocks) for i in range(config.num_layers)]
    return {**params, "blocks": split}


def _validate(config: ModelConfig) -> None:
    """Raises on anything the one Block cannot express."""
    for name in (
        "vocab_size embed_dim num_layers num_heads num_kv_heads head_dim mlp_dim max_length".split()
    ):
        if getattr(config, name) < 1:
            raise bad(f"model.{name}", getattr(config, name), "an integer >= 1")
    if config.num_heads % config.num_kv_heads:
        raise bad("model.num_heads", config.num_heads, f"a multiple of {config.num_kv_heads}")
    if config.head_dim % 2:
        raise bad("model.head_dim", config.head_dim, "an even number (RoPE rotates pairs)")
    for name, allowed in SWITCHES.items():
        if getattr(config, name) not in allowed:
            raise bad(f"model.{name}", getattr(config, name), ", ".join(allowed))
    for name in ("local_theta", "attention_cap", "logit_cap", "query_scale"):
        if getattr(config, name) < 0:
            raise bad(f"model.{name}", getattr(config, name), "0 or more")
    if config.windows and (len(config.windows) != config.num_layers or min(config.windows) < 0):
        raise bad("model.windows", config.windows, f"() or {config.num_layers} numbers, 0 or more")
    if len({w for w in config.windows if w}) > 1:
        raise bad("model.windows", config.windows, "one width besides 0")
    keys = tuple(sorted(key for key, _ in config.rope_scaling))
    if keys not in ((), LLAMA3_SCALING, LINEAR_SCALING):
        raise bad("model.rope_scaling", keys, f"(), {LINEAR_SCALING} or {LLAMA3_SCALING}")

"""The only model object the rest of the package sees: plain functions over plain dict pytrees.

Letters: B sequences, T query positions, S key/value positions, D width, N/K query/kv heads, H head
dim, F mlp width, V vocabulary, L layers, E experts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxsafety.adapters.projection import fan_in
from jaxsafety.core import shapes, trees
from jaxsafety.core.errors import bad
from jaxsafety.models import int8, turned
from jaxsafety.models import layers as parts
from jaxsafety.models.transformer import Transformer
from jaxsafety.models.types import DTYPES as DTYPES
from jaxsafety.models.types import LINEAR_SCALING as LINEAR_SCALING
from jaxsafety.models.types import LLAMA3_SCALING as LLAMA3_SCALING
from jaxsafety.models.types import REMATS as REMATS
from jaxsafety.models.types import SWITCHES as SWITCHES
from jaxsafety.models.types import Cache as Cache
from jaxsafety.models.types import LayerInputs as LayerInputs
from jaxsafety.models.types import ModelConfig as ModelConfig
from jaxsafety.models.types import Output as Output
from jaxsafety.models.types import init_cache as init_cache
from jaxsafety.models.types import layered as layered

PyTree = Any


@dataclass(frozen=True, eq=False)
class Model:
    """A model as functions; static under jit and hashed by identity.

    Attributes:
      config: the `ModelConfig`.
      init: `key -> params`, a plain nested dict of float32 arrays; with `kernels="int8"` those of
        the float model, quantised.
      apply: `(params, tokens[B,T], positions[B,T], *, segments[B,T]=None, packed=True,
        branches[B,T]=None, cache=None, layers=LayerInputs(), mix=None, capture=False) -> Output`.
        Segments: 0 is padding, a token attends causally within its own segment; None means one
        segment. `packed=False` promises that each row is one segment from its first slot on, then
        padding: a GPU may then use kernels that need no mask (`models/cudnn.py`). With a
        cache the T tokens go to slots length..length+T and attend to cached slots of the same
        segment. Branches make of a segment a tree laid flat: 0 is its trunk, k the k-th
        continuation of it, which attends to the trunk and to itself, with positions that go on
        from the trunk's; what a cache held before, from position 0 on, every segment attends to.
      head: `params -> [D,V]` unembedding kernel (the transposed embedding when tied), in floating
        point whatever the kernels are.
      unembed: `(params, hidden[...,D]) -> logits[...,V]` float32, capped where the config says so
        (losses, which multiply by `head` themselves, take `config.logit_cap`).
      axes: logical axis names per parameter, same structure as params.
      projections: name -> `Projection` of every linear that can carry an adapter.

    Raises:
      AssertionError: `apply` was given tokens, positions, segments or branches of different shapes.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jaxsafety
      >>> model, params, tokenizer = jaxsafety.load()
      >>> tokens = jnp.array([tokenizer.encode("i can not help")])  # [B,T]
      >>> positions = jnp.arange(tokens.shape[1])[None]
      >>> hidden = jax.jit(model.apply)(params, tokens, positions).hidden
      >>> hidden.shape, model.unembed(params, hidden).shape  # [B,T,D], [B,T,V]
      ((1, 4, 128), (1, 4, 1077))
    """

    config: ModelConfig
    init: Callable[..., PyTree]
    apply: Callable[..., Output]
    head: Callable[[PyTree], jax.Array]
    unembed: Callable[[PyTree, jax.Array], jax.Array]
    axes: PyTree
    projections: Mapping[str, Any]


@functools.lru_cache(maxsize=64)
def build(config: ModelConfig) -> Model:
    """The model of a config. One object per config, so jit caches are shared.

    `apply` with `capture=True` returns `residuals`, the stream entering each block *before* that
    layer's `add` and `ablate`. Order inside a block: add, then ablate, then attention and mlp.

    Raises:
      UsageError: a switch or shape that the block cannot build, named.
    """
    _validate(config)
    module = Transformer(config)

    def boxed(key: jax.Array) -> PyTree:
        one = jnp.zeros((1, 1), jnp.int32)
        return module.init(key, one, one)["params"]

    table = parts.projections(config)

    def init(key: jax.Array) -> PyTree:
        if config.kernels == "int8":
            whole = build(replace(config, kernels="float")).init(key)
            return int8.quantise(config, table, whole)
        return nn.unbox(boxed(key))

    def apply(
        params: PyTree,
        tokens: jax.Array,
        positions: jax.Array,
        *,
        segments: jax.Array | None = None,
        packed: bool = True,
        branches: jax.Array | None = None,
        cache: Cache | None = None,
        layers: LayerInputs = LayerInputs(),
        mix: jax.Array | None = None,
        capture: bool = False,
    ) -> Output:
        dims = shapes.dimensions()
        shapes.check(tokens, "BT", dims, "tokens")
        shapes.check(positions, "BT", dims, "positions")
        if segments is not None:
            shapes.check(segments, "BT", dims, "segments")
        if branches is not None:
            shapes.check(branches, "BT", dims, "branches")
        kwargs: dict[str, Any] = dict(
            segments=segments,
            packed=packed,
            branches=branches,
            cache=cache,
            layers=layers,
            mix=mix,
        )
        if isinstance(params["blocks"], list):  # see `unstacked`
            params = dict(params)
            kwargs["blocks_list"] = params.pop("blocks")
        output: Any = module.apply({"params": params}, tokens, positions, capture=capture, **kwargs)
        return output

    tied = config.tie_embeddings

    def head_int8(params: PyTree) -> tuple[jax.Array, jax.Array, int]:
        own = params["embed"] if tied else params["unembed"]
        return own["table_q" if tied else "kernel_q"], own["scale"], int(tied)

    def head(params: PyTree) -> jax.Array:
        if config.kernels == "int8":
            kernel, scale, axis = head_int8(params)
            kernel = (kernel.T if axis else kernel) * scale
            return kernel.astype(config.dtype)
        own = rows_of_head(params)
        return params["unembed"]["kernel"] if own is None else own.T

    def rows_of_head(params: PyTree) -> jax.Array | None:
        """The unembedding as [V,D], where that is how it lies."""
        return params["embed"]["table"] if tied else params["unembed"].get(turned.TURNED)

    def logits(params: PyTree, hidden: jax.Array) -> jax.Array:
        if config.kernels == "int8":
            flat = hidden.reshape(-1, hidden.shape[-1])
            x = int8.product(flat, *head_int8(params), "float32")
            return x.reshape(*hidden.shape[:-1], -1)
        own, rows = rows_of_head(params), math.prod(hidden.shape[:-1])
        if own is not None and turned.pays(config, rows):
            x = turned.product(hidden.reshape(rows, -1), own)
            return x.reshape(*hidden.shape[:-1], -1)
        kernel = head(params).astype(config.dtype)
        return jnp.matmul(hidden.astype(config.dtype), kernel, preferred_element_type=jnp.float32)

    def unembed(params: PyTree, hidden: jax.Array) -> jax.Array:
        x = logits(params, hidden)
        return config.logit_cap * jnp.tanh(x / config.logit_cap) if config.logit_cap else x

    specs = nn.get_partition_spec(jax.eval_shape(boxed, jax.random.key(0)))
    is_spec = lambda leaf: isinstance(leaf, jax.sharding.PartitionSpec)  # noqa: E731
    axes = jax.tree.map(tuple, specs, is_leaf=is_spec)
    return Model(config, init, apply, head, unembed, axes, table)


def unstacked(config: ModelConfig, params: PyTree, rows: int = 1) -> PyTree:
    """Parameters with the blocks as a list, one tree per layer; `apply` takes both forms.

    For many steps with the same weights on a CPU: there a scan copies each layer's weights out of
    the stack before it uses them, which takes longer than using them. `rows` is how many a step
    has: from two on kernels lie turned where that is faster (`models/turned.py`).
    """
    if not turned.pays(config, rows):
        blocks = params["blocks"]
        split = [jax.tree.map(lambda x, i=i: x[i], blocks) for i in range(config.num_layers)]
        return {**params, "blocks": split}
    inputs = {
        "/".join((*p.path, kernel)): fan_in(p)
        for p in parts.projections(config).values()
        for kernel in ("kernel", "kernel_q")
    }
    names = trees.paths(params["blocks"])
    split = [{} for _ in range(config.num_layers)]
    for name, stack in zip(names, jax.tree.leaves(params["blocks"]), strict=True):
        for layer, own in enumerate(split):
            if name not in inputs:
                trees.insert(own, name, stack[layer])
                continue
            place = f"{name.rpartition('/')[0]}/{turned.TURNED}"
            trees.insert(own, place, turned.turn(stack, inputs[name], layer))
    params = {**params, "blocks": split}
    if not config.tie_embeddings and config.kernels == "float":
        kernel = params["unembed"]["kernel"]
        params["unembed"] = {turned.TURNED: turned.turn(kernel, config.embed_dim)}
    return params


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

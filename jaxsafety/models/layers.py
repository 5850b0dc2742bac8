"""The parts of a block: Linear (with adapters), RMSNorm, RoPE, attention.

Letters: B sequences, T query positions, S key/value positions, D width, N query heads, K kv heads,
G = N/K query heads per kv head, H head dim, F mlp width. Parameters are float32; each layer casts
them to the compute dtype. Norms, rotary angles and softmax are computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxsafety.adapters import lora
from jaxsafety.adapters import routing as routers
from jaxsafety.adapters.projection import Projection, fan_in, in_shape, out_shape
from jaxsafety.adapters.routing import Routing
from jaxsafety.models import int8, turned
from jaxsafety.models.types import ModelConfig

TOKENWISE = Routing()
# Parameters that are read in the dtype that is computed in and in no other; norms are float32.
COMPUTED = ("kernel", "table", "bias")
MASKED = -1e30  # finite: a masked score never produces inf - inf


def projections(config: ModelConfig) -> dict[str, Projection]:
    """Every linear map of a block that can carry an adapter."""
    d, f, h = config.embed_dim, config.mlp_dim, config.head_dim
    n, k = config.num_heads, config.num_kv_heads
    return {
        "q": Projection("btd,dnh->btnh", (d, n, h), ("embed", "heads", "head_dim"), ("attn", "q")),
        "k": Projection(
            "btd,dkh->btkh", (d, k, h), ("embed", "kv_heads", "head_dim"), ("attn", "k")
        ),
        "v": Projection(
            "btd,dkh->btkh", (d, k, h), ("embed", "kv_heads", "head_dim"), ("attn", "v")
        ),
        "o": Projection("btnh,nhd->btd", (n, h, d), ("heads", "head_dim", "embed"), ("attn", "o")),
        "gate": Projection("btd,df->btf", (d, f), ("embed", "mlp"), ("mlp", "gate")),
        "up": Projection("btd,df->btf", (d, f), ("embed", "mlp"), ("mlp", "up")),
        "down": Projection("btf,fd->btd", (f, d), ("mlp", "embed"), ("mlp", "down")),
    }


def parameter(
    module: nn.Module,
    name: str,
    init: Any,
    shape: tuple[int, ...],
    axes: tuple[str, ...],
    dtype: Any = jnp.float32,
) -> jax.Array:
    """Declares a parameter with logical axis names."""
    boxed: Any = nn.with_logical_partitioning(init, axes)
    value: Any = module.param(name, boxed, shape, dtype)
    return value


def parameter_int8(
    module: nn.Module,
    name: str,
    shape: tuple[int, ...],
    axes: tuple[str, ...],
    outputs: slice,
) -> tuple[jax.Array, jax.Array]:
    """Declares `name`_q, int8, and the float32 `scale` of its output dimensions, both of zeros.

    Values come from `int8.quantise`.
    """
    zeros = jax.nn.initializers.zeros
    whole = parameter(module, f"{name}_q", zeros, shape, axes, jnp.int8)
    return whole, parameter(module, "scale", zeros, shape[outputs], axes[outputs])


def apply_kernel(p: Projection, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The projection's einsum as one two-dimensional matrix product.

    Same numbers as `jnp.einsum(p.eqn, x, kernel)`; on CPU the gradient of the einsum over [B,T,...]
    transposes an activation in a slow loop, the flat product does not (1.5x faster backward).
    """
    inputs = fan_in(p)
    lead = x.shape[: x.ndim - len(in_shape(p))]
    y = x.reshape(-1, inputs) @ kernel.reshape(inputs, -1)
    return y.reshape(*lead, *out_shape(p))


def apply_int8(p: Projection, x: jax.Array, kernel_q: jax.Array, scale: jax.Array) -> jax.Array:
    """`apply_kernel` of a kernel as int8 [*in,*out] with its scales [*out]; in the dtype of x."""
    inputs = fan_in(p)
    lead = x.shape[: x.ndim - len(in_shape(p))]
    flat = (x.reshape(-1, inputs), kernel_q.reshape(inputs, -1), scale.reshape(-1))
    return int8.product(*flat, 0, str(x.dtype)).reshape(*lead, *out_shape(p))


def apply_turned(
    p: Projection, x: jax.Array, kernel: jax.Array, scale: jax.Array | None
) -> jax.Array:
    """`apply_kernel` of a kernel as [O,I] (`models/turned.py`); with scales `apply_int8`."""
    lead, flat = x.shape[: x.ndim - len(in_shape(p))], x.reshape(-1, fan_in(p))
    if scale is None:
        y = turned.product(flat, kernel)
    else:
        y = int8.turned_product(flat, kernel, scale.reshape(-1), str(x.dtype))
    return y.reshape(*lead, *out_shape(p))


class Linear(nn.Module):
    """A projection plus, when given, the update of its LoRA experts."""

    projection: Projection
    dtype: str
    bias: bool = False
    init_scale: float = 1.0
    kernels: str = "float"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        adapters: Mapping | None = None,
        mix: jax.Array | None = None,
        routing: Routing = TOKENWISE,
        pool: jax.Array | None = None,
    ) -> jax.Array:
        """Maps x [B,T,*in] to [B,T,*out]; `adapters` is one layer of an adapter tree.

        A router of this linear's own goes before `mix`; `routing` and `pool` are for it.
        """
        p = self.projection
        if self.has_variable("params", turned.TURNED):
            scale = self.get_variable("params", "scale") if self.kernels == "int8" else None
            y = apply_turned(p, x, self.get_variable("params", turned.TURNED), scale)
        elif self.kernels == "int8":
            outputs = slice(len(in_shape(p)), None)
            y = apply_int8(p, x, *parameter_int8(self, "kernel", p.shape, p.axes, outputs))
        else:
            init = jax.nn.initializers.normal(self.init_scale * fan_in(p) ** -0.5)
            kernel = parameter(self, "kernel", init, p.shape, p.axes)
            y = apply_kernel(p, x, kernel.astype(self.dtype))
        if self.bias:
            shape, zeros = out_shape(p), jax.nn.initializers.zeros
            axes = p.axes[len(p.axes) - len(shape) :]
            y = y + parameter(self, "bias", zeros, shape, axes).astype(self.dtype)
        name = p.path[-1]
        if adapters is None:
            return y
        scale, router = adapters.get("scale", 1.0), adapters.get("router", {})
        if name in adapters["experts"]:
            pair = adapters["experts"][name]
            if name in router:
                mix = routers.mixture(router[name], x, routing, pool)
            y = y + lora.delta(p, x, pair["a"], pair["b"], mix, scale)
        if name in adapters.get("always", {}):
            pair = adapters["always"][name]
            y = y + lora.delta(p, x, pair["a"], pair["b"], None, scale)
        return y


class RMSNorm(nn.Module):
    """x / rms(x) * scale over the last axes, computed in float32; `offset`: times 1 + scale."""

    eps: float
    dtype: str
    axes: tuple[str, ...] = ("embed",)
    offset: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises the last axes of x, as many as `axes` names."""
        init = jax.nn.initializers.zeros if self.offset else jax.nn.initializers.ones
        last = tuple(range(x.ndim - len(self.axes), x.ndim))
        scale = parameter(self, "scale", init, tuple(x.shape[i] for i in last), self.axes)
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=last, keepdims=True) + self.eps)
        scale = scale.astype(jnp.float32)  # 1 + scale would lose it in bfloat16 parameters
        return (y * (scale + 1.0 if self.offset else scale)).astype(self.dtype)


def frequencies(config: ModelConfig, *, local: bool = False) -> jax.Array:
    """Inverse RoPE frequencies [H/2], scaled as the config says.

    `local`: those of layers with a window, whose base may be another, without scaling.
    """
    half = jnp.arange(0, config.head_dim, 2, dtype=jnp.float32) / config.head_dim
    if local and config.local_theta:
        return 1.0 / (config.local_theta**half)
    freqs = 1.0 / (config.rope_theta**half)
    scaling = dict(config.rope_scaling)
    if not scaling:
        return freqs
    if set(scaling) == {"factor"}:  # linear: positions are divided
        return freqs / scaling["factor"]
    # Llama 3: keep high frequencies, divide low ones by `factor`, interpolate in between.
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    original = scaling["original_max_position_embeddings"]
    turns = original * freqs / (2 * math.pi)
    smooth = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
    return freqs * (smooth + (1.0 - smooth) / scaling["factor"])


def rope_tables(
    config: ModelConfig, positions: jax.Array, *, local: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Tables of cos and sin [B,T,1,H/2] (float32) of positions [B,T]."""
    freqs = frequencies(config, local=local)
    angles = positions[..., None, None].astype(jnp.float32) * freqs
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, tables: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotary embedding of x [B,T,N,H]; pairs are (i, i + H/2), the Hugging Face convention."""
    cos, sin = tables
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def attention_bias(
    query_segments: jax.Array | None,
    key_segments: jax.Array | None,
    first: jax.Array | int,
    queries: int,
    keys: int,
    group: int,
    window: int = 0,
) -> jax.Array:
    """Additive mask [B or 1,1,G*T,S]: 0 where slot s may be read, `MASKED` elsewhere.

    A query in slot `first + t` reads slots of its own segment up to its own, or the last `window`
    of them (the tokens of a segment lie side by side, so slots count tokens). It always
    reads itself, also in padding (segment 0), so no row is empty and nothing becomes NaN. The mask
    is repeated for the G heads of a group here, once, so `attend` adds it without reshaping scores.
    `first` is one slot for all rows, or one per row [B].
    """
    own = jnp.reshape(jnp.asarray(first), (-1, 1, 1)) + jnp.arange(queries)[:, None]
    slots = jnp.arange(keys)
    allowed = slots <= own  # [1 or B,T,S]
    if window:
        allowed = allowed & (slots > own - window)
    if query_segments is not None and key_segments is not None:
        allowed = allowed & (query_segments[:, :, None] == key_segments[:, None, :])
    bias = jnp.where(allowed, 0.0, MASKED).astype(jnp.float32)[:, None]
    return jnp.tile(bias, (1, 1, group, 1))


def branch_bias(
    segments: jax.Array,
    branches: jax.Array,
    positions: jax.Array,
    key_segments: jax.Array,
    first: jax.Array | int,
    group: int,
    window: int = 0,
) -> jax.Array:
    """Additive mask [B,1,G*T,S] of segments that are trees laid flat: a trunk, then its branches.

    A query reads what a cache held before (slots below `first`, positions 0, 1, ...: how every
    segment begins), and in slots up to its own the trunk of its segment and its own branch. A
    window counts positions: between a branch and its trunk may lie the slots of other branches.

    Args:
      segments: [B,T], 0 is padding.
      branches: [B,T], 0 is the trunk of a segment, k its k-th branch.
      positions: [B,T], those of a branch go on from its trunk's.
      key_segments: [B,S], with the T tokens in slots first..first+T.
      first: slot of the first of the T tokens.
      group: heads that share the mask, G.
      window: how many positions are read, its own included; 0 is all.
    """
    queries = segments.shape[1]
    slots = jnp.arange(key_segments.shape[1])
    before = jnp.broadcast_to(slots.astype(positions.dtype), key_segments.shape)
    key_branches = jax.lax.dynamic_update_slice(
        jnp.zeros(key_segments.shape, branches.dtype), branches, (0, first)
    )
    key_positions = jax.lax.dynamic_update_slice(before, positions, (0, first))[:, None, :]
    key_branches = key_branches[:, None, :]
    allowed = segments[:, :, None] == key_segments[:, None, :]
    allowed = allowed & ((key_branches == 0) | (key_branches == branches[:, :, None]))
    allowed = allowed & (slots <= (first + jnp.arange(queries))[:, None])
    allowed = jnp.where(slots < first, (key_segments > 0)[:, None, :], allowed)
    if window:
        allowed = allowed & (key_positions > positions[:, :, None] - window)
    bias = jnp.where(allowed, 0.0, MASKED).astype(jnp.float32)[:, None]
    return jnp.tile(bias, (1, 1, group, 1))


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array,
    scale: float = 0.0,
    cap: float = 0.0,
) -> jax.Array:
    """Grouped-query attention as two batched matrix products per kv head.

    On CPU the [B,K,G*T,H] x [B,K,H,S] layout is several times faster than an einsum over
    [B,T,N,H], and the G query heads of a group share their keys without repeating them.

    Args:
      q: [B,T,N,H], rotated.
      k: [B,K,H,S], rotated.
      v: [B,K,S,H].
      bias: [B or 1,1,G*T,S] additive mask.
      scale: of the queries; 0 is H ** -0.5.
      cap: c of c tanh(score / c); 0 is none.

    Returns:
      [B,T,N,H].
    """
    batch, length, heads, dim = q.shape
    kv_heads = k.shape[1]
    group = heads // kv_heads
    q = (q * (scale or dim**-0.5)).reshape(batch, length, kv_heads, group, dim)
    q = q.transpose(0, 2, 3, 1, 4).reshape(batch, kv_heads, group * length, dim)
    scores = jnp.einsum("bkqh,bkhs->bkqs", q, k, preferred_element_type=jnp.float32)
    if cap:
        scores = cap * jnp.tanh(scores / cap)
    probs = jax.nn.softmax(scores + bias, axis=-1).astype(v.dtype)
    out = jnp.einsum("bkqs,bksh->bkqh", probs, v)
    out = out.reshape(batch, kv_heads, group, length, dim).transpose(0, 3, 1, 2, 4)
    return out.reshape(batch, length, heads, dim)


def placed(old: jax.Array, new: jax.Array, slot: jax.Array) -> jax.Array:
    """The segments [B,S] of a cache with those of T tokens [B,T] from `slot` on, or each row's."""
    new = new.astype(old.dtype)
    if jnp.ndim(slot) == 0:
        return jax.lax.dynamic_update_slice(old, new, (0, slot))
    assert new.shape[1] == 1, "rows with slots of their own take a token at a time"
    return old.at[jnp.arange(len(old)), slot].set(new[:, 0], mode="drop", unique_indices=True)


def cached(
    cache: tuple[jax.Array, jax.Array],
    k: jax.Array,
    v: jax.Array,
    layer: jax.Array,
    slot: jax.Array | int,
) -> tuple[jax.Array, jax.Array]:
    """The cache (k [L,B,K,H,S], v [L,B,K,S,H]) with a layer's k [B,K,H,T] and v [B,K,T,H].

    Args:
      cache: of all layers, or of this one alone: then L is 1.
      k: rotated.
      v: of the same tokens.
      layer: its index.
      slot: where the first of the T tokens goes; or [B], where each row's only token goes, which is
        lost where the row has no such slot.
    """
    old_k, old_v = cache
    k, v = k.astype(old_k.dtype), v.astype(old_v.dtype)
    at = layer if old_k.shape[0] > 1 else 0
    if jnp.ndim(slot) == 0:
        k = jax.lax.dynamic_update_slice(old_k, k[None], (at, 0, 0, 0, slot))
        return k, jax.lax.dynamic_update_slice(old_v, v[None], (at, 0, 0, slot, 0))
    rows = jnp.arange(len(k))
    how: Any = {"mode": "drop", "unique_indices": True}
    return (
        old_k.at[at, rows, :, :, slot].set(k[..., 0], **how),
        old_v.at[at, rows, :, slot].set(v[:, :, 0], **how),
    )


def read_layer(old: jax.Array, layer: jax.Array) -> jax.Array:
    """One layer of a cache's k or v [L,...].

    A gather, not a slice: XLA on CPU fuses a slice with the update before it and then must copy the
    whole cache in every layer, which doubles the time per token.
    """
    if old.shape[0] == 1:
        return old[0]
    return old.at[layer[None]].get(mode="promise_in_bounds")[0]


def ablate(x: jax.Array, direction: jax.Array | None) -> jax.Array:
    """Removes from x [B,T,D] its component along the unit vector `direction` [D].

    Or along each of [R,D], which are orthonormal.
    """
    if direction is None:
        return x
    u = direction.astype(jnp.float32)
    y = x.astype(jnp.float32)
    if u.ndim == 2:
        return (y - (y @ u.T) @ u).astype(x.dtype)
    return (y - (y @ u)[..., None] * u).astype(x.dtype)


def steer(x: jax.Array, add: jax.Array | None, where: jax.Array | None) -> jax.Array:
    """Adds `add` ([D] or [B,T,D]) to x [B,T,D], at the positions `where` [B,T] only if given."""
    if add is None:
        return x
    add = jnp.broadcast_to(add.astype(x.dtype), x.shape)
    return x + (add if where is None else jnp.where(where[..., None], add, jnp.zeros_like(add)))

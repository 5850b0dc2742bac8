"""One decoder-only transformer for every family: blocks scanned over the layers.

Everything that varies per layer and is not a base weight (adapters, steering, ablation) is scanned
with the parameters; the KV cache travels in the scan *carry* and is updated in place at
[layer, ..., slot], which is 3x faster and uses a tenth of the memory of scanning it in and out.
Letters: B sequences, T query positions, S cache slots, D width, K kv heads, H head dim, L layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from flax.core import broadcast

from jaxsafety import sharding
from jaxsafety.models import layers as parts
from jaxsafety.models.api import Cache, LayerInputs, ModelConfig, Output

PyTree = Any


@struct.dataclass
class Shared:
    """What every layer reads and no layer changes; `local` is of layers with a window.

    Attributes:
      rope: tables of cos and sin.
      bias: the attention mask.
      local: (rope, bias) of layers with a window; None when there are none.
      slot: where in the cache the first token goes.
      where: positions that steering touches.
      mix: of the adapters' experts.
    """

    rope: tuple[jax.Array, jax.Array]
    bias: jax.Array
    local: tuple | None = None
    slot: jax.Array | int = 0
    where: jax.Array | None = None
    mix: jax.Array | None = None


@struct.dataclass
class PerLayer:
    """What the scan hands to each layer besides its parameters."""

    index: jax.Array
    windowed: jax.Array | None = None
    adapters: PyTree = None
    add: jax.Array | None = None
    ablate: jax.Array | None = None


class Attention(nn.Module):
    """Grouped-query attention with RoPE, optional q/k norms and the cache update."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, x: jax.Array, cache: tuple | None, layer: PerLayer, shared: Shared
    ) -> tuple[jax.Array, tuple | None]:
        """Maps x [B,T,D] to ([B,T,D], (k [L,B,K,H,S], v [L,B,K,S,H]))."""
        c = self.config
        table = parts.projections(c)

        def linear(name: str, x: jax.Array, **kwargs) -> jax.Array:
            module = parts.Linear(table[name], c.dtype, name=name, **kwargs)
            return module(x, layer.adapters, shared.mix)

        def normed(name: str, x: jax.Array, heads: str) -> jax.Array:
            axes = ("head_dim",) if c.qk_norm == "head" else (heads, "head_dim")
            return parts.RMSNorm(c.norm_eps, c.dtype, axes, c.norm_offset, name=name)(x)

        q, k, v = (linear(name, x, bias=c.attention_bias != "none") for name in "qkv")
        if c.qk_norm != "none":
            q, k = normed("q_norm", q, "heads"), normed("k_norm", k, "kv_heads")
        rope, bias = _own(layer, shared)
        q = parts.rotate(q, rope)
        k = parts.rotate(k, rope).transpose(0, 2, 3, 1)  # [B,K,H,T]
        v = v.transpose(0, 2, 1, 3)  # [B,K,T,H]
        if cache is not None:
            starts = (layer.index, 0, 0, 0, shared.slot), (layer.index, 0, 0, shared.slot, 0)
            cache = tuple(
                jax.lax.dynamic_update_slice(old, new[None].astype(old.dtype), start)
                for old, new, start in zip(cache, (k, v), starts, strict=True)
            )
            # A gather of one layer, not a slice: XLA on CPU fuses a slice with the update above and
            # then must copy the whole cache in every layer, which doubles the time per token.
            one = layer.index[None]
            k, v = (old.at[one].get(mode="promise_in_bounds")[0].astype(c.dtype) for old in cache)
        y = parts.attend(q, k, v, bias, c.query_scale, c.attention_cap)
        scale = (2 * c.num_layers) ** -0.5  # GPT-2: residual branches start small
        return linear("o", y, init_scale=scale, bias=c.attention_bias == "all"), cache


def _own(layer: PerLayer, shared: Shared) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """(rope, mask) of this layer, chosen at run time: one scanned body serves all layers."""
    everywhere = (shared.rope, shared.bias)
    windowed = layer.windowed
    if shared.local is None or windowed is None:  # no layer has a window, or all have
        return everywhere if shared.local is None else shared.local
    return jax.tree.map(lambda a, b: jnp.where(windowed, a, b), shared.local, everywhere)


class Mlp(nn.Module):
    """Gated mlp: down(activation(gate(x)) * up(x))."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: jax.Array, layer: PerLayer, shared: Shared) -> jax.Array:
        """Maps x [B,T,D] to [B,T,D]."""
        c = self.config
        table = parts.projections(c)

        def linear(name: str, x: jax.Array, **kwargs) -> jax.Array:
            return parts.Linear(table[name], c.dtype, name=name, **kwargs)(
                x, layer.adapters, shared.mix
            )

        gate = jax.nn.silu if c.activation == "silu" else jax.nn.gelu  # gelu by tanh
        y = gate(linear("gate", x)) * linear("up", x)
        return linear("down", y, init_scale=(2 * c.num_layers) ** -0.5)


class Block(nn.Module):
    """One layer: interventions on the stream, then attention and mlp, each normed and added."""

    config: ModelConfig
    capture: bool = False

    @nn.compact
    def __call__(
        self, carry: tuple, layer: PerLayer, shared: Shared
    ) -> tuple[tuple, jax.Array | None]:
        """((x, cache), this layer's inputs, shared) -> ((x, cache), captured x or None).

        The captured stream is what enters the block *before* this layer's `add` and `ablate`, so
        extraction reads the plain stream and steering layer l leaves residuals 0..l untouched.
        """
        c = self.config
        x, cache = carry
        # Said in every layer, or the compiler may split the width, which the weights are split by.
        x = sharding.constrain(x, ("batch", None, None))
        residual = x if self.capture else None
        x = parts.ablate(parts.steer(x, layer.add, shared.where), layer.ablate)

        def norm(name: str, y: jax.Array, side: str) -> jax.Array:
            if c.norms not in (side, "both"):
                return y
            return parts.RMSNorm(c.norm_eps, c.dtype, offset=c.norm_offset, name=name)(y)

        y = norm("attn_norm", x, "pre")
        y, cache = Attention(c, name="attn")(y, cache, layer, shared)
        x = x + parts.ablate(norm("attn_post_norm", y, "post"), layer.ablate)
        y = Mlp(c, name="mlp")(norm("mlp_norm", x, "pre"), layer, shared)
        x = x + parts.ablate(norm("mlp_post_norm", y, "post"), layer.ablate)
        return (x, cache), residual


class Embed(nn.Module):
    """Token embedding table [V,D]."""

    config: ModelConfig

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Looks tokens [B,T] up: [B,T,D] in the compute dtype."""
        c = self.config
        init, shape = jax.nn.initializers.normal(0.02), (c.vocab_size, c.embed_dim)
        table = parts.parameter(self, "table", init, shape, ("vocab", "embed"))
        x = table[tokens].astype(c.dtype)
        # The factor is rounded to the compute dtype first, as the published models do.
        return x if c.embed_scale == 1.0 else x * jnp.asarray(c.embed_scale, c.dtype)


class Unembed(nn.Module):
    """Owns the untied output kernel [D,V]; `Model.head` reads it, the forward pass does not."""

    config: ModelConfig

    @nn.compact
    def __call__(self) -> None:
        """Declares the parameter."""
        c = self.config
        init, shape = jax.nn.initializers.normal(c.embed_dim**-0.5), (c.embed_dim, c.vocab_size)
        parts.parameter(self, "kernel", init, shape, ("embed", "vocab"))


class Transformer(nn.Module):
    """Embedding, scanned blocks, final norm. Logits are not computed here."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        *,
        segments: jax.Array | None = None,
        cache: Cache | None = None,
        layers: LayerInputs = LayerInputs(),
        mix: jax.Array | None = None,
        capture: bool = False,
        blocks_list: Sequence[PyTree] | None = None,
    ) -> Output:
        """See `models.api.Model.apply`; `blocks_list` are the blocks' parameters, unstacked."""
        c = self.config
        x = Embed(c, name="embed")(tokens)
        if not c.tie_embeddings:
            Unembed(c, name="unembed")()
        batch, length = tokens.shape
        slot, keys, key_segments, stored = 0, length, segments, None
        if cache is not None:
            if segments is None:
                segments = jnp.ones((batch, length), jnp.int32)
            cache = dataclasses.replace(
                cache,
                segments=jax.lax.dynamic_update_slice(
                    cache.segments, segments.astype(cache.segments.dtype), (0, cache.length)
                ),
            )
            slot, keys, key_segments = cache.length, cache.segments.shape[1], cache.segments
            stored = (cache.k, cache.v)
        span = (segments, key_segments, slot, length, keys, c.num_heads // c.num_kv_heads)
        rope, local, windowed = parts.rope_tables(c, positions), None, None
        if any(c.windows):
            near = parts.rope_tables(c, positions, local=True) if c.local_theta else rope
            local = (near, parts.attention_bias(*span, window=max(c.windows)))
            windowed = None if all(c.windows) else jnp.asarray(c.windows) > 0
        shared = Shared(
            rope=rope,
            bias=parts.attention_bias(*span),
            local=local,
            slot=slot,
            where=layers.where,
            mix=mix,
        )
        own = (layers.adapters, layers.add, layers.ablate)
        per_layer = PerLayer(jnp.arange(c.num_layers), windowed, *own)
        # Training is not unrolled: small models would train 1.2x faster on CPU, but XLA then fuses
        # across layers, and steering by zero would no longer be bit-identical to no steering.
        scan: Any = nn.scan
        blocks = scan(
            _rematerialised(c.remat),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, broadcast),
            length=c.num_layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )(c, capture, name="blocks")
        carry = (x, stored)
        if blocks_list is None:
            (x, stored), residuals = blocks(carry, per_layer, shared)
        else:  # the same body, layer after layer
            found = []
            for index, own_params in enumerate(blocks_list):
                here = jax.tree.map(lambda leaf, i=index: leaf[i], per_layer)
                block = Block(c, capture, parent=None)
                carry, residual = block.apply({"params": own_params}, carry, here, shared)
                found.append(residual)
            (x, stored), residuals = carry, jax.tree.map(lambda *r: jnp.stack(r), *found)
        hidden = parts.RMSNorm(c.norm_eps, c.dtype, offset=c.norm_offset, name="final_norm")(x)
        if cache is not None and stored is not None:
            cache = dataclasses.replace(
                cache, k=stored[0], v=stored[1], length=cache.length + length
            )
        return Output(hidden=hidden, cache=cache, residuals=residuals)


def _rematerialised(remat: str) -> Any:
    """`Block`, or `Block` that recomputes its activations in the backward pass."""
    if remat == "none":
        return Block
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
    return nn.remat(Block, policy=policy, prevent_cse=False)

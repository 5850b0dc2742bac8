"""One decoder-only transformer for every family: blocks scanned over the layers.

Everything that varies per layer and is not a base weight (adapters, steering, ablation) is scanned
with the parameters. X-LoRA's gate is the one router that looks further than its layer: it needs a
pass without adapters first.
Letters: B sequences, T query positions, D width, V vocabulary, L layers, E experts.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import broadcast

from jaxsafety.adapters import routing as routers
from jaxsafety.adapters.routing import BLOCK, GATE, POOLED
from jaxsafety.core.errors import bad
from jaxsafety.models import cudnn, turned
from jaxsafety.models import layers as parts
from jaxsafety.models.blocks import Block, PerLayer, Shared
from jaxsafety.models.types import Cache, LayerInputs, ModelConfig, Output

PyTree = Any


class Embed(nn.Module):
    """Token embedding table [V,D]."""

    config: ModelConfig

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Looks tokens [B,T] up: [B,T,D] in the compute dtype."""
        c = self.config
        shape, axes = (c.vocab_size, c.embed_dim), ("vocab", "embed")
        if c.kernels == "int8":
            table, scale = parts.parameter_int8(self, "table", shape, axes, slice(0, 1))
            x = (table[tokens] * scale[tokens][..., None]).astype(c.dtype)
        else:
            init = jax.nn.initializers.normal(0.02)
            x = parts.parameter(self, "table", init, shape, axes)[tokens].astype(c.dtype)
        # The factor is rounded to the compute dtype first, as the published models do.
        return x if c.embed_scale == 1.0 else x * jnp.asarray(c.embed_scale, c.dtype)


class Unembed(nn.Module):
    """Owns the untied output kernel [D,V]; `Model.head` reads it, the forward pass does not."""

    config: ModelConfig

    @nn.compact
    def __call__(self) -> None:
        """Declares the parameter."""
        c = self.config
        shape, axes = (c.embed_dim, c.vocab_size), ("embed", "vocab")
        if c.kernels == "int8":
            parts.parameter_int8(self, "kernel", shape, axes, slice(1, 2))
            return
        if self.has_variable("params", turned.TURNED):
            return
        parts.parameter(self, "kernel", jax.nn.initializers.normal(c.embed_dim**-0.5), shape, axes)


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
        packed: bool = True,
        branches: jax.Array | None = None,
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
        if segments is None and (cache is not None or branches is not None):
            segments = jnp.ones((batch, length), jnp.int32)
        slot, keys, key_segments, stored = 0, length, segments, None
        if cache is not None and segments is not None:
            cache = replace(cache, segments=parts.placed(cache.segments, segments, cache.length))
            slot, keys, key_segments = cache.length, cache.segments.shape[1], cache.segments
            stored = (cache.k, cache.v)
        group = c.num_heads // c.num_kv_heads
        plain = packed or branches is not None or cache is not None
        if not plain and cudnn.applies(c):
            whole = jnp.ones_like(tokens) if segments is None else segments
            bias = functools.partial(cudnn.Structure, cudnn.lengths(whole))
        elif branches is None:
            span = (segments, key_segments, slot, length, keys, group)
            bias = functools.partial(parts.attention_bias, *span)
        else:
            laid = (segments, branches, positions, key_segments, slot, group)
            bias = functools.partial(parts.branch_bias, *laid)
        rope, local, windowed = parts.rope_tables(c, positions), None, None
        if any(c.windows):
            near = parts.rope_tables(c, positions, local=True) if c.local_theta else rope
            local = (near, bias(window=max(c.windows)))
            windowed = None if all(c.windows) else jnp.asarray(c.windows) > 0
        shared = Shared(
            rope=rope,
            bias=bias(),
            local=local,
            slot=slot,
            where=layers.where,
            mix=mix,
            pool=layers.pool,
            routing=layers.routing,
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
            # One tracing less, as nothing is broadcast out; but first parameters depend on it.
            check_constancy_invariants=self.is_initializing(),
        )(c, capture, name="blocks")
        final = parts.RMSNorm(c.norm_eps, c.dtype, offset=c.norm_offset, name="final_norm")

        def through(carry: tuple, per_layer: PerLayer) -> tuple[tuple, tuple]:
            if blocks_list is None:
                return blocks(carry, per_layer, shared)
            found = []  # the same body, layer after layer
            x, stored, kept = carry
            for index, own_params in enumerate(blocks_list):
                here = jax.tree.map(lambda leaf, i=index: leaf[i], per_layer)
                block = Block(c, capture, parent=None)
                own = _own_layer(stored, index)
                state, captured = block.apply({"params": own_params}, (x, own, kept), here, shared)
                x, own, kept = state
                stored = _with_layer(stored, index, own)
                found.append(captured)
            carry = (x, stored, kept)
            return carry, jax.tree.map(lambda *r: jnp.stack(r), *found)

        router = (layers.adapters or {}).get("router", {})
        gate = None
        if GATE in router:  # X-LoRA: all mixtures from a pass without adapters
            if cache is not None:
                gate = cache.gate or jax.tree.map(jnp.zeros_like, stored)
            (plain, gate, _), _ = through((x, gate, None), replace(per_layer, adapters=None))
            mix = routers.gate_mixtures(router[GATE], final(plain), layers.routing)
            per_layer = replace(per_layer, mix=mix)
        kept = _kept(router, layers, cache, batch, length)
        (x, stored, kept), (residuals, mix) = through((x, stored, kept), per_layer)
        if cache is not None and stored is not None:
            cache = replace(
                cache,
                k=stored[0],
                v=stored[1],
                length=cache.length + length,
                gate=gate,
                routes=kept if layers.routing.level in POOLED else None,
            )
        return Output(hidden=final(x), cache=cache, residuals=residuals, mix=mix)


def _own_layer(stored: tuple | None, index: int) -> tuple | None:
    """What a layer's attention needs of a cache's (k, v): its own arrays, where they are apart."""
    if stored is None or not isinstance(stored[0], tuple):
        return stored
    return tuple(each[index] for each in stored)


def _with_layer(stored: tuple | None, index: int, own: tuple | None) -> tuple | None:
    """(k, v) with what a layer's attention made of its part."""
    if stored is None or own is None or not isinstance(stored[0], tuple):
        return own
    pairs = zip(stored, own, strict=True)
    return tuple((*each[:index], one, *each[index + 1 :]) for each, one in pairs)


def _kept(
    router: Mapping, layers: LayerInputs, cache: Cache | None, batch: int, length: int
) -> jax.Array | None:
    """Room for the mixtures that are used again, or those of the prompt; None if none are."""
    scorer = router.get(BLOCK)
    if scorer is None or layers.routing.level == "token":
        return None
    shape = jax.tree.leaves(scorer)[0].shape
    count, experts = shape[0], shape[-1]
    if layers.routing.level == "first":
        return jnp.zeros((batch, length, experts), jnp.float32)
    if layers.pool is None and (cache is None or cache.routes is None):
        raise bad(
            "layers.pool",
            None,
            f"[B,T] weights of the prompt, for routing.level={layers.routing.level}",
        )
    if cache is None:
        return None
    return jnp.zeros((count, batch, experts)) if cache.routes is None else cache.routes


def _rematerialised(remat: str) -> Any:
    """`Block`, or `Block` that recomputes its activations in the backward pass."""
    if remat == "none":
        return Block
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
    return nn.remat(Block, policy=policy, prevent_cse=False)

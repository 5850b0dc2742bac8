"""One block of the transformer: attention and mlp, each normed and added, with interventions.

The KV cache travels in the scan *carry* and is updated in place at [layer, ..., slot], which is 3x
faster and uses a tenth of the memory of scanning it in and out; so do the mixtures of a router that
later layers or tokens use again.
Letters: B sequences, T query positions, S cache slots, D width, K kv heads, H head dim, L layers,
E experts.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from jaxsafety.adapters import routing as routers
from jaxsafety.adapters.routing import ATTENTION, BLOCK, POOLED, Routing
from jaxsafety.core import sharding
from jaxsafety.core.errors import bad
from jaxsafety.models import cudnn
from jaxsafety.models import layers as parts
from jaxsafety.models.types import ModelConfig

PyTree = Any


@struct.dataclass
class Shared:
    """What every layer reads and no layer changes; `local` is of layers with a window.

    Attributes:
      rope: tables of cos and sin.
      bias: the attention mask, as an array or by what it is made of.
      local: (rope, bias) of layers with a window; None when there are none.
      slot: where in the cache the first token goes, or [B], where each row's goes.
      where: positions that steering touches.
      mix: of the adapters' experts, where no router decides.
      pool: what a router that decides once per sequence averages its scores with.
      routing: its static options.
    """

    rope: tuple[jax.Array, jax.Array]
    bias: jax.Array | cudnn.Structure
    local: tuple | None = None
    slot: jax.Array | int = 0
    where: jax.Array | None = None
    mix: jax.Array | None = None
    pool: jax.Array | None = None
    routing: Routing = struct.field(pytree_node=False, default=Routing())


@struct.dataclass
class PerLayer:
    """What the scan hands to each layer besides its parameters."""

    index: jax.Array
    windowed: jax.Array | None = None
    adapters: PyTree = None
    add: jax.Array | None = None
    ablate: jax.Array | None = None
    mix: jax.Array | None = None  # this layer's, from the pass before (X-LoRA)


class Attention(nn.Module):
    """Grouped-query attention with RoPE, optional q/k norms and the cache update."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, x: jax.Array, cache: tuple | None, layer: PerLayer, shared: Shared
    ) -> tuple[jax.Array, tuple | None]:
        """Maps x [B,T,D] to ([B,T,D], (k [L,B,K,H,S], v [L,B,K,S,H])), L as it came or 1."""
        c = self.config
        table = parts.projections(c)
        mix = attended(layer, shared, x)

        def linear(name: str, x: jax.Array, **kwargs) -> jax.Array:
            module = parts.Linear(table[name], c.dtype, kernels=c.kernels, name=name, **kwargs)
            return module(x, layer.adapters, mix, shared.routing)

        def normed(name: str, x: jax.Array, heads: str) -> jax.Array:
            axes = ("head_dim",) if c.qk_norm == "head" else (heads, "head_dim")
            return parts.RMSNorm(c.norm_eps, c.dtype, axes, c.norm_offset, name=name)(x)

        q, k, v = (linear(name, x, bias=c.attention_bias != "none") for name in "qkv")
        if c.qk_norm != "none":
            q, k = normed("q_norm", q, "heads"), normed("k_norm", k, "kv_heads")
        rope, bias = _own(layer, shared)
        q, k = parts.rotate(q, rope), parts.rotate(k, rope)
        if isinstance(bias, cudnn.Structure):
            y = cudnn.attend(q, k, v, bias, c.query_scale)
        else:
            k, v = k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3)  # [B,K,H,T], [B,K,T,H]
            if cache is not None:
                cache = parts.cached(cache, k, v, layer.index, shared.slot)
                k, v = (parts.read_layer(old, layer.index).astype(c.dtype) for old in cache)
            y = parts.attend(q, k, v, bias, c.query_scale, c.attention_cap)
        scale = (2 * c.num_layers) ** -0.5  # GPT-2: residual branches start small
        return linear("o", y, init_scale=scale, bias=c.attention_bias == "all"), cache


def _own(
    layer: PerLayer, shared: Shared
) -> tuple[tuple[jax.Array, jax.Array], jax.Array | cudnn.Structure]:
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
    def __call__(
        self, x: jax.Array, layer: PerLayer, shared: Shared, mix: jax.Array | None
    ) -> jax.Array:
        """Maps x [B,T,D] to [B,T,D]; `mix` [B,T or 1,E] weighs the experts."""
        c = self.config
        table = parts.projections(c)

        def linear(name: str, x: jax.Array, **kwargs) -> jax.Array:
            module = parts.Linear(table[name], c.dtype, kernels=c.kernels, name=name, **kwargs)
            return module(x, layer.adapters, mix, shared.routing, shared.pool)

        gate = jax.nn.silu if c.activation == "silu" else jax.nn.gelu  # gelu by tanh
        y = gate(linear("gate", x)) * linear("up", x)
        return linear("down", y, init_scale=(2 * c.num_layers) ** -0.5)


class Block(nn.Module):
    """One layer: interventions on the stream, then attention and mlp, each normed and added."""

    config: ModelConfig
    capture: bool = False

    @nn.compact
    def __call__(self, carry: tuple, layer: PerLayer, shared: Shared) -> tuple[tuple, tuple]:
        """((x, cache, kept), this layer's inputs, shared) -> (the same after it, (x, mix) or None).

        `kept` are mixtures that a router uses again: in later layers [B,T,E], or tokens [L,B,E].
        The captured stream is what enters the block *before* this layer's `add` and `ablate`, so
        extraction reads the plain stream and steering layer l leaves residuals 0..l untouched.
        """
        c = self.config
        x, cache, kept = carry
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
        y = norm("mlp_norm", x, "pre")
        mix, kept = mixture(layer, shared, y, kept)
        y = Mlp(c, name="mlp")(y, layer, shared, mix)
        x = x + parts.ablate(norm("mlp_post_norm", y, "post"), layer.ablate)
        return (x, cache, kept), (residual, mix if self.capture else None)


def attended(layer: PerLayer, shared: Shared, x: jax.Array) -> jax.Array | None:
    """The mixture of this layer's attention for its normed input x [B,T,D]: always per token.

    Raises:
      UsageError: experts on the attention whose router reads the mlp's input alone, which comes
        later, or chooses otherwise than per token.
    """
    router = (layer.adapters or {}).get("router", {})
    given = shared.mix if layer.mix is None else layer.mix
    has = set((layer.adapters or {}).get("experts", {})) & set(routers.ATTENDED) - set(router)
    if given is not None or not router or not has:
        return given
    scorer = router.get(ATTENTION) or router.get(BLOCK, {})
    if "mix" not in scorer and (ATTENTION not in router or shared.routing.level != "token"):
        given = f"{', '.join(router)}, level {shared.routing.level}"
        allowed = f"{ATTENTION} too, level token: there are experts on {', '.join(sorted(has))}"
        raise bad("adapters.router", given, allowed)
    return routers.mixture(scorer, x, shared.routing)


def mixture(
    layer: PerLayer, shared: Shared, x: jax.Array, kept: jax.Array | None
) -> tuple[jax.Array | None, jax.Array | None]:
    """(mixture of this layer's mlp, `kept`) for its normed input x [B,T,D]; see `Block`."""
    router = (layer.adapters or {}).get("router", {})
    if layer.mix is not None or BLOCK not in router:
        return shared.mix if layer.mix is None else layer.mix, kept
    pooled = shared.routing.level in POOLED
    if pooled and shared.pool is None:  # decoding: the choice that was made on the prompt
        assert kept is not None
        return kept.at[layer.index[None]].get(mode="promise_in_bounds")[0][:, None], kept
    mix = routers.mixture(router[BLOCK], x, shared.routing, shared.pool if pooled else None)
    if shared.routing.level == "first" and kept is not None:
        kept = jnp.where(layer.index == 0, mix, kept)
        return kept, kept
    if pooled and kept is not None:
        kept = jax.lax.dynamic_update_slice(kept, mix.swapaxes(0, 1), (layer.index, 0, 0))
    return mix, kept

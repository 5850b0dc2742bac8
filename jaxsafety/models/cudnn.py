"""Attention by cuDNN, which keeps no scores: of rows whose structure can be said without a mask.

cuDNN is told of a mask what it is made of: causal, a window, how many tokens each row has. A mask
that is an array keeps `jax.nn.dot_product_attention` from its kernels without one, and stays with
`layers.attend`: several segments a row, left padding, a cache, branches, layers of both kinds.
Letters: B sequences, T positions, N query heads, K kv heads, H head dim.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct

from jaxsafety.core import sharding
from jaxsafety.models.types import ModelConfig

DTYPES = ("bfloat16", "float16")
HEAD_DIM = 128  # at most; Hopper's kernels take 256, but JAX asks this machine's GPU, not a plan's
AMPERE = (8, 0)  # the first compute capability that has the kernels


@struct.dataclass
class Structure:
    """What a mask of rows that begin in slot 0 is made of, beside being causal.

    Attributes:
      lengths: [B] int32, tokens of each row, at least 1, the rest is padding.
      window: how many tokens are read, its own included; 0 is all.
    """

    lengths: jax.Array
    window: int = struct.field(pytree_node=False, default=0)


def lengths(segments: jax.Array) -> jax.Array:
    """[B] the tokens of rows of one segment [B,T]; an empty row reads its first slot."""
    return jnp.maximum(jnp.sum(segments > 0, axis=1, dtype=jnp.int32), 1)


def applies(config: ModelConfig) -> bool:
    """Whether the model is one of cuDNN's, and what is traced now is for a GPU that has it."""
    shape = config.head_dim <= HEAD_DIM and not config.head_dim % 8
    alike = not any(config.windows) or all(config.windows)  # else chosen at run time
    fits = config.dtype in DTYPES and shape and alike and not config.attention_cap
    return fits and _on_gpu() and _split_alike(config) and found()


def _split_alike(config: ModelConfig) -> bool:
    """Whether the mesh splits query and kv heads alike, or neither, as JAX asks."""
    mesh = jax.sharding.get_abstract_mesh()
    heads = {"heads": config.num_heads, "kv_heads": config.num_kv_heads}
    found = [sharding.spec([name], mesh=mesh, shape=[size]) for name, size in heads.items()]
    return found[0] == found[1]


def _on_gpu() -> bool:
    """Whether the mesh, or without one the first device, is an NVIDIA GPU that has the kernels."""
    told = jax.sharding.get_abstract_mesh().abstract_device  # of a plan: of GPUs that are not here
    kind = (told or jax.devices()[0]).device_kind
    here: list[Any] = [d for d in jax.devices() if d.device_kind == kind]
    if not kind.startswith("NVIDIA"):
        return False
    return not here or tuple(map(int, here[0].compute_capability.split("."))) >= AMPERE


@functools.cache
def found() -> bool:
    """Whether JAX finds cuDNN, without which it does not even trace a call of it."""
    one = jax.ShapeDtypeStruct((1, 8, 1, 8), jnp.bfloat16)
    call = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
    try:
        jax.eval_shape(call, one, one, one)
    except RuntimeError:
        return False
    return True


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    structure: Structure,
    scale: float = 0.0,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> jax.Array:
    """Grouped-query attention, causal; the numbers of `layers.attend` at all tokens, 0 in padding.

    What kernels leave in padding, also in its gradients, reaches nothing: it is no promise of
    theirs that it is finite.

    Args:
      q: [B,T,N,H], rotated.
      k: [B,T,K,H], rotated.
      v: [B,T,K,H].
      structure: of the rows.
      scale: of the scores; 0 is H ** -0.5.
      implementation: of `jax.nn.dot_product_attention`.

    Returns:
      [B,T,N,H].
    """
    length, dim = q.shape[1], q.shape[-1]
    names = ("heads", "kv_heads", "kv_heads")
    q, k, v = (  # JAX refuses what is split otherwise
        sharding.constrain(x, ("batch", None, name, None))
        for x, name in zip((q, k, v), names, strict=True)
    )
    inside = (jnp.arange(length) < structure.lengths[:, None])[..., None, None]
    q, k, v = (jnp.where(inside, x, 0) for x in (q, k, v))
    out = jax.nn.dot_product_attention(
        q,
        k,
        v,
        scale=scale or dim**-0.5,
        is_causal=True,
        # Also of full rows: without lengths backward kernels have made NaN of some shapes
        # (NVIDIA/cudnn-frontend#160, #1072).
        query_seq_lengths=structure.lengths,
        key_value_seq_lengths=structure.lengths,
        # JAX counts the tokens before a query's own, a window counts it too.
        local_window_size=(structure.window - 1, 0) if 0 < structure.window < length else None,
        implementation=implementation,
    )
    return jnp.where(inside, out, 0)

"""Whether cuDNN's attention computes what ours does: the first thing to run on a new GPU.

  python tests/bench/attention.py

Both paths in bfloat16 against the plain one in float32, output and gradients, on rows of different
lengths, with and without a window, heads of 64 and 128. A line each; exit code 1 where cuDNN is
further off than twice the plain path is, or gives no number where there are tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from jaxsafety.models import cudnn  # noqa: E402
from jaxsafety.models import layers as parts  # noqa: E402

HEADS, KV_HEADS = 8, 4


def plain(q: jax.Array, k: jax.Array, v: jax.Array, structure: cudnn.Structure) -> jax.Array:
    """Attention with a mask, of the dtype of q; 0 in padding, as cuDNN's is."""
    length = q.shape[1]
    inside = jnp.arange(length) < structure.lengths[:, None]
    segments = inside.astype(jnp.int32)
    mask = (segments, segments, 0, length, length, HEADS // KV_HEADS, structure.window)
    bias = parts.attention_bias(*mask)
    out = parts.attend(q, k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3), bias)
    return jnp.where(inside[..., None, None], out, 0)


def errors(
    rows: list[int],
    dim: int,
    window: int,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> tuple[float, float]:
    """The largest relative error of output and gradients: (of cuDNN, of the plain path)."""
    length = max(rows)
    shapes = [(len(rows), length, n, dim) for n in (HEADS, KV_HEADS, KV_HEADS, HEADS)]
    keys = jax.random.split(jax.random.key(dim + window), 4)
    *given, wanted = (jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True))
    structure = cudnn.Structure(jnp.asarray(rows, jnp.int32), window)

    def found(attend: Callable[..., jax.Array], dtype: Any) -> list[jax.Array]:
        def loss(*qkv: jax.Array) -> tuple[jax.Array, jax.Array]:
            out = attend(*qkv, structure)
            return jnp.sum(out.astype(jnp.float32) * wanted), out

        inputs = [x.astype(jnp.bfloat16).astype(dtype) for x in given]
        run = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))
        gradients, out = run(*inputs)
        return [x.astype(jnp.float32) for x in (out, *gradients)]

    def told(q: Any, k: Any, v: Any, structure: cudnn.Structure) -> jax.Array:
        return cudnn.attend(q, k, v, structure, implementation=implementation)

    exact = found(plain, jnp.float32)

    def apart(values: list[jax.Array]) -> float:
        pairs = zip(values, exact, strict=True)
        return max(float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b)) for a, b in pairs)

    return apart(found(told, jnp.bfloat16)), apart(found(plain, jnp.bfloat16))


def main() -> int:
    """A line per shape."""
    if not cudnn.found():
        print("attention: no cuDNN found by JAX here", file=sys.stderr)
        return 2
    wrong = 0
    for dim in (64, 128):
        for rows in ([1024, 700, 64, 1], [192, 64, 32, 64], [2048] * 2):
            for window in (0, 100):
                own, usual = errors(rows, dim, window)
                good = own <= 2 * usual  # false of what is no number
                wrong += not good
                word = "ok" if good else "WRONG"
                print(f"{word}: rows {rows}, head {dim}, window {window}: {own:.1e}, {usual:.1e}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

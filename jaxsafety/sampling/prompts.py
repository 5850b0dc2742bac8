"""What a sampler is given: prompts of one width, and a key per row.

Letters: B sequences, P prompt slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.data.schema import PromptBatch

KEYS = 64  # rows whose keys are made at once, at least


def row_keys(seed: int, step: int, prompts: Any, samples: Any) -> jax.Array:
    """One key per row: fold_in(fold_in(fold_in(key(seed), step), prompt), sample).

    Args:
      seed: the job's seed.
      step: the training step, or any counter that should give fresh samples.
      prompts: [B] integers that name the prompts (not their place in the batch).
      samples: [B] integers, which sample of that prompt.

    Returns:
      Typed keys [B].

    Example:
      >>> import jaxsafety
      >>> a = jaxsafety.row_keys(0, 0, [3, 5], [0, 0])
      >>> b = jaxsafety.row_keys(0, 0, [5], [0])
      >>> a.shape, bool(a[1] == b[0])  # prompt 5 draws the same in any batch
      ((2,), True)
    """
    root = jax.random.fold_in(jax.random.key(seed), step)
    return _folded(root, _numbers(prompts), _numbers(samples))


def key_data(seed: int, step: int, prompts: Sequence[int], samples: Sequence[int]) -> np.ndarray:
    """`row_keys` of many rows as `jax.random.key_data` on the host, [B,...].

    Their number is filled up to a power of two, so that few programs serve all.
    """
    more = max(KEYS, 1 << (len(prompts) - 1).bit_length()) - len(prompts)
    keys = row_keys(seed, step, [*prompts, *[0] * more], [*samples, *[0] * more])
    return np.asarray(jax.random.key_data(keys))[: len(prompts)]


def _numbers(x: Any) -> Any:
    """As uint32; what comes from the host stays there, so that nothing is compiled for it."""
    return x.astype(jnp.uint32) if isinstance(x, jax.Array) else np.asarray(x, np.uint32)


@jax.jit
def _folded(root: jax.Array, prompts: jax.Array, samples: jax.Array) -> jax.Array:
    fold = jax.vmap(lambda p, s: jax.random.fold_in(jax.random.fold_in(root, p), s))
    return fold(prompts, samples)


def buckets(limit: int) -> tuple[int, ...]:
    """Prompt widths 16, 32, 48, 64, 96, 128, 192, ... up to `limit`, which is always the last."""
    widths, size = [16], 32
    while size < limit:
        widths += [size, size + size // 2]
        size *= 2
    return (*[w for w in widths if w < limit], limit)


def pad_prompts(ids: Sequence[Sequence[int]], pad_id: int, buckets: Sequence[int]) -> PromptBatch:
    """Left-pads prompts to the smallest bucket that holds the longest one.

    Args:
      ids: token ids per prompt, none empty.
      pad_id: filler id (masked, so its value never matters).
      buckets: increasing widths.

    Returns:
      `PromptBatch` [B,P].

    Raises:
      UsageError: an empty prompt, or one longer than the last bucket.

    Example:
      >>> import jaxsafety
      >>> batch = jaxsafety.pad_prompts([[7, 8, 9], [5]], pad_id=0, buckets=[4, 8])
      >>> print(batch.tokens)
      [[0 7 8 9]
       [0 0 0 5]]
    """
    longest = max(map(len, ids))
    if min(map(len, ids)) == 0:
        raise bad("prompt", "0 tokens", "at least 1 token")
    width = next((b for b in buckets if b >= longest), None)
    if width is None:
        raise bad("prompt", f"{longest} tokens", f"at most {buckets[-1]} tokens")
    tokens = np.full((len(ids), width), pad_id, np.int32)
    mask = np.zeros((len(ids), width), bool)
    for row, prompt in enumerate(ids):
        tokens[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = True
    return PromptBatch(*jax.device_put((tokens, mask)))

"""What happens between a model's logits and the token that is chosen.

Letters: B sequences, V vocabulary. All functions are pure and shape-preserving. Temperature and
top-p may differ by row and are arrays; what no row asks for is skipped when the program runs.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.protocols import SampleConfig


def check(cfg: SampleConfig, vocab_size: int) -> None:
    """Validates decoding options against the vocabulary.

    Raises:
      UsageError: a value outside its range, or an id that the model does not have.
    """
    if cfg.max_tokens < 0:
        raise bad("sample.max_tokens", cfg.max_tokens, ">= 0")
    if cfg.temperature < 0:
        raise bad("sample.temperature", cfg.temperature, ">= 0 (0 is greedy)")
    if not 0 < cfg.top_p <= 1:
        raise bad("sample.top_p", cfg.top_p, "in (0, 1] (1 is off)")
    for field in ("stop", "banned"):
        wrong = [i for i in getattr(cfg, field) if not 0 <= i < vocab_size]
        if wrong:
            raise bad(f"sample.{field}", wrong[0], f"token ids 0..{vocab_size - 1}")
    if len(set(cfg.banned)) >= vocab_size:
        raise bad("sample.banned", f"{len(set(cfg.banned))} ids", "fewer than the vocabulary")


def ban(logits: jax.Array, banned: tuple[int, ...]) -> jax.Array:
    """Sets the banned ids' logits to -inf; logits [..., V]."""
    if not banned:
        return logits
    mask = np.zeros(logits.shape[-1], bool)
    mask[list(banned)] = True
    return jnp.where(jnp.asarray(mask), -jnp.inf, logits)


def nucleus(logits: jax.Array, top_p: Any) -> jax.Array:
    """Keeps the smallest set of likeliest tokens whose mass reaches `top_p`; logits [B,V].

    A token stays when the mass *before* it is below `top_p` (a float, or [B]), so at least one
    always stays; ranks (not a threshold) decide, so equal logits at the border do not enlarge the
    set. Rows with 1 or more stay as they are.
    """
    share = jnp.broadcast_to(jnp.asarray(top_p, jnp.float32), logits.shape[:1])[:, None]
    order = jnp.argsort(-logits, axis=-1, stable=True)
    probs = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), order, axis=-1)
    before = jnp.cumsum(probs, axis=-1) - probs
    rank = jnp.argsort(order, axis=-1)
    keep = jnp.take_along_axis(before < share, rank, axis=-1)
    return jnp.where(keep | (share >= 1), logits, -jnp.inf)


def choose(
    keys: jax.Array,
    logits: jax.Array,
    temperature: Any,
    top_p: Any = 1.0,
    banned: tuple[int, ...] = (),
    *,
    draws: Any = True,
    cuts: Any = True,
) -> jax.Array:
    """Picks one token per row; bans apply first, then temperature, then top-p.

    Args:
      keys: typed PRNG keys [B], one per row, already specific to this token.
      logits: [B,V] float32.
      temperature: a float, or [B]; 0 is the likeliest token.
      top_p: a float, or [B]; 1 is off.
      banned: ids that are never chosen, static.
      draws: whether any row has a temperature; where not, nothing random is computed.
      cuts: whether any row has a `top_p` below 1; where not, nothing is sorted.

    Returns:
      Token ids [B] int32.
    """
    logits = ban(logits, banned)
    heat = jnp.broadcast_to(jnp.asarray(temperature, jnp.float32), logits.shape[:1])
    likeliest = jnp.argmax(logits, axis=-1).astype(jnp.int32)

    def draw() -> jax.Array:
        scaled = logits / jnp.where(heat > 0, heat, 1.0)[:, None]
        kept = jax.lax.cond(cuts, lambda: nucleus(scaled, top_p), lambda: scaled)
        found = jax.vmap(jax.random.categorical)(keys, kept).astype(jnp.int32)
        return jnp.where(heat > 0, found, likeliest)

    return jax.lax.cond(draws, draw, lambda: likeliest)


def is_stop(tokens: jax.Array, stop: tuple[int, ...]) -> jax.Array:
    """True where a token is one of the stop ids; same shape as `tokens`."""
    if not stop:
        return jnp.zeros(tokens.shape, bool)
    return jnp.isin(tokens, jnp.asarray(stop, tokens.dtype))


def token_logp(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """Log-probability [B] of `tokens` [B] under the plain softmax of `logits` [B,V] (float32)."""
    logits = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
    return chosen - jax.scipy.special.logsumexp(logits, axis=-1)

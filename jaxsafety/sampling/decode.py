"""Prefill + `while_loop` decoding over a left-padded batch.

Letters: B sequences, P prompt slots, T new tokens, V vocabulary, L layers, D width.

A row's random numbers come from (seed, step, prompt, sample, token index) alone, so a sample
depends neither on its batch nor on the number of devices. Nothing is captured from an outer scope:
model, config and steering mode are static arguments, everything else is an array.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety import sharding, trees
from jaxsafety.adapters import routing
from jaxsafety.data.schema import Completions, PromptBatch
from jaxsafety.errors import bad
from jaxsafety.models.api import LayerInputs, Model, init_cache, unstacked
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling import processors

PyTree = Any
STEER = ("all", "prompt")


def row_keys(seed: int, step: int, prompts: Any, samples: Any) -> jax.Array:
    """One key per row: fold_in(fold_in(fold_in(key(seed), step), prompt), sample).

    Args:
      seed: the job's seed.
      step: the training step, or any counter that should give fresh samples.
      prompts: [B] integers that name the prompts (not their place in the batch).
      samples: [B] integers, which sample of that prompt.

    Returns:
      Typed keys [B].
    """
    root = jax.random.fold_in(jax.random.key(seed), step)
    fold = jax.vmap(lambda p, s: jax.random.fold_in(jax.random.fold_in(root, p), s))
    return fold(jnp.asarray(prompts, jnp.uint32), jnp.asarray(samples, jnp.uint32))


def _phases(layers: LayerInputs, mask: jax.Array, steer: str) -> tuple[LayerInputs, LayerInputs]:
    """The layer inputs of the prefill and of the decoding steps."""
    if steer not in STEER:
        raise bad("steer", steer, ", ".join(STEER))
    if layers.where is not None:
        raise bad("layers.where", "an array", "None: the sampler derives it from `steer`")
    if layers.add is not None and layers.add.ndim != 2:
        raise bad("layers.add", f"shape {layers.add.shape}", "[L,D]")
    if layers.pool is not None:
        raise bad("layers.pool", "an array", "None: the sampler derives it from the prompts")
    first = replace(layers, pool=routing.pool(mask, layers.routing))
    if steer == "all" or layers.add is None:
        return first, layers
    return replace(first, where=mask), replace(layers, add=None)


@partial(jax.jit, static_argnames=("model", "cfg", "steer"))
def sample(
    model: Model,
    params: PyTree,
    prompts: PromptBatch,
    keys: jax.Array,
    cfg: SampleConfig,
    layers: LayerInputs = LayerInputs(),
    steer: str = "all",
) -> Completions:
    """Samples one completion per row; ends early when every row has stopped.

    Args:
      model: static.
      params: its parameters.
      prompts: left-padded prompts [B,P]; every row needs at least one token.
      keys: typed keys [B] from `row_keys`; token t uses fold_in(key, t).
      cfg: decoding options, static.
      layers: steering, ablation, adapters; `where` must be None.
      steer: "all" touches every position, "prompt" only the prompt's (static).

    Returns:
      `Completions` [B,P+T]. `logp` is under the model at temperature 1, before bans and top-p.
      Slots after the stop token hold id 0 with mask False.

    Raises:
      UsageError: an impossible config or steering mode.
    """
    processors.check(cfg, model.config.vocab_size)
    batch, width = prompts.tokens.shape
    first, later = _phases(layers, prompts.mask, steer)
    if cfg.max_tokens == 0:
        nothing = jnp.zeros((batch, width), bool)
        return Completions(
            tokens=prompts.tokens,
            mask=prompts.mask,
            completion=nothing,
            logp=nothing.astype(jnp.float32),
            finished=jnp.zeros(batch, bool),
        )
    lengths = prompts.mask.sum(axis=1).astype(jnp.int32)
    positions = jnp.maximum(jnp.cumsum(prompts.mask, axis=1) - 1, 0).astype(jnp.int32)
    cache = init_cache(model.config, batch, width + cfg.max_tokens, jnp.dtype(model.config.dtype))
    out = model.apply(
        params,
        prompts.tokens,
        positions,
        segments=prompts.mask.astype(jnp.int32),
        cache=cache,
        layers=first,
    )

    def pick(hidden, t):
        logits = model.unembed(params, hidden[:, -1])  # only the last position is unembedded
        token = processors.choose(jax.vmap(jax.random.fold_in, (0, None))(keys, t), logits, cfg)
        return token, processors.token_logp(logits, token)

    # The first token needs no step of its own, so no forward pass is spent on the last one either.
    token, logp = pick(out.hidden, 0)
    column = jnp.arange(cfg.max_tokens) == 0
    state = (
        jnp.ones((), jnp.int32),
        out.cache,
        token,
        processors.is_stop(token, cfg.stop),
        jnp.where(column, token[:, None], 0),
        jnp.where(column, logp[:, None], 0.0),
        jnp.broadcast_to(column, (batch, cfg.max_tokens)),
    )

    def unfinished(state):
        return (state[0] < cfg.max_tokens) & ~jnp.all(state[3])

    def step(state):
        t, cache, token, finished, tokens, logps, valid = state
        out = model.apply(
            params,
            token[:, None],
            (lengths + t - 1)[:, None],
            segments=jnp.ones((batch, 1), jnp.int32),
            cache=cache,
            layers=later,
        )
        token, logp = pick(out.hidden, t)
        token = jnp.where(finished, 0, token)
        tokens = tokens.at[:, t].set(token)
        logps = logps.at[:, t].set(jnp.where(finished, 0.0, logp))
        valid = valid.at[:, t].set(~finished)  # the cumulative mask: includes the first stop token
        finished = finished | processors.is_stop(token, cfg.stop)
        return t + 1, out.cache, token, finished, tokens, logps, valid

    params = unstacked(model.config, params) if model.config.unroll else params
    _, _, _, finished, tokens, logps, valid = jax.lax.while_loop(unfinished, step, state)
    return Completions(
        tokens=jnp.concatenate([prompts.tokens, tokens], axis=1),
        mask=jnp.concatenate([prompts.mask, valid], axis=1),
        completion=jnp.concatenate([jnp.zeros_like(prompts.mask), valid], axis=1),
        logp=jnp.concatenate([jnp.zeros((batch, width), jnp.float32), logps], axis=1),
        finished=finished,
    )


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
    return PromptBatch(tokens=jnp.asarray(tokens), mask=jnp.asarray(mask))


def generate(
    model: Model,
    params: PyTree,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    cfg: SampleConfig,
    *,
    seed: int,
    step: int = 0,
    samples: int = 1,
    batch_size: int = 64,
    layers: LayerInputs = LayerInputs(),
    steer: str = "all",
    names: Sequence[int] | None = None,
    progress: Callable[[int], None] | None = None,
    known: Mapping[tuple[int, int], list[int]] | None = None,
    keep: Callable[[int, list[tuple[int, int, list[int]]]], None] | None = None,
) -> list[list[list[int]]]:
    """Completes many prompts of any length with one compilation per prompt-length bucket.

    Rows are sorted by length and the last batch is filled with copies, so every call has the shape
    [batch_size, a bucket] (fewer rows than that use the next power of two). Greedy samples of one
    prompt are equal and computed once.

    Args:
      model: the model.
      params: its parameters.
      tokenizer: anything with `pad_id`.
      prompts: token ids, generation prompt included.
      cfg: decoding options.
      seed: see `row_keys`.
      step: see `row_keys`.
      samples: completions per prompt.
      batch_size: rows per call; changes speed, not results.
      layers: see `sample`.
      steer: see `sample`.
      names: integers that key the prompts' randomness; their index by default.
      progress: called with the number of finished rows (prompts x samples) after every call.
      known: (prompt, sample) -> ids, what an earlier start found; a call all of whose rows are
        known is not made, and the others stay the calls they were.
      keep: called with a call's number and its (prompt, sample, ids), where there are several.

    Returns:
      `[prompt][sample]` -> completion ids without the stop token, in input order.

    Raises:
      UsageError: a prompt that does not fit the model's context beside `cfg.max_tokens`.
    """
    limit = model.config.max_length - cfg.max_tokens
    for prompt in prompts:
        if not 0 < len(prompt) <= limit:
            allowed = f"1..{limit} tokens (context {model.config.max_length}, "
            raise bad("prompt", f"{len(prompt)} tokens", f"{allowed}{cfg.max_tokens} to generate)")
    names = range(len(prompts)) if names is None else names
    copies = 1 if cfg.temperature == 0 else samples
    result: list[list[list[int]]] = [[[] for _ in range(samples)] for _ in prompts]
    if cfg.max_tokens == 0:
        return result
    widths = buckets(limit)
    rows = [(index, s) for index in range(len(prompts)) for s in range(copies)]
    # Longest first: rows of a call share a bucket and tend to finish together, and only the last
    # call, of the shortest prompts, is filled up. A short prompt may ride in a longer one's bucket.
    rows.sort(key=lambda row: (-len(prompts[row[0]]), row))
    ways = sharding.rows(sharding.mesh_of(params))  # each device gets rows of its own
    batch_size = min(batch_size, 1 << max(len(rows) - 1, 0).bit_length())
    batch_size = -(-batch_size // ways) * ways
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        if not known or any(row not in known for row in part):
            full = part + [part[-1]] * (batch_size - len(part))
            keys = row_keys(seed, step, [names[i] for i, _ in full], [s for _, s in full])
            batch = pad_prompts([prompts[i] for i, _ in full], tokenizer.pad_id, widths)
            width = batch.tokens.shape[1]
            batch, keys = sharding.beside(params, (batch, keys))  # each device its own rows
            out = sample(model, params, batch, keys, cfg, layers, steer)
            tokens = trees.host(out.tokens)[:, width:]
            length = trees.host(out.completion).sum(axis=1) - trees.host(out.finished)
            said = [(*row, tokens[r, : length[r]].tolist()) for r, row in enumerate(part)]
            if keep is not None and len(rows) > batch_size:
                keep(start // batch_size, said)
        else:
            said = [(*row, list(known[row])) for row in part]
        for index, s, ids in said:
            result[index][s] = ids
        if progress is not None:
            progress(start + len(part))
    if copies < samples:
        result = [[list(row[0]) for _ in range(samples)] for row in result]
    return result

"""Decoding as two pure functions over a state: `prefill` reads prompts, `step` adds one token.

`sample` (decode.py) is a prefill and a `while_loop` of steps; whoever streams answers or lets
requests come and go calls the two himself.

Letters: B sequences, P prompt slots, V vocabulary.

What a caller may change from one request to the next is an array (`Knobs`): temperature, top-p and
keys, per row, so that all temperatures run in one compiled program. What shapes the program is
static: the model, the stop ids, the banned ids, the steering mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxsafety.adapters import routing
from jaxsafety.core.errors import bad
from jaxsafety.data.schema import PromptBatch
from jaxsafety.models.api import Cache, LayerInputs, Model, init_cache, layered
from jaxsafety.sampling import processors

PyTree = Any
STEER = ("all", "prompt")


class Call(NamedTuple):
    """What a compiled program of the sampler does not take as an array."""

    model: Model
    room: int
    stop: tuple[int, ...]
    banned: tuple[int, ...]
    steer: str


@struct.dataclass
class Knobs:
    """How each row is decoded, as arrays.

    keys [B] typed, token t of a row uses fold_in(key, t); temperature [B] float32, 0 is greedy;
    top_p [B] float32, 1 is off. `draws` and `cuts`, bool scalars: whether any row draws at all, and
    whether any is cut by top-p. They are given, not computed, so that what no row needs is skipped
    at run time and a batch that is spread over devices is not asked at every token.
    """

    keys: jax.Array
    temperature: Any
    top_p: Any
    draws: Any
    cuts: Any


@struct.dataclass
class Read:
    """Prompts that were read, before anything is said: all samples of a prompt go on from it.

    cache: of the prompts, `layered` where `model.config.unroll`; logits [B,V] after each of them;
    lengths [B] int32, tokens of each.
    """

    cache: Cache
    logits: jax.Array
    lengths: jax.Array


@struct.dataclass
class State:
    """Where the rows stand. The last token is chosen, but not in the cache yet.

    cache: of all tokens before `token`, `layered` where `model.config.unroll`; token [B] int32, 0
    in rows that had ended; logp [B] float32 of it under the model at temperature 1, before bans and
    top-p, 0 there; position [B] int32, the RoPE position of `token`; count [B] int32, tokens chosen
    so far; finished [B] bool, whether a stop id was chosen.
    """

    cache: Cache | None  # as `Model.apply` has it; never None
    token: jax.Array
    logp: jax.Array
    position: jax.Array
    count: jax.Array
    finished: jax.Array


def turn(
    keys: Any, temperature: float | Sequence[float], top_p: float | Sequence[float] = 1.0
) -> Knobs:
    """`Knobs` of rows that are decoded alike, or one value per row.

    Args:
      keys: [B] from `prompts.row_keys`, or their `key_data`.
      temperature: one for all, or [B]; 0 is greedy.
      top_p: one for all, or [B]; 1 is off.
    """
    rows = (keys.shape[0],)
    heat = np.broadcast_to(np.asarray(temperature, np.float32), rows)
    share = np.broadcast_to(np.asarray(top_p, np.float32), rows)
    return Knobs(keys, heat, share, np.any(heat > 0), np.any((share < 1) & (heat > 0)))


def typed(knobs: Knobs) -> Knobs:
    """Knobs whose keys came as `jax.random.key_data`: on the host they are kept as numbers."""
    return replace(knobs, keys=jax.random.wrap_key_data(jnp.asarray(knobs.keys)))


def phases(
    layers: LayerInputs, mask: jax.Array, steer: str = "all"
) -> tuple[LayerInputs, LayerInputs]:
    """The layer inputs of `prefill` and of every `step` after it.

    Args:
      layers: as the caller gives them; `where` and `pool` follow from the other two.
      mask: [B,P], the prompts'.
      steer: "all" touches every position, "prompt" only the prompt's.

    Raises:
      UsageError: an unknown mode, or layer inputs that the sampler derives itself.
    """
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


def prefill(
    model: Model,
    params: PyTree,
    prompts: PromptBatch,
    knobs: Knobs,
    layers: LayerInputs = LayerInputs(),
    *,
    room: int,
    stop: tuple[int, ...] = (),
    banned: tuple[int, ...] = (),
    begun: Cache | None = None,
) -> State:
    """Reads the prompts and chooses the first token of every row: `begin` of `read`.

    Args:
      model: static.
      params: its parameters.
      prompts: left-padded prompts [B,P]; every row needs at least one token.
      knobs: of the rows.
      layers: the first of `phases`.
      room: see `read`.
      stop: ids that end a row, static.
      banned: ids that are never chosen, static.
      begun: see `read`.
    """
    found = read(model, params, prompts, layers, room=room, begun=begun)
    return begin(found, knobs, stop=stop, banned=banned)


def read(
    model: Model,
    params: PyTree,
    prompts: PromptBatch,
    layers: LayerInputs = LayerInputs(),
    *,
    room: int,
    begun: Cache | None = None,
) -> Read:
    """Reads the prompts; only their last position is unembedded.

    Args:
      model: static.
      params: its parameters.
      prompts: left-padded prompts [B,P]; every row needs at least one token.
      layers: the first of `phases`.
      room: cache slots beside the prompts', static: how many tokens can be added.
      begun: a cache of B rows of S tokens each, with room for the prompts, which go on from there,
        and `room`.
    """
    batch, width = prompts.tokens.shape
    cache, before = begun, 0
    if cache is None:
        cache = init_cache(model.config, batch, width + room, jnp.dtype(model.config.dtype))
    else:
        before = cache.length
    positions = jnp.maximum(jnp.cumsum(prompts.mask, axis=1) - 1, 0).astype(jnp.int32) + before
    out = model.apply(
        params,
        prompts.tokens,
        positions,
        segments=prompts.mask.astype(jnp.int32),
        cache=cache,
        layers=layers,
    )
    assert out.cache is not None
    cache = layered(out.cache) if model.config.unroll else out.cache
    lengths = prompts.mask.sum(axis=1).astype(jnp.int32) + before
    return Read(cache, model.unembed(params, out.hidden[:, -1]), lengths)


def begin(
    found: Read, knobs: Knobs, *, stop: tuple[int, ...] = (), banned: tuple[int, ...] = ()
) -> State:
    """Chooses the first token of every row.

    Args:
      found: the prompts of the rows.
      knobs: of the rows.
      stop: ids that end a row, static.
      banned: ids that are never chosen, static.
    """
    count = jnp.zeros_like(found.lengths)
    token, logp = _chosen(found.logits, knobs, count, banned)
    finished = processors.is_stop(token, stop)
    return State(found.cache, token, logp, found.lengths, count + 1, finished)


def step(
    model: Model,
    params: PyTree,
    state: State,
    knobs: Knobs,
    layers: LayerInputs = LayerInputs(),
    *,
    stop: tuple[int, ...] = (),
    banned: tuple[int, ...] = (),
) -> State:
    """Feeds every row's last token and chooses the next one; rows that ended get token 0, logp 0.

    Args:
      model: static.
      params: its parameters, `models.api.unstacked` where `model.config.unroll`.
      state: of `prefill` or the step before.
      knobs: of the rows.
      layers: the second of `phases`.
      stop: ids that end a row, static.
      banned: ids that are never chosen, static.
    """
    out = model.apply(
        params,
        state.token[:, None],
        state.position[:, None],
        segments=jnp.ones((len(state.token), 1), jnp.int32),
        cache=state.cache,
        layers=layers,
    )
    logits = model.unembed(params, out.hidden[:, -1])
    token, logp = _chosen(logits, knobs, state.count, banned)
    over = state.finished
    token = jnp.where(over, 0, token)
    return State(
        cache=out.cache,
        token=token,
        logp=jnp.where(over, 0.0, logp),
        position=state.position + 1,
        count=state.count + 1,
        finished=over | processors.is_stop(token, stop),
    )


def _chosen(
    logits: jax.Array, knobs: Knobs, count: jax.Array, banned: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """The next token [B] and its log-probability."""
    keys = jax.vmap(jax.random.fold_in)(knobs.keys, count)
    token = processors.choose(
        keys, logits, knobs.temperature, knobs.top_p, banned, draws=knobs.draws, cuts=knobs.cuts
    )
    return token, processors.token_logp(logits, token)

"""Prefill + `while_loop` decoding over a left-padded batch.

Letters: B sequences, P prompt slots, T new tokens, V vocabulary, L layers, D width.

A row's random numbers come from (seed, step, prompt, sample, token index) alone, so a sample
depends neither on its batch nor on the number of devices. Nothing is captured from an outer scope:
model, stop and banned ids, the number of new tokens and the steering mode are static arguments,
everything else is an array (engine.py has the two halves of the loop).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxsafety.core import shapes, trees
from jaxsafety.data.schema import Answer, Completions, PromptBatch
from jaxsafety.models.api import Cache, LayerInputs, Model, unstacked
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling import engine, heads, processors
from jaxsafety.sampling.engine import STEER as STEER
from jaxsafety.sampling.engine import Call

PyTree = Any
Inside = Callable[[int, int], None]
PIECE = 64  # tokens between two looks at the host: a look costs what a token does, or less


def sample(
    model: Model,
    params: PyTree,
    prompts: PromptBatch,
    keys: jax.Array,
    cfg: SampleConfig,
    layers: LayerInputs = LayerInputs(),
    steer: str = "all",
    inside: Inside | None = None,
) -> Completions:
    """Samples one completion per row; ends early when every row has stopped.

    One compiled program serves all temperatures and all `top_p`.

    Args:
      model: static.
      params: its parameters.
      prompts: left-padded prompts [B,P]; every row needs at least one token.
      keys: typed keys [B] from `row_keys`; token t uses fold_in(key, t).
      cfg: decoding options.
      layers: steering, ablation, adapters; `where` must be None.
      steer: "all" touches every position, "prompt" only the prompt's (static).
      inside: called with (tokens so far, at most) every `PIECE` tokens of longer answers; it may
        raise to end the call.

    Returns:
      `Completions` [B,P+T]. `logp` is under the model at temperature 1, before bans and top-p.
      Slots after the stop token hold id 0 with mask False.

    Raises:
      UsageError: an impossible config or steering mode.
      AssertionError: arrays whose axes do not fit together.

    Example:
      >>> import jaxsafety
      >>> model, params, tokenizer = jaxsafety.load()
      >>> chat = [jaxsafety.Message("user", "what is 11 plus 10 ?")]
      >>> ids = jaxsafety.encode_prompt(tokenizer, chat)
      >>> prompts = jaxsafety.pad_prompts([ids], tokenizer.pad_id, buckets=[16])  # [B,P]
      >>> stop = tuple(tokenizer.eos_ids)
      >>> cfg = jaxsafety.SampleConfig(max_tokens=16, temperature=0.0, stop=stop)
      >>> keys = jaxsafety.row_keys(0, 0, [0], [0])
      >>> said = jaxsafety.sample(model, params, prompts, keys, cfg)
      >>> said.tokens.shape, bool(said.finished[0])  # [B,P+T], [B]
      ((1, 32), True)
    """
    args = arguments(model, params, prompts, keys, cfg, layers, steer)
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((params, keys)))
    if model.config.unroll and cfg.max_tokens > 1 and not traced:
        # Before the program: within it XLA would read across what should lie turned.
        return pieces(args, inside, split=unstacked(model.config, params, len(keys)))
    if inside is None or cfg.max_tokens <= PIECE:
        return _sample(*args)
    return pieces(args, inside)


def lower(
    model: Model,
    params: PyTree,
    prompts: PromptBatch,
    keys: Any,
    cfg: SampleConfig,
    layers: LayerInputs = LayerInputs(),
) -> jax.stages.Lowered:
    """The program of `sample`, for shapes: every array may be a `jax.ShapeDtypeStruct`."""
    return _sample.lower(*arguments(model, params, prompts, keys, cfg, layers, "all"))


def arguments(
    model: Any, params: Any, prompts: Any, keys: Any, cfg: SampleConfig, layers: Any, steer: str
) -> tuple[Any, ...]:
    """Arguments of `_sample`: what of `cfg` is an array, and what is static."""
    dims = shapes.dimensions()
    shapes.check(prompts.tokens, "BP", dims, "prompts.tokens")
    shapes.check(prompts.mask, "BP", dims, "prompts.mask")
    shapes.check(keys, "B", dims, "keys")
    processors.check(cfg, model.config.vocab_size)
    call = Call(model, cfg.max_tokens, tuple(cfg.stop), tuple(cfg.banned), steer)
    return params, prompts, engine.turn(keys, cfg.temperature, cfg.top_p), layers, call


# How far a call has come: t, the tokens of each row so far; State; tokens, logp, valid [B,room].
Carry = tuple[jax.Array, engine.State, jax.Array, jax.Array, jax.Array]


def _begin(
    params: PyTree,
    prompts: PromptBatch,
    knobs: engine.Knobs,
    layers: LayerInputs,
    call: Call,
    head: Cache | None = None,
) -> Carry:
    """The prefill, and the first token of every row: it needs no step of its own.

    So no forward pass is spent on the last token either.
    """
    first, _ = engine.phases(layers, prompts.mask, call.steer)
    batch, width = prompts.tokens.shape
    begun = None if head is None else heads.spread(head, batch, width + call.room)
    state = engine.prefill(
        call.model,
        params,
        prompts,
        knobs,
        first,
        room=call.room,
        stop=call.stop,
        banned=call.banned,
        begun=begun,
    )
    column = jnp.arange(call.room) == 0
    return (
        jnp.ones((), jnp.int32),
        state,
        jnp.where(column, state.token[:, None], 0),
        jnp.where(column, state.logp[:, None], 0.0),
        jnp.broadcast_to(column, (len(state.token), call.room)),
    )


def _go_on(
    params: PyTree,
    mask: jax.Array,
    knobs: engine.Knobs,
    layers: LayerInputs,
    carry: Carry,
    until: Any,
    call: Call,
) -> Carry:
    """Steps until every row has stopped or has `until` tokens; `mask` is the prompts'."""
    _, later = engine.phases(layers, mask, call.steer)
    model = call.model
    if model.config.unroll and not isinstance(params["blocks"], list):
        params = unstacked(model.config, params)

    def unfinished(carry: Carry) -> jax.Array:
        return (carry[0] < until) & ~jnp.all(carry[1].finished)

    def step(carry: Carry) -> Carry:
        t, before, tokens, logps, valid = carry
        state = engine.step(model, params, before, knobs, later, stop=call.stop, banned=call.banned)
        tokens = tokens.at[:, t].set(state.token)
        logps = logps.at[:, t].set(state.logp)
        valid = valid.at[:, t].set(~before.finished)  # includes the first stop token
        return t + 1, state, tokens, logps, valid

    return jax.lax.while_loop(unfinished, step, carry)


def _end(prompts: PromptBatch, carry: Carry) -> Completions:
    """Prompts and what was said."""
    _, state, tokens, logps, valid = carry
    nothing = jnp.zeros_like(prompts.mask)
    return Completions(
        tokens=jnp.concatenate([prompts.tokens, tokens], axis=1),
        mask=jnp.concatenate([prompts.mask, valid], axis=1),
        completion=jnp.concatenate([nothing, valid], axis=1),
        logp=jnp.concatenate([nothing.astype(jnp.float32), logps], axis=1),
        finished=state.finished,
    )


@partial(jax.jit, static_argnames="call")
def _sample(
    params: PyTree, prompts: PromptBatch, knobs: engine.Knobs, layers: LayerInputs, call: Call
) -> Completions:
    """`sample` as one program."""
    if call.room == 0:
        engine.phases(layers, prompts.mask, call.steer)
        nothing = jnp.zeros_like(prompts.mask)
        return Completions(
            tokens=prompts.tokens,
            mask=prompts.mask,
            completion=nothing,
            logp=nothing.astype(jnp.float32),
            finished=jnp.zeros(len(nothing), bool),
        )
    carry = _begin(params, prompts, knobs, layers, call)
    return _end(prompts, _go_on(params, prompts.mask, knobs, layers, carry, call.room, call))


_first = jax.jit(_begin, static_argnames="call")
_next = jax.jit(_go_on, static_argnames="call", donate_argnames="carry")
_last = jax.jit(_end)


def pieces(
    args: tuple[Any, ...],
    inside: Inside | None = None,
    head: Cache | None = None,
    split: PyTree = None,
) -> Completions:
    """The same as two programs; the second runs in pieces of `PIECE` tokens if somebody looks.

    Args:
      args: of `_sample`.
      inside: see `sample`.
      head: what all prompts begin with, see `heads`.
      split: the parameters, unstacked; many calls with the same ones need that done once.
    """
    params, prompts, knobs, layers, call = args
    split = params if split is None else split
    carry = _first(params, prompts, knobs, layers, call, head)
    if inside is None:
        last = np.int32(call.room)
        return _last(prompts, _next(split, prompts.mask, knobs, layers, carry, last, call))
    done = 1
    while done < call.room and not bool(trees.host(carry[1].finished).all()):
        inside(done, call.room)
        until = min(call.room, done + PIECE)
        carry = _next(split, prompts.mask, knobs, layers, carry, np.int32(until), call)
        done = int(trees.host(carry[0]))
    return _last(prompts, carry)


def answers(out: Completions, width: int) -> list[Answer]:
    """The rows of a call on the host; `width` is that of its prompts."""
    tokens, logp = (trees.host(x)[:, width:] for x in (out.tokens, out.logp))
    count, finished = trees.host(out.completion).sum(axis=1), trees.host(out.finished)
    return [
        Answer(ids[: n - end].tolist(), bool(end), scores[:n].tolist())
        for ids, scores, n, end in zip(tokens, logp, count, finished, strict=True)
    ]

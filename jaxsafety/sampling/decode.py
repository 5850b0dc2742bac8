"""Prefill + `while_loop` decoding over a left-padded batch.

Letters: B sequences, P prompt slots, T new tokens, V vocabulary, L layers, D width.

A row's random numbers come from (seed, step, prompt, sample, token index) alone, so a sample
depends neither on its batch nor on the number of devices. Nothing is captured from an outer scope:
model, stop and banned ids, the number of new tokens and the steering mode are static arguments,
everything else is an array (engine.py has the two halves of the loop).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import shapes, sharding, trees
from jaxsafety.core.errors import bad
from jaxsafety.data.schema import Answer, Completions, PromptBatch
from jaxsafety.models.api import Cache, LayerInputs, Model, unstacked
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling import engine, heads, processors
from jaxsafety.sampling.engine import STEER as STEER

PyTree = Any
Inside = Callable[[int, int], None]
PIECE = 64  # tokens between two looks at the host: a look costs what a token does, or less


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
    fold = jax.vmap(lambda p, s: jax.random.fold_in(jax.random.fold_in(root, p), s))
    return fold(jnp.asarray(prompts, jnp.uint32), jnp.asarray(samples, jnp.uint32))


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
    args = _call(model, params, prompts, keys, cfg, layers, steer)
    if inside is None or cfg.max_tokens <= PIECE:
        return _sample(*args)
    return _pieces(args, inside)


def lower(
    model: Model, params: PyTree, prompts: PromptBatch, keys: Any, cfg: SampleConfig
) -> jax.stages.Lowered:
    """The program of `sample`, for shapes: every array may be a `jax.ShapeDtypeStruct`."""
    return _sample.lower(*_call(model, params, prompts, keys, cfg, LayerInputs(), "all"))


def _call(
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


class Call(NamedTuple):
    """What a compiled program of the sampler does not take as an array."""

    model: Model
    room: int
    stop: tuple[int, ...]
    banned: tuple[int, ...]
    steer: str


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


def _pieces(
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
    known: Mapping[tuple[int, int], Answer] | None = None,
    keep: Callable[[int, list[tuple[int, int, Answer]]], None] | None = None,
    inside: Callable[[int, int, int], None] | None = None,
) -> list[list[Answer]]:
    """Completes many prompts of any length with one compilation per prompt-length bucket.

    Rows are sorted by length and the last batch is filled with copies, so every call has the shape
    [batch_size, a bucket] (fewer rows than that use the next power of two). Greedy samples of one
    prompt are equal and computed once.

    Args:
      model: the model.
      params: its parameters.
      tokenizer: anything with `pad_id`.
      prompts: token ids, generation prompt included (`encode_prompt`).
      cfg: decoding options.
      seed: of all random numbers, see `row_keys`.
      step: another one gives fresh samples under the same seed, see `row_keys`.
      samples: completions per prompt.
      batch_size: rows per call; changes speed, not results.
      layers: steering, ablation, adapters; see `sample`.
      steer: where `layers.add` is added: "all" positions, or the "prompt"'s only.
      names: integers that key the prompts' randomness; their index by default.
      progress: called with the number of finished rows (prompts x samples) after every call.
      known: (prompt, sample) -> answer, what an earlier start found; a call all of whose rows are
        known is not made, and the others stay the calls they were.
      keep: called with a call's number and its (prompt, sample, answer), where there are several.
      inside: called with (rows, tokens so far, at most) within a call of long answers.

    Returns:
      `[prompt][sample]` -> `Answer`, in input order.

    Raises:
      UsageError: a prompt that does not fit the model's context beside `cfg.max_tokens`.

    Example:
      >>> import jaxsafety
      >>> model, params, tokenizer = jaxsafety.load()
      >>> chat = [jaxsafety.Message("user", "what is 11 plus 10 ?")]
      >>> ids = jaxsafety.encode_prompt(tokenizer, chat)
      >>> stop = tuple(tokenizer.eos_ids)
      >>> cfg = jaxsafety.SampleConfig(max_tokens=16, temperature=0.0, stop=stop)
      >>> [[answer]] = jaxsafety.generate(model, params, tokenizer, [ids], cfg, seed=0)
      >>> tokenizer.decode(answer.ids), answer.finished
      ('the answer is 21 .', True)
    """
    limit = model.config.max_length - cfg.max_tokens
    for prompt in prompts:
        if not 0 < len(prompt) <= limit:
            allowed = f"1..{limit} tokens (context {model.config.max_length}, "
            raise bad("prompt", f"{len(prompt)} tokens", f"{allowed}{cfg.max_tokens} to generate)")
    names = range(len(prompts)) if names is None else names
    copies = 1 if cfg.temperature == 0 else samples
    result = [[Answer([], False, []) for _ in range(samples)] for _ in prompts]
    if cfg.max_tokens == 0:
        return result
    rows = [(index, s) for index in range(len(prompts)) for s in range(copies)]
    skip = heads.worth(model, layers, prompts, len(rows))
    widths = buckets(limit - skip)
    # Longest first: rows of a call share a bucket and tend to finish together, and only the last
    # call, of the shortest prompts, is filled up. A short prompt may ride in a longer one's bucket.
    rows.sort(key=lambda row: (-len(prompts[row[0]]), row))
    ways = sharding.rows(sharding.mesh_of(params))  # each device gets rows of its own
    batch_size = min(batch_size, 1 << max(len(rows) - 1, 0).bit_length())
    batch_size = -(-batch_size // ways) * ways
    bound = _bind(model, params, prompts, cfg, layers, steer, skip)
    spans = heads.spans([len(prompts[i]) - skip for i, _ in rows], batch_size, widths, model)
    for start, span in zip(range(0, len(rows), batch_size), spans, strict=True):
        part = rows[start : start + batch_size]
        if not known or any(row not in known for row in part):
            full = part + [part[-1]] * (batch_size - len(part))
            keys = row_keys(seed, step, [names[i] for i, _ in full], [s for _, s in full])
            batch = pad_prompts([prompts[i][skip:] for i, _ in full], tokenizer.pad_id, [span])
            batch, keys = sharding.beside(params, (batch, keys))  # each device its own rows
            look = None if inside is None else partial(inside, len(part))
            out = bound(batch, keys, look)
            said = [(*row, a) for row, a in zip(part, answers(out, span), strict=False)]
            if keep is not None and len(rows) > batch_size:
                keep(start // batch_size, said)
        else:
            said = [(*row, known[row]) for row in part]
        for index, s, answer in said:
            result[index][s] = answer
        if progress is not None:
            progress(start + len(part))
    if copies < samples:
        result = [[row[0]] * samples for row in result]
    return result


def _bind(
    model: Model,
    params: PyTree,
    prompts: Sequence[Sequence[int]],
    cfg: SampleConfig,
    layers: LayerInputs,
    steer: str,
    skip: int,
) -> Callable[[PromptBatch, jax.Array, Inside | None], Completions]:
    """`sample` for many calls of these prompts, after the `skip` ids that all begin with.

    What all calls share is made at the first: the head's cache, and parameters that are unstacked
    already, which compiles twice as fast as unstacking them within every call.
    """
    once: dict[str, Any] = {}

    def call(batch: PromptBatch, keys: jax.Array, inside: Inside | None) -> Completions:
        if not (skip or model.config.unroll):
            return sample(model, params, batch, keys, cfg, layers, steer, inside)
        if not once:
            once["head"] = (
                heads.read(model, params, prompts[0][:skip], layers, steer) if skip else None
            )
            once["split"] = unstacked(model.config, params) if model.config.unroll else None
        args = _call(model, params, batch, keys, cfg, layers, steer)
        return _pieces(args, inside if cfg.max_tokens > PIECE else None, **once)

    return call


def answers(out: Completions, width: int) -> list[Answer]:
    """The rows of a call on the host; `width` is that of its prompts."""
    tokens, logp = (trees.host(x)[:, width:] for x in (out.tokens, out.logp))
    count, finished = trees.host(out.completion).sum(axis=1), trees.host(out.finished)
    return [
        Answer(ids[: n - end].tolist(), bool(end), scores[:n].tolist())
        for ids, scores, n, end in zip(tokens, logp, count, finished, strict=True)
    ]

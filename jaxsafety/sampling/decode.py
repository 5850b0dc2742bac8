"""Prefill + `while_loop` decoding over a left-padded batch.

Letters: B sequences, P prompt slots, T new tokens, V vocabulary, L layers, D width.

A row's random numbers come from (seed, step, prompt, sample, token index) alone, so a sample
depends neither on its batch nor on the number of devices. Nothing is captured from an outer scope:
model, stop and banned ids, the number of new tokens and the steering mode are static arguments,
everything else is an array (engine.py has the two halves of the loop).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from jaxsafety.sampling import continuous, engine, heads, processors
from jaxsafety.sampling.engine import STEER as STEER
from jaxsafety.sampling.engine import Call
from jaxsafety.sampling.prompts import buckets, pad_prompts, row_keys

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
    # Longest first: rows of a call share a bucket and tend to finish together, and only the last
    # call, of the shortest prompts, is filled up. A short prompt may ride in a longer one's bucket.
    rows.sort(key=lambda row: (-len(prompts[row[0]]), row))
    mesh = sharding.mesh_of(params)
    ways = sharding.rows(mesh)  # each device gets rows of its own
    batch_size = min(batch_size, 1 << max(len(rows) - 1, 0).bit_length())
    batch_size = -(-batch_size // ways) * ways
    skip = heads.worth(model, layers, prompts, len(rows))

    def padded(part: Sequence[Row], count: int, span: int) -> tuple[PromptBatch, jax.Array]:
        full = [*part, *[part[-1]] * (count - len(part))]
        keys = row_keys(seed, step, [names[i] for i, _ in full], [s for _, s in full])
        batch = pad_prompts([prompts[i][skip:] for i, _ in full], tokenizer.pad_id, [span])
        return sharding.beside(params, (batch, keys))  # each device its own rows

    seated = mesh is None and len(rows) > batch_size and cfg.max_tokens >= continuous.LEAST
    known = known or {}
    work = Work(model, params, cfg, layers, steer, prompts, skip, rows, known, batch_size, padded)
    left = [len(rows[i : i + batch_size]) for i in range(0, len(rows), batch_size)]
    made: dict[int, list[tuple[int, int, Answer]]] = {}
    done = 0
    for part in (_continuous if seated else _calls)(work, inside):
        for place, answer in part:
            (index, s), number = rows[place], place // batch_size
            result[index][s] = answer
            made.setdefault(number, []).append((index, s, answer))
            left[number] -= 1
            whole = made.pop(number) if left[number] == 0 else []
            if (
                whole
                and keep is not None
                and len(left) > 1
                and any(x[:2] not in known for x in whole)
            ):
                keep(number, whole)
        done += len(part)
        if progress is not None:
            progress(done)
    if copies < samples:
        result = [[row[0]] * samples for row in result]
    return result


Row = tuple[int, int]  # a prompt's number, and which sample of it
Said = Iterator[list[tuple[int, Answer]]]  # places among the rows, and what was answered there


class Work(NamedTuple):
    """What `generate` has to do.

    Attributes:
      model: static.
      params: of the model.
      cfg: decoding options.
      layers: see `sample`.
      steer: see `sample`.
      prompts: token ids.
      skip: how many of them all begin with, that are read once.
      rows: what is answered, longest prompt first.
      known: answers that an earlier start found.
      batch_size: rows at once.
      padded: (rows, how many with copies of the last, width) -> their batch and keys.
    """

    model: Model
    params: PyTree
    cfg: SampleConfig
    layers: LayerInputs
    steer: str
    prompts: Sequence[Sequence[int]]
    skip: int
    rows: Sequence[Row]
    known: Mapping[Row, Answer]
    batch_size: int
    padded: Callable[[Sequence[Row], int, int], tuple[PromptBatch, jax.Array]]

    def spans(self, count: int) -> list[int]:
        """The width of every `count` rows."""
        config = self.model.config
        widths = buckets(config.max_length - self.cfg.max_tokens - self.skip)
        lengths = [len(self.prompts[i]) - self.skip for i, _ in self.rows]
        return heads.spans(lengths, count, widths, self.model)

    def head(self) -> Cache | None:
        """The cache of what all prompts begin with."""
        if not self.skip:
            return None
        ids = self.prompts[0][: self.skip]
        return heads.read(self.model, self.params, ids, self.layers, self.steer)

    def split(self) -> PyTree:
        """The parameters as steps take them."""
        config = self.model.config
        return unstacked(config, self.params) if config.unroll else self.params


def _calls(work: Work, inside: Callable[[int, int, int], None] | None) -> Said:
    """A call of `sample` after the other.

    What all calls share is made at the first: the head's cache, and parameters that are unstacked
    already, which compiles twice as fast as unstacking them within every call.
    """
    model, cfg = work.model, work.cfg
    options = (cfg, work.layers, work.steer)
    once: dict[str, Any] = {}
    starts = range(0, len(work.rows), work.batch_size)
    for start, span in zip(starts, work.spans(work.batch_size), strict=True):
        part = work.rows[start : start + work.batch_size]
        if all(row in work.known for row in part):
            yield [(start + n, work.known[row]) for n, row in enumerate(part)]
            continue
        batch, keys = work.padded(part, work.batch_size, span)
        look = None if inside is None else partial(inside, len(part))
        if work.skip or model.config.unroll:
            once = once or {"head": work.head(), "split": work.split()}
            args = _call(model, work.params, batch, keys, *options)
            out = _pieces(args, look if cfg.max_tokens > PIECE else None, **once)
        else:
            out = sample(model, work.params, batch, keys, *options, look)
        yield list(enumerate(answers(out, span)[: len(part)], start))


def _continuous(work: Work, inside: Callable[[int, int, int], None] | None) -> Said:
    """Rows that give their places to the next: see `continuous`."""
    model, cfg, rows = work.model, work.cfg, work.rows
    processors.check(cfg, model.config.vocab_size)
    count = continuous.size(work.batch_size)
    spans, beside = work.spans(count), work.skip + cfg.max_tokens
    few = (32 if model.config.unroll else 4) * continuous.SHARE
    call = Call(model, cfg.max_tokens, tuple(cfg.stop), tuple(cfg.banned), work.steer)
    head, split = work.head(), work.split()
    for stretch in continuous.stretches(spans, beside, few):
        groups = []
        for i in stretch:
            numbers = range(i * count, min((i + 1) * count, len(rows)))
            part = [rows[n] for n in numbers]
            if all(row in work.known for row in part):
                yield [(n, work.known[rows[n]]) for n in numbers]
                continue

            def group(numbers: range = numbers, part: Any = part, span: int = spans[i]) -> Any:
                return continuous.Group(numbers, *work.padded(part, count, span))

            groups.append(group)
        found = continuous.answers(
            call,
            work.params,
            split,
            work.layers,
            groups,
            batch_size=work.batch_size,
            slots=spans[stretch.start] + beside,
            heat=cfg.temperature,
            share=cfg.top_p,
            head=head,
            look=None if inside is None else lambda n, tokens: inside(n, tokens, cfg.max_tokens),
        )
        for place, answer in found:
            yield [(place, answer)]


def answers(out: Completions, width: int) -> list[Answer]:
    """The rows of a call on the host; `width` is that of its prompts."""
    tokens, logp = (trees.host(x)[:, width:] for x in (out.tokens, out.logp))
    count, finished = trees.host(out.completion).sum(axis=1), trees.host(out.finished)
    return [
        Answer(ids[: n - end].tolist(), bool(end), scores[:n].tolist())
        for ids, scores, n, end in zip(tokens, logp, count, finished, strict=True)
    ]

"""What the steered teacher begins to say to harmless prompts, and both models' probabilities of it.

The measuring half of stage C of SafeSteer (arXiv 2606.02530; C1 to C3 of docs/published.md);
`votes.py` counts.

Letters: G prompts of a batch, M rollouts of each, B = G M, H predictive positions of a rollout,
S slots of a prompt, T slots of a row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import sharding
from jaxsafety.data.schema import Answer
from jaxsafety.models.api import LayerInputs, Model, init_cache
from jaxsafety.probing import forward
from jaxsafety.probing.pieces import Piece, Pieces
from jaxsafety.protocols import SampleConfig

PyTree = Any
# jaxsafety.sampling.many.generate, passed in because layers of one level do not import each other
Generate = Callable[..., list[list[Answer]]]


class Scores(NamedTuple):
    """One batch of positions: delta = log p_t - log p_0 and teacher_prob [B,H,V]; valid [B,H]."""

    delta: Any
    teacher_prob: Any
    valid: Any


class Arms(NamedTuple):
    """Two models: the same parameters, with and without the teacher's steering.

    `steer` "all" or "prompt"; `stop`: end-of-turn ids, or None for the trajectory rule. `student`:
    parameters that the teacher is compared with in place of its own unsteered ones.
    """

    model: Model
    params: PyTree
    teacher: LayerInputs
    steer: str
    stop: tuple[int, ...] | None
    student: PyTree = None


def roll_out(
    generate: Generate,
    arms: Arms,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    decoding: SampleConfig,
    layers: LayerInputs,
    *,
    samples: int,
    seed: int,
    batch_size: int,
    pieces: Pieces,
) -> list[list[list[int]]]:
    """`[prompt][sample]` -> ids, in calls of about `batch_size` rollouts, longest prompts first."""
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    each = max(1, batch_size // samples)
    parts = [order[start : start + each] for start in range(0, len(order), each)]

    def roll(part: Sequence[int]) -> list[list[list[int]]]:
        said = generate(
            arms.model,
            arms.params,
            tokenizer,
            [prompts[i] for i in part],
            decoding,
            seed=seed,
            samples=samples,
            batch_size=batch_size,
            layers=layers,
            steer=arms.steer,
            names=part,
        )
        return [[answer.ids for answer in row] for row in said]

    work = [Piece("", len(part) * samples, partial(roll, part)) for part in parts]
    said = pieces.run("token set: rollouts", "rollouts", work)
    pairs = zip(parts, said, strict=True)
    found = {i: rows for part, lists in pairs for i, rows in zip(part, lists, strict=True)}
    return [found[i] for i in range(len(prompts))]


def score(
    arms: Arms,
    prompts: Sequence[Sequence[int]],
    rollouts: Sequence[Sequence[Sequence[int]]],
    horizon: int,
    pad_id: int,
    batch_size: int,
    check: Callable[[], None],
) -> Iterator[Scores]:
    """Yields the scores of all rollouts batch by batch; `check` is called before each."""
    tails = [[[*a, *[pad_id] * (horizon - 1 - len(a))] for a in rows] for rows in rollouts]
    if max(map(len, prompts)) + horizon - 1 <= forward.SHORT:
        rows = [[*p, *a] for p, own in zip(prompts, tails, strict=True) for a in own]
        steps = np.asarray([len(a) for own in rollouts for a in own])
        start = 0
        for tokens, mask, count in forward.batches(rows, min(batch_size, len(rows))):
            check()
            took = np.resize(steps[start : start + count], len(tokens))
            given = sharding.beside(arms.params, (tokens, mask, took))
            how = arms.teacher, horizon, arms.steer, arms.stop
            s = _rows(arms.model, arms.params, *given, *how, arms.student)
            yield Scores(s.delta[:count], s.teacher_prob[:count], s.valid[:count])
            start += count
        return
    # Long prompts: each is run once, its keys and values serve all of its rollouts.
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    samples = len(rollouts[0])
    ways = sharding.rows(sharding.mesh_of(arms.params))
    each = -(-min(max(1, batch_size // samples), len(order)) // ways) * ways
    for start in range(0, len(order), each):
        check()
        part = order[start : start + each]
        full = part + [part[-1]] * (each - len(part))
        width = -(-max(len(prompts[i]) - 1 for i in full) // 32) * 32
        heads = np.zeros((each, width), np.int32)
        mask = np.zeros((each, width), bool)
        for row, i in enumerate(full):
            head = prompts[i][:-1]
            heads[row, width - len(head) :] = head
            mask[row, width - len(head) :] = True
        after = np.asarray([[[prompts[i][-1], *a] for a in tails[i]] for i in full], np.int32)
        given = sharding.beside(arms.params, (heads, mask, after))
        plain = jax.tree.map(jnp.zeros_like, arms.teacher)  # adds nothing: one compilation for both
        other = arms.params if arms.student is None else arms.student
        logps = [
            _after(arms.model, params, *given, layers, arms.steer)
            for params, layers in ((arms.params, arms.teacher), (other, plain))
        ]
        took = np.asarray([[len(a) for a in rollouts[i]] for i in full]).reshape(-1)
        s = _compare(*logps, took, arms.stop)
        count = len(part) * samples
        yield Scores(s.delta[:count], s.teacher_prob[:count], s.valid[:count])


@partial(jax.jit, static_argnames=("model", "horizon", "steer", "stop"))
def _rows(model, params, tokens, mask, steps, layers, horizon, steer, stop, student=None):
    """Teacher-forces both models over rollouts and compares them at the last `horizon` positions.

    tokens, mask [B,T] left-padded, H-1 rollout tokens last; steps [B]: how many really sampled;
    student: parameters of the other model, None for the same ones.
    """
    width = tokens.shape[1]
    if steer == "prompt":
        layers = replace(layers, where=mask & (jnp.arange(width) < width - horizon + 1))

    def logp(params, layers):
        out = forward.hidden(model, params, tokens, mask, layers)
        logits = model.unembed(params, out.hidden[:, -horizon:]).astype(jnp.float32)
        return jax.nn.log_softmax(logits, axis=-1)

    other = params if student is None else student
    return _compare(logp(params, layers), logp(other, LayerInputs()), steps, stop)


@partial(jax.jit, static_argnames=("model", "steer"))
def _after(model, params, heads, mask, after, layers, steer):
    """Log-probabilities [B,H,V] at the last token of each prompt and after it.

    heads, mask [G,S]: prompts without their last token, left-padded; after [G,M,H]: that token and
    the rollout's.
    """
    (prompts, width), (_, samples, horizon) = heads.shape, after.shape
    rows, dtype = prompts * samples, jnp.dtype(model.config.dtype)
    first, later = layers, layers
    if steer == "prompt":
        last = jnp.broadcast_to(jnp.arange(horizon) == 0, (rows, horizon))
        first, later = replace(layers, where=mask), replace(layers, where=last)
    places = jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0).astype(jnp.int32)
    segments = mask.astype(jnp.int32)
    cache = init_cache(model.config, prompts, width + horizon, dtype)
    cache = model.apply(params, heads, places, segments=segments, cache=cache, layers=first).cache
    cache = replace(
        cache,
        k=jnp.repeat(cache.k, samples, axis=1),
        v=jnp.repeat(cache.v, samples, axis=1),
        segments=jnp.repeat(cache.segments, samples, axis=0),
    )
    lengths = jnp.repeat(mask.sum(axis=1), samples)
    places = (lengths[:, None] + jnp.arange(horizon)).astype(jnp.int32)
    one = jnp.ones((rows, horizon), jnp.int32)
    tokens = after.reshape(rows, horizon)
    out = model.apply(params, tokens, places, segments=one, cache=cache, layers=later)
    logits = model.unembed(params, out.hidden).astype(jnp.float32)
    return jax.nn.log_softmax(logits, axis=-1)


@partial(jax.jit, static_argnames=("stop",))
def _compare(teacher, base, steps, stop):
    """`Scores` of log-probabilities [B,H,V] of both models."""
    horizon = teacher.shape[1]
    if stop is None:  # trajectory rule: every context up to the sampled end of turn
        valid = jnp.arange(horizon) <= steps[:, None]
    else:  # at and after the first position where the base itself would end the turn
        ended = jnp.isin(jnp.argmax(base, axis=-1), jnp.asarray(stop, jnp.int32))
        valid = jnp.cumsum(ended, axis=1) == 0
    return Scores(teacher - base, jnp.exp(teacher), valid)

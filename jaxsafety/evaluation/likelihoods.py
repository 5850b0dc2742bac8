"""Log-probabilities of continuations given their contexts, each context read once.

    score(choice) = sum_t log p(continuation[t] | context, continuation[<t])

A batch is two passes of one compiled function. The contexts [I,P] leave their keys and values in a
cache; of these each continuation [R,T] of two tokens or more takes its context's and reads on. The
first token of every continuation is predicted by its context's last one, so a continuation of one
token costs nothing of its own; tokens that all continuations of a context begin with are read with
the context. Unembedded is only what predicts a token that is asked for. What all
contexts of a set begin with (a system's turn, examples) is read once for the set.

Sets are cut into groups of one shape each, few enough that compiling them costs less than the
padding that one more shape would save. The shapes change no score by more than rounding.
Letters: I contexts, P their tokens, R continuations, T their tokens without the last, M predicted
tokens, S tokens that all begin with, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.adapters.routing import POOLED
from jaxsafety.core import sharding, trees
from jaxsafety.evaluation.pairs import Stem
from jaxsafety.losses.logprobs import token_logp
from jaxsafety.models.api import Cache, LayerInputs, Model, init_cache
from jaxsafety.sampling.engine import phases

PyTree = Any
COMPILING = 1024  # tokens that could be read while one more shape is compiled
GRAIN = 8  # widths are multiples of it
TOKENS = {"cpu": 1024}  # of the contexts of a batch; a CPU is busy with that many
TOKENS_ELSEWHERE = 16384


class Shape(NamedTuple):
    """What is compiled for: contexts I, their tokens P, continuations R, their tokens T, targets M.

    R and T are 0 where every continuation is one token.
    """

    contexts: int
    tokens: int
    rests: int
    rest_tokens: int
    targets: int


class Batch(NamedTuple):
    """Stems, by their index, that are scored at once."""

    stems: tuple[int, ...]
    shape: Shape


def common(stems: Sequence[Stem]) -> int:
    """S, how many ids all contexts begin with; each keeps one of its own."""
    if len(stems) < 2:
        return 0
    first, last = min(s.context for s in stems), max(s.context for s in stems)
    most = min(len(s.context) for s in stems) - 1
    return next((i for i in range(most) if first[i] != last[i]), most)


def joined(stem: Stem) -> int:
    """How many tokens all continuations begin with, the last of each left out: it is not read."""
    first, last = min(stem.continuations), max(stem.continuations)
    most = min(map(len, stem.continuations)) - 1
    return next((i for i in range(most) if first[i] != last[i]), most)


class Read(NamedTuple):
    """How a stem is read.

    context: its tokens but the S that all begin with, and those all its continuations begin with;
    rests: what is read of each continuation after that.
    """

    context: tuple[int, ...]
    rests: tuple[tuple[int, ...], ...]


def read(stem: Stem, skip: int, *, join: bool = True) -> Read:
    """See `Read`; `join` False leaves a context as it is."""
    k = joined(stem) if join else 0
    rests = tuple(continuation[k:-1] for continuation in stem.continuations)
    return Read(stem.context[skip:] + stem.continuations[0][:k], rests)


def plan(
    stems: Sequence[Stem], reads: Sequence[Read], *, tokens: int = 1024, ways: int = 1
) -> list[Batch]:
    """Batches of few shapes, longest contexts first.

    Args:
      stems: contexts with their continuations.
      reads: how each is read.
      tokens: of the contexts of a batch, about.
      ways: devices that rows are split over.
    """
    rests = {}  # the width of its longest rest -> stems
    for index, own in enumerate(reads):
        rests.setdefault(_rest_width(own), []).append(index)
    widths = sorted(rests)
    for low, high in pairwise(widths):
        count = sum(len(rest) > 0 for i in rests[low] for rest in reads[i].rests)
        if (high - low) * count < COMPILING:  # too few for a shape of their own
            rests[high] += rests.pop(low)
    found = []
    for width in sorted(rests, reverse=True):
        members = sorted(rests[width], key=lambda i: (-len(reads[i].context), i))
        start = 0
        for stop in _cuts([len(reads[i].context) for i in members]):
            found += _group(stems, reads, members[start:stop], width, tokens, ways)
            start = stop
    return found


def _rest_width(own: Read) -> int:
    """Tokens of the longest rest, rounded up to 4, 8, 12, 16, 24, 32, 48, ..."""
    most = max(map(len, own.rests))
    return _up(most, 1 << max(2, (most - 1).bit_length() - 2))


def _width(length: int) -> int:
    return -(-length // GRAIN) * GRAIN


def _cuts(lengths: Sequence[int]) -> list[int]:
    """Where descending lengths are cut into groups of one width each, at the least cost.

    The cost of a group is its padded tokens and `COMPILING`; found from the end backwards.
    """
    edges = [
        i for i in range(len(lengths)) if i == 0 or _width(lengths[i]) < _width(lengths[i - 1])
    ]
    edges.append(len(lengths))
    best: dict[int, tuple[int, int]] = {len(edges) - 1: (0, 0)}
    for a in range(len(edges) - 2, -1, -1):
        width = _width(lengths[edges[a]])
        best[a] = min(
            ((edges[b] - edges[a]) * width + COMPILING + best[b][0], b)
            for b in range(a + 1, len(edges))
        )
    found, a = [], 0
    while a < len(edges) - 1:
        a = best[a][1]
        found.append(edges[a])
    return found


def _group(
    stems: Sequence[Stem],
    reads: Sequence[Read],
    members: Sequence[int],
    width: int,
    tokens: int,
    ways: int,
) -> list[Batch]:
    """Batches of one shape."""
    longest = _width(len(reads[members[0]].context))

    def count(index: int) -> int:
        return sum(len(rest) > 0 for rest in reads[index].rests)

    size = max(1, tokens // longest)
    # dealt like cards, so that each batch has as many contexts and about as many rests
    dealt = sorted(members, key=lambda i: (-count(i), i))
    parts = [dealt[k :: -(-len(members) // size)] for k in range(-(-len(members) // size))]
    targets = max(sum(len(c) for i in part for c in stems[i].continuations) for part in parts)
    rests = max(sum(map(count, part)) for part in parts)
    shape = Shape(
        _up(max(map(len, parts)), ways),
        longest,
        _up(rests, ways),
        width if rests else 0,
        _up(targets, 32),
    )
    return [Batch(tuple(part), shape) for part in parts]


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


class Scorer:
    """Scores the batches of one set; the head's S tokens are read once, at the first batch."""

    def __init__(
        self,
        model: Model,
        params: PyTree,
        stems: Sequence[Stem],
        layers: LayerInputs = LayerInputs(),
        *,
        steer: str = "all",
        tokens: int = 0,
    ) -> None:
        """Plans; nothing is computed yet.

        Args:
          model: the model; static.
          params: its parameters.
          stems: contexts with their continuations, none of which is empty.
          layers: adapters, steering, ablation, as for the sampler.
          steer: "all" or "prompt", the positions `layers.add` touches.
          tokens: of the contexts of a batch, about; 0 chooses by the kind of device.
        """
        self.model, self.params, self.stems = model, params, stems
        self.layers, self.steer = layers, steer
        # what a router decides once per prompt needs the whole prompt in one pass
        routed = layers.adapters is not None and "router" in layers.adapters
        whole = routed and layers.routing.level in POOLED
        self.skip = 0 if whole else common(stems)
        # where the context ends matters to both: no answer's token may count as one of its
        join = not whole and (steer == "all" or layers.add is None)
        self.reads = [read(stem, self.skip, join=join) for stem in stems]
        device = jax.default_backend()
        size = tokens or TOKENS.get(device, TOKENS_ELSEWHERE)
        ways = sharding.rows(sharding.mesh_of(params))
        self.batches = plan(stems, self.reads, tokens=size, ways=ways)
        self._head: Cache | None = None

    def score(self, batch: Batch) -> Iterator[tuple[int, list[float]]]:
        """Yields (stem, sum of the log-probabilities per continuation), summed in float64."""
        if self._head is None:
            ids = np.asarray(self.stems[0].context[: self.skip], np.int32)
            self._head = _read_head(self.model, self.params, ids, self.layers, self.steer)
        chosen = [(self.stems[i], self.reads[i]) for i in batch.stems]
        arrays = pack(chosen, batch.shape)
        given = sharding.beside(self.params, arrays[:5])
        rest = tuple(map(jnp.asarray, arrays[5:]))
        logp = _score(
            self.model, self.params, self._head, self.layers, *given, *rest, steer=self.steer
        )
        values = np.asarray(trees.host(logp), np.float64)
        start = 0
        for index in batch.stems:
            sums = []
            for continuation in self.stems[index].continuations:
                sums.append(float(values[start : start + len(continuation)].sum()))
                start += len(continuation)
            yield index, sums


def pack(chosen: Sequence[tuple[Stem, Read]], shape: Shape) -> tuple[np.ndarray, ...]:
    """A batch as arrays.

    Args:
      chosen: at most I stems with how they are read, with at most R rests of a token or more.
      shape: I, P, R, T, M.

    Returns:
      contexts [I,P] int32 and their mask [I,P] bool, right-padded; rests [R,T] and their mask; the
      context of each rest [R]; then of each predicted token, in order, [M]: the row that predicts
      it, an index into the I*P + R*T hidden states, and the token.
    """
    count, width, rests, rest_width, most = shape
    tokens = np.zeros((count, width), np.int32)
    mask = np.zeros((count, width), bool)
    rest = np.zeros((rests, rest_width), np.int32)
    rest_mask = np.zeros((rests, rest_width), bool)
    owner = np.zeros(rests, np.int32)
    rows, targets = [], []
    used = 0
    for i, (stem, (own, rests_of)) in enumerate(chosen):
        tokens[i, : len(own)] = own
        mask[i, : len(own)] = True
        end = i * width + len(own)
        for continuation, more in zip(stem.continuations, rests_of, strict=True):
            begin = end - (len(continuation) - len(more))
            rows += range(begin, end)
            targets += continuation
            if more:
                rest[used, : len(more)] = more
                rest_mask[used, : len(more)] = True
                owner[used] = i
                begin = count * width + used * rest_width
                rows += range(begin, begin + len(more))
                used += 1
    # rows without a context or a rest repeat a real one: attention over nothing is no number
    for i in range(len(chosen), count):
        tokens[i], mask[i] = tokens[0], mask[0]
    pad = most - len(rows)
    return (
        tokens,
        mask,
        rest,
        rest_mask,
        owner,
        np.asarray(rows + [0] * pad, np.int32),
        np.asarray(targets + [0] * pad, np.int32),
    )


@partial(jax.jit, static_argnames=("model", "steer"))
def _read_head(model, params, ids, layers, steer) -> Cache:
    """The cache after the ids [S] that all contexts begin with; S may be 0."""
    length = ids.shape[0]
    cache = init_cache(model.config, 1, length, jnp.dtype(model.config.dtype))
    if not length:
        return cache
    row = jnp.ones((1, length), jnp.int32)
    first, _ = phases(layers, row > 0, steer)
    places = jnp.arange(length, dtype=jnp.int32)[None]
    return model.apply(params, ids[None], places, segments=row, cache=cache, layers=first).cache


def _room(cache: Cache, rows: Any, more: int) -> Cache:
    """The cache of these rows, with `more` empty slots."""

    def slots(x: jax.Array, axis: int) -> jax.Array:
        return jnp.pad(x[:, rows], [(0, more if i == axis else 0) for i in range(x.ndim)])

    def pair(k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        return slots(k, 4), slots(v, 3)

    k, v = pair(cache.k, cache.v)
    return Cache(
        k,
        v,
        jnp.pad(cache.segments[rows], ((0, 0), (0, more))),
        cache.length,
        None if cache.routes is None else cache.routes[:, rows],
        None if cache.gate is None else pair(*cache.gate),
    )


@partial(jax.jit, static_argnames=("model", "steer"))
def _score(
    model, params, head, layers, tokens, mask, rest, rest_mask, owner, rows, targets, *, steer
) -> jax.Array:
    """[M] float32: the log-probability of each target."""
    count, width = tokens.shape
    length = head.segments.shape[1]
    first, later = phases(layers, mask, steer)
    cache = _room(head, jnp.zeros(count, jnp.int32), width)
    places = length + jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0).astype(jnp.int32)
    out = model.apply(
        params, tokens, places, segments=mask.astype(jnp.int32), cache=cache, layers=first
    )
    hidden = out.hidden.reshape(count * width, -1)
    if rest.shape[0]:
        begin = places[:, -1][owner][:, None] + 1
        more = begin + jnp.maximum(jnp.cumsum(rest_mask, axis=1) - 1, 0).astype(jnp.int32)
        cache = _room(out.cache, owner, rest.shape[1])
        further = model.apply(
            params, rest, more, segments=rest_mask.astype(jnp.int32), cache=cache, layers=later
        )
        ahead = further.hidden.reshape(rest.shape[0] * rest.shape[1], -1)
        hidden = jnp.concatenate([hidden, ahead])
    # one sequence whose token t + 1 is what row t predicts
    picked = jnp.pad(hidden[rows], ((0, 1), (0, 0)))[None]
    asked = jnp.pad(targets, (1, 0))[None]
    head_matrix = model.head(params)
    return token_logp(picked, head_matrix, asked, cap=model.config.logit_cap)[0, 1:]

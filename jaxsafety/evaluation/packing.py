"""Contexts with their continuations as small trees, laid flat side by side into rows of few widths.

The trunk of a tree is a context, with the tokens that all its continuations begin with; its
branches are what is read of each continuation after that (its last token is predicted, not read).
A tree takes a segment of a row, several share one, and a branch reads its trunk and itself
(`branches` of `Model.apply`). So every token is read once, whatever the lengths, in a few
shapes for a whole set: what a shape costs to compile and what rows leave empty are weighed against
each other (`plan`). Trees go into rows by best fit, the longest first.

Pure Python and numpy. Letters: B rows, T their tokens, U hidden states that predict something,
M predicted tokens, S tokens that all contexts begin with and that no row holds.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from itertools import chain
from typing import NamedTuple

import numpy as np

from jaxsafety.evaluation.pairs import Stem
from jaxsafety.sampling import heads

COMPILING = 4096  # tokens that could be read while one more shape is compiled
WIDE = 2048  # a token of a row that wide costs twice what it would alone: attention
WIDTHS = (32, 64, 128, 256, 512, 1024)  # of the narrowest rows
FACTORS = (2, 4)  # between one width and the next
GRAIN = 64  # the widest rows are a multiple of it
SHARE = 8  # the head is read apart if it would be an eighth of what is read, or more
WIDEST = 2048  # a tree of more tokens is cut in pieces, each with the trunk


class Tree(NamedTuple):
    """How a stem is read.

    Attributes:
      trunk: the context's tokens but the S that all begin with, and what all continuations begin
        with.
      own: how many tokens of the trunk are the context's.
      branches: what is read of each continuation after the trunk.
    """

    trunk: tuple[int, ...]
    own: int
    branches: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        """That are read."""
        return len(self.trunk) + sum(map(len, self.branches))

    @property
    def asked(self) -> int:
        """Hidden states that predict: of the context's last token and of all after it."""
        return self.tokens - self.own + 1

    @property
    def targets(self) -> int:
        """Predicted tokens: one branch's last token each, and what is read after the context."""
        return self.asked - 1 + len(self.branches)


class Shape(NamedTuple):
    """What is compiled for: B rows of T tokens, U hidden states that predict M tokens."""

    rows: int
    width: int
    asked: int
    targets: int


class Batch(NamedTuple):
    """Rows of stems, by their index, that are scored at once."""

    rows: tuple[tuple[int, ...], ...]
    shape: Shape

    @property
    def stems(self) -> tuple[int, ...]:
        """In the order in which they are scored."""
        return tuple(chain.from_iterable(self.rows))


class Laid(NamedTuple):
    """A batch as arrays.

    Attributes:
      tokens, places, segments, branches: [B,T] int32, as `Model.apply` wants them.
      context: [B,T] bool, the tokens of contexts.
      asked: [U] int32, indices into the B*T hidden states.
      first: [U] int32, a token that each of them predicts.
      which, targets: [M] int32, which of the U predicts each token, and the token.
    """

    tokens: np.ndarray
    places: np.ndarray
    segments: np.ndarray
    branches: np.ndarray
    context: np.ndarray
    asked: np.ndarray
    first: np.ndarray
    which: np.ndarray
    targets: np.ndarray


def head(stems: Sequence[Stem]) -> int:
    """S, if a cache for what all contexts begin with is worth it: for a few tokens it is not."""
    shared = heads.common([stem.context for stem in stems])
    return shared if SHARE * shared * len(stems) >= sum(grow(s).tokens for s in stems) else 0


def joined(stem: Stem) -> int:
    """How many tokens all continuations begin with, the last of each left out: it is not read."""
    first, last = min(stem.continuations), max(stem.continuations)
    most = min(map(len, stem.continuations)) - 1
    return next((i for i in range(most) if first[i] != last[i]), most)


def grow(stem: Stem, skip: int = 0) -> Tree:
    """The tree of a stem without its first `skip` tokens."""
    k = joined(stem)
    rests = tuple(continuation[k:-1] for continuation in stem.continuations)
    return Tree(stem.context[skip:] + stem.continuations[0][:k], len(stem.context) - skip, rests)


def split(stem: Stem, most: int = WIDEST) -> list[Stem]:
    """The stem, or pieces of it with some of its continuations: trees of at most `most` tokens.

    A piece of one continuation may be longer. Attention takes the square of a tree's tokens, and
    what many long continuations would take beside each other is not bounded by a model's context.
    """
    found: list[list[int]] = []
    room = 0
    for index, continuation in enumerate(stem.continuations):
        room -= len(continuation) - 1
        if not found or room < 0:
            found.append([])
            room = most - len(stem.context) - (len(continuation) - 1)
        found[-1].append(index)
    return [
        Stem(
            stem.context,
            tuple(stem.continuations[i] for i in part),
            tuple(stem.choices[i] for i in part),
        )
        for part in found
    ]


def plan(
    trees: Sequence[Tree], *, tokens: int = 1024, ways: int = 1, alone: bool = False
) -> list[Batch]:
    """Batches of few shapes, the widest first.

    Widths are those of `WIDTHS` and `FACTORS` for which this is least:

        sum over widths of  slots * (1 + width / WIDE) + COMPILING

    Args:
      trees: what is read.
      tokens: of a batch, about.
      ways: devices that rows are split over.
      alone: one tree a row.
    """
    if not trees:
        return []
    sizes = [tree.tokens for tree in trees]

    def cost(rows: Mapping[int, Sequence[tuple[int, ...]]]) -> float:
        most = 0.0
        for width, members in rows.items():
            if members:
                count, size = _batches(len(members), width, tokens, ways)
                most += count * size * width * (1 + width / WIDE) + COMPILING
        return most

    choices = [fill(sizes, widths, alone=alone) for widths in _widths(max(sizes), tokens)]
    rows = min(choices, key=cost)
    return [
        batch
        for width in sorted(rows, reverse=True)
        if rows[width]
        for batch in _deal(
            trees, rows[width], width, *_batches(len(rows[width]), width, tokens, ways)
        )
    ]


def _batches(rows: int, width: int, tokens: int, ways: int) -> tuple[int, int]:
    """How many batches hold so many rows, and the rows of each."""
    most = max(1, round(tokens / width / ways)) * ways
    count = -(-rows // most)
    return count, _up(-(-rows // count), ways)


def _widths(longest: int, tokens: int) -> list[tuple[int, ...]]:
    """Ascending widths to choose among; the last of each holds the longest tree."""
    found: list[tuple[int, ...]] = [(_up(longest, GRAIN),)]
    for start in (w for w in WIDTHS if w <= max(tokens, WIDTHS[0])):
        for factor in FACTORS:
            widths = [start]
            while widths[-1] < longest:
                widths.append(widths[-1] * factor)
            if len(widths) > 1:  # the last no wider than need be
                widths[-1] = min(widths[-1], _up(longest, GRAIN))
            found.append(tuple(widths))
    return list(dict.fromkeys(found))


def fill(
    sizes: Sequence[int], widths: Sequence[int], *, alone: bool = False
) -> dict[int, list[tuple[int, ...]]]:
    """Which trees share a row.

    A tree goes into the row that it fills best, of whatever width; if it fits in none, into a new
    one of the least width that holds it.

    Args:
      sizes: tokens of each tree, at most the last width.
      widths: ascending.
      alone: one tree a row.

    Returns:
      width -> rows, each the indices of its trees.
    """
    rows: list[tuple[int, list[int]]] = []
    free: list[tuple[int, int]] = []  # (tokens left, row), ascending
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        at = bisect_left(free, (sizes[index], 0))
        if at < len(free):
            left, row = free.pop(at)
        else:
            left, row = widths[bisect_left(widths, sizes[index])], len(rows)
            rows.append((left, []))
        rows[row][1].append(index)
        if not alone:
            insort(free, (left - sizes[index], row))
    found: dict[int, list[tuple[int, ...]]] = {width: [] for width in widths}
    for width, members in rows:
        found[width].append(tuple(members))
    return found


def _deal(
    trees: Sequence[Tree], rows: Sequence[tuple[int, ...]], width: int, count: int, size: int
) -> list[Batch]:
    """At most `count` batches of one shape, in each about as many hidden states that predict."""
    asked = [sum(trees[i].asked for i in row) for row in rows]
    targets = [sum(trees[i].targets for i in row) for row in rows]
    parts: list[list[int]] = [[] for _ in range(count)]
    least = [(0, part) for part in range(count)]  # a heap of those with room: what is asked in each
    for row in sorted(range(len(rows)), key=lambda r: (-asked[r], r)):
        had, part = heappop(least)
        parts[part].append(row)
        if len(parts[part]) < size:
            heappush(least, (had + asked[row], part))
    parts = [part for part in parts if part]
    most = [max(sum(each[r] for r in part) for part in parts) for each in (asked, targets)]
    shape = Shape(size, width, _up(most[0], 8), _up(most[1], 8))
    return [Batch(tuple(rows[r] for r in part), shape) for part in parts]


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def lay(batch: Batch, stems: Sequence[Stem], trees: Sequence[Tree], skip: int = 0) -> Laid:
    """A batch as arrays.

    Args:
      batch: which stems, and the shape.
      stems: all of the set.
      trees: how each is read.
      skip: S, the position of a trunk's first token.
    """
    rows, width, most, predicted = batch.shape
    tokens, places, segments, branches = (np.zeros((rows, width), np.int32) for _ in range(4))
    context = np.zeros((rows, width), bool)
    asked: list[int] = []
    first: list[int] = []
    which: list[int] = []
    targets: list[int] = []
    for r, members in enumerate(batch.rows):
        at = 0
        for number, index in enumerate(members, 1):
            trunk, own, rests = trees[index]
            here = slice(at, at + trees[index].tokens)
            end = skip + len(trunk)
            tokens[r, here] = list(chain(trunk, *rests))
            places[r, here] = list(
                chain(range(skip, end), *(range(end, end + len(b)) for b in rests))
            )
            segments[r, here] = number
            branches[r, here] = list(
                chain([0] * len(trunk), *([k] * len(b) for k, b in enumerate(rests, 1)))
            )
            context[r, at : at + own] = True
            fork = len(asked) + len(trunk) - own  # what the trunk's last token predicts
            asked += range(r * width + at + own - 1, r * width + here.stop)
            which += range(len(asked) - trees[index].asked, fork)
            targets += trunk[own:]
            first += trunk[own:]
            begin = fork
            for k, (continuation, rest) in enumerate(
                zip(stems[index].continuations, rests, strict=True)
            ):
                after = continuation[len(trunk) - own :]
                which += [fork, *range(begin + 1, begin + 1 + len(rest))]
                targets += after
                first += after if k == 0 else after[1:]
                begin += len(rest)
            at = here.stop
    # rows without a tree repeat a real one: what averages over a context's tokens must find some
    for array in (tokens, places, segments, branches, context):
        array[len(batch.rows) :] = array[0]
    pad, rest = [0] * (most - len(asked)), [0] * (predicted - len(targets))
    return Laid(
        tokens,
        places,
        segments,
        branches,
        context,
        *(
            np.asarray(x, np.int32)
            for x in (asked + pad, first + pad, which + rest, targets + rest)
        ),
    )


def sums(batch: Batch, trees: Sequence[Tree], values: np.ndarray) -> list[list[float]]:
    """The sum per continuation of each stem of a batch, of what `Laid.targets` are worth [M]."""
    found = []
    at = 0
    for index in batch.stems:
        tree = trees[index]
        shared = values[at : at + len(tree.trunk) - tree.own]
        at += len(shared)
        own = []
        for rest in tree.branches:
            own.append(float(shared.sum() + values[at : at + len(rest) + 1].sum()))
            at += len(rest) + 1
        found.append(own)
    return found

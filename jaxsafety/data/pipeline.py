"""Batches as a function of (seed, step): shuffle, pad, pack. B rows, T positions.

Row g of the endless stream is row `g % n` of epoch `g // n`, whose order is a permutation drawn
from (seed, epoch). So a batch is index arithmetic: there is no iterator to checkpoint, and neither
the number of hosts nor a resume changes what a step sees. A source is anything with a length and
random access: a list, a `grain.MapDataset`, a TFDS data source.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.data import interleave
from jaxsafety.data.schema import Encoded, TokenBatch

OPEN_ROWS = 64  # how many unfilled rows the packer looks at; bounds its time, costs little space
REDUCTIONS = ("token", "sequence")


class Source(Protocol):
    """Random access to examples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order of an epoch: a permutation of range(n), read-only, the same in every process."""
    order = np.random.default_rng([seed, epoch]).permutation(n)
    order.setflags(write=False)
    return order


def indices(seed: int, step: int, rows: int, n: int) -> np.ndarray:
    """Source indices [rows] of one step; consecutive steps go through every epoch exactly once.

    Args:
      seed: of the shuffle.
      step: from 0.
      rows: rows per step; may exceed n.
      n: length of the source.

    Raises:
      UsageError: an empty source or no rows.
    """
    if n < 1:
        raise bad("data", f"{n} examples", "at least one")
    if rows < 1:
        raise bad("data.rows", rows, "a positive integer")
    stream = np.arange(step * rows, (step + 1) * rows)
    return np.array([permutation(seed, int(g // n), n)[g % n] for g in stream], np.int64)


def first_fit(lengths: Sequence[int], length: int) -> list[list[int]]:
    """Greedy first-fit packing in the given order.

    Args:
      lengths: length of each example.
      length: T, the size of a row.

    Returns:
      Rows of example indices; within a row and over rows' first examples the order is kept.

    Raises:
      UsageError: an example that is empty or longer than a row.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    still_open: list[int] = []
    for index, size in enumerate(lengths):
        if not 0 < size <= length:
            raise bad(
                "data.length",
                length,
                f"at least {size}, the length of example {index}"
                if size
                else f"non-empty examples ({index} is empty)",
            )
        for row in still_open:
            if room[row] >= size:
                break
        else:
            row = len(rows)
            rows.append([])
            room.append(length)
            still_open.append(row)
            if len(still_open) > OPEN_ROWS:
                still_open.remove(min(still_open, key=lambda r: room[r]))
        rows[row].append(index)
        room[row] -= size
        if room[row] == 0 and row in still_open:
            still_open.remove(row)
    return rows


def pack(
    examples: Sequence[Encoded],
    length: int,
    rows: int | None = None,
    *,
    pad_id: int = 0,
    reduction: str = "token",
) -> TokenBatch:
    """Packs examples into rows by first-fit; each is its own segment with its own positions.

    Args:
      examples: tokenized examples.
      length: T.
      rows: B, padded with empty rows; None is as many as needed.
      pad_id: token on padding.
      reduction: see `assemble`.

    Returns:
      A numpy-backed TokenBatch.

    Raises:
      UsageError: an example longer than T, or more rows needed than given.
    """
    plan = first_fit([len(e.ids) for e in examples], length)
    if rows is not None and len(plan) > rows:
        raise bad("data.rows", rows, f"at least {len(plan)} rows of {length} for these examples")
    return assemble(examples, plan, length, rows, pad_id=pad_id, reduction=reduction)


def pad_batch(
    examples: Sequence[Encoded],
    length: int,
    rows: int | None = None,
    *,
    pad_id: int = 0,
    reduction: str = "token",
) -> TokenBatch:
    """One example per row, padded on the right. Arguments and errors as `pack`."""
    first_fit([len(e.ids) for e in examples], length)  # for its checks
    if rows is not None and len(examples) > rows:
        raise bad("data.rows", rows, f"at least {len(examples)}")
    plan = [[index] for index in range(len(examples))]
    return assemble(examples, plan, length, rows, pad_id=pad_id, reduction=reduction, packed=False)


def assemble(
    examples: Sequence[Encoded],
    plan: Sequence[Sequence[int]],
    length: int,
    rows: int | None = None,
    *,
    pad_id: int = 0,
    reduction: str = "token",
    packed: bool = True,
) -> TokenBatch:
    """Writes planned rows into arrays.

    Args:
      examples: tokenized examples.
      plan: which examples go to which row.
      length: T.
      rows: B; None is len(plan).
      pad_id: token on padding (segment 0, weight 0).
      reduction: "token": every learnt token weighs the same; "sequence": every example weighs the
        same. Weights sum to 1 over the batch. The first token of a segment has nothing before it
        that predicts it, so its weight is 0.
      packed: whether a row of the plan may have several examples, though this one's have not.

    Returns:
      tokens, positions, segments int32 and weight float32, all [B,T], numpy.

    Raises:
      UsageError: an unknown reduction.
    """
    if reduction not in REDUCTIONS:
        raise bad("data.reduction", reduction, " | ".join(REDUCTIONS))
    shape = (len(plan) if rows is None else rows, length)
    tokens = np.full(shape, pad_id, np.int32)
    positions, segments = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    weight = np.zeros(shape, np.float64)
    for row, members in enumerate(plan):
        start = 0
        for segment, index in enumerate(members, start=1):
            ids = np.asarray(examples[index].ids, np.int32)
            mask = np.asarray(examples[index].mask, bool).copy()
            mask[0] = False
            where = (row, slice(start, start + len(ids)))
            tokens[where], positions[where], segments[where] = ids, np.arange(len(ids)), segment
            scale = 1.0 if reduction == "token" else 1.0 / max(mask.sum(), 1)
            weight[where] = mask * scale
            start += len(ids)
    total = weight.sum()
    weight = (weight / total if total else weight).astype(np.float32)
    arrays: tuple[Any, ...] = (tokens, positions, segments, weight)
    return TokenBatch(*arrays, packed=packed)


class Batches:
    """A stage's `batches`: `(variables, step) -> TokenBatch`, offline: blind to the variables."""

    offline = True

    def __init__(
        self,
        source: Source,
        *,
        length: int,
        rows: int,
        seed: int,
        packed: bool = True,
        pad_id: int = 0,
        reduction: str = "token",
        parts: Sequence[int] = (),
        weights: Sequence[float] = (),
    ) -> None:
        """Plans the rows; with packing the plan is made once, and epochs shuffle whole rows.

        Args:
          source: `Encoded` examples (or (ids, mask) pairs).
          length: T.
          rows: B.
          seed: of packing order and shuffle.
          packed: pack, or pad one example per row.
          pad_id: token on padding.
          reduction: see `assemble`.
          parts: which source each example is of, where rows are mixed by weight.
          weights: share of each source in the rows; () goes through all examples alike.

        Raises:
          UsageError: an empty source, an example that does not fit, a bad reduction or mixture.
        """
        self.length, self.rows, self.seed = length, rows, seed
        self.pad_id, self.reduction, self.packed = pad_id, reduction, packed
        # The order of packing is its own stream: epoch numbers start at 0.
        count = len(source)
        self.examples = [Encoded(*source[index]) for index in range(count)]
        order = np.random.default_rng([seed, count, 1]).permutation(count)
        which = np.asarray(parts if weights else np.zeros(count), int)
        self.plan: list[list[int]] = []
        sizes = []
        for part in range(max(len(weights), 1)):  # a row holds examples of one source
            own = [int(i) for i in (order if packed else range(count)) if which[i] == part]
            lengths = [len(self.examples[i].ids) for i in own]
            fitted = first_fit(lengths, length)
            made = fitted if packed else [[index] for index in range(len(own))]
            self.plan += [[own[i] for i in row] for row in made]
            sizes.append(len(made))
        self.mixed = interleave.stream(seed, sizes, weights) if weights else None
        indices(seed, 0, rows, len(self.plan))  # for its checks
        self.steps_per_epoch = -(-len(self.plan) // rows)

    def __call__(self, variables: Any, step: int) -> TokenBatch:
        """The batch of a step."""
        del variables
        if self.mixed is None:
            chosen = indices(self.seed, step, self.rows, len(self.plan))
        else:
            chosen = interleave.rows_at(self.mixed, step, self.rows)
        return assemble(
            self.examples,
            [self.plan[int(i)] for i in chosen],
            self.length,
            pad_id=self.pad_id,
            reduction=self.reduction,
            packed=self.packed,
        )

"""What sources say of items: a table of votes in which a source may abstain.

A vote is a class, an integer from 0 on, or `ABSTAIN`. Of safety there are two classes, 0 safe and
1 unsafe. Tables on disk are long: one row per vote, with columns that are found by their names
(crowd-kit's are task, worker, label), never by their place.

Letters: N items, J sources, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxsafety.core.errors import bad
from jaxsafety.data.files import tables

ABSTAIN = -1
SAFE, UNSAFE = 0, 1
SAFETY = ("safe", "unsafe")


@dataclass(frozen=True, eq=False)
class Votes:
    """Votes of J sources on N items; checked when made.

    Attributes:
      sources: J names that differ.
      array: [N,J] integers: a class 0 to C-1, or `ABSTAIN`.
      classes: C names, two or more.
      items: N ids, or () where nobody asks for them.

    Raises:
      UsageError: another shape, a vote that is neither a class nor `ABSTAIN`, a name twice, fewer
        than two classes, no source.

    Example:
      >>> from jaxsafety.weak.votes import Votes
      >>> Votes(("rules", "guard"), [[0, 1], [-1, 1], [-1, -1]]).silent.tolist()
      [False, False, True]
    """

    sources: tuple[str, ...]
    array: np.ndarray
    classes: tuple[str, ...] = SAFETY
    items: tuple[str, ...] = ()

    def __init__(
        self,
        sources: Sequence[str],
        array: ArrayLike,
        classes: Sequence[str] = SAFETY,
        items: Sequence[str] = (),
    ) -> None:
        names, kinds = tuple(sources), tuple(classes)
        for field, given in (("sources", names), ("classes", kinds)):
            if len(set(given)) != len(given):
                raise bad(f"votes.{field}", ", ".join(given), "names that differ")
        if not names:
            raise bad("votes.sources", "none", "one source or more")
        if len(kinds) < 2:
            raise bad("votes.classes", ", ".join(kinds), "two classes or more")
        table = np.asarray(array)
        if table.ndim != 2 or table.shape[1] != len(names):
            raise bad("votes.array", f"shape {table.shape}", f"[items, {len(names)} sources]")
        if table.size and not np.issubdtype(table.dtype, np.integer):
            raise bad("votes.array", f"numbers of type {table.dtype}", "integers")
        table = table.astype(np.int32)
        odd = table[(table < ABSTAIN) | (table >= len(kinds))]
        if odd.size:
            raise bad("votes.array", int(odd[0]), f"{ABSTAIN} (abstains) or 0 to {len(kinds) - 1}")
        if items and len(items) != len(table):
            raise bad("votes.items", f"{len(items)} ids of {len(table)} items", "one each, or none")
        table.flags.writeable = False  # others hold it too
        for name, value in zip(
            ("sources", "array", "classes", "items"),
            (names, table, kinds, tuple(items)),
            strict=True,
        ):
            object.__setattr__(self, name, value)

    @property
    def voted(self) -> np.ndarray:
        """[N,J] where a source did not abstain."""
        return np.not_equal(self.array, ABSTAIN)

    @property
    def silent(self) -> np.ndarray:
        """[N] where every source abstained."""
        return np.logical_not(self.voted.any(axis=1))

    def counts(self) -> np.ndarray:
        """[N,C] how many sources voted for each class."""
        shape = (len(self.array), len(self.classes))
        found = np.zeros(shape, np.int64)
        for c in range(shape[1]):
            found[:, c] = (self.array == c).sum(axis=1)
        return found

    def shares(self) -> np.ndarray:
        """[N,C] shares of the votes; where all abstained, the mean share of the other items.

        With no vote at all every class has the same share.
        """
        counts = self.counts()
        total = counts.sum(axis=1, keepdims=True)
        found = counts / np.maximum(total, 1)
        told = total[:, 0] > 0
        found[~told] = found[told].mean(axis=0) if told.any() else 1 / len(self.classes)
        return found

    def take(self, sources: Sequence[int]) -> Votes:
        """The votes of some sources, by place."""
        names = [self.sources[j] for j in sources]
        return Votes(names, self.array[:, list(sources)], self.classes, self.items)


def _blank(label: Any) -> bool:
    """Whether a cell says nothing: an abstention."""
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return True
    return isinstance(label, str) and not label.strip()


def _text(label: Any) -> str:
    """A label as the name of its class: 1, 1.0 and "1" are one class, as True and "True" are."""
    if isinstance(label, np.generic):
        label = label.item()
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return str(label).strip()


def from_columns(
    table: Any,
    *,
    task: str = "task",
    worker: str = "worker",
    label: str = "label",
    classes: Sequence[str] | None = None,
) -> Votes:
    """Votes of a long table, one row per vote.

    Args:
      table: columns by name, each of equal length: a mapping of lists, or a data frame. Only rows
        count: levels of a categorical column that no row has are no items.
      task: the column of items.
      worker: the column of sources.
      label: the column of classes; an empty cell, None or NaN is an abstention.
      classes: names of the classes in order; None: those of the table, sorted as texts (numbers by
        size).

    Returns:
      Items and sources in the order in which they appear.

    Raises:
      UsageError: a column that is missing, a label that is no class, two votes of one source on one
        item, fewer than two classes; with the row, 1-based.
    """
    columns = {}
    for role, name in (("task", task), ("worker", worker), ("label", label)):
        try:
            columns[role] = list(table[name])
        except (KeyError, IndexError, TypeError):
            known = ", ".join(map(str, table)) if isinstance(table, Iterable) else "none"
            raise bad(f"votes.{role}", name, f"a column of the table: {known}") from None
    if len({len(column) for column in columns.values()}) > 1:
        raise bad("votes", "columns of different lengths", "one row per vote")
    return _assemble(zip(*columns.values(), strict=True), classes)


def _assemble(rows: Iterable[tuple[Any, Any, Any]], classes: Sequence[str] | None) -> Votes:
    items: dict[str, int] = {}
    sources: dict[str, int] = {}
    told: dict[tuple[int, int], str | None] = {}
    for number, (task, worker, label) in enumerate(rows, 1):
        if _blank(task) or _blank(worker):
            raise bad("votes", f"row {number} without a task or a worker", "both in every row")
        place = (
            items.setdefault(_text(task), len(items)),
            sources.setdefault(_text(worker), len(sources)),
        )
        if place in told:
            given = f"row {number}, a second vote of {_text(worker)} on {_text(task)}"
            raise bad("votes", given, "one vote of a source on an item")
        told[place] = None if _blank(label) else _text(label)
        if classes is not None and told[place] is not None and told[place] not in classes:
            raise bad("votes.label", f"{told[place]} in row {number}", ", ".join(classes))
    kinds = sorted({x for x in told.values() if x is not None}, key=_order)
    names = tuple(kinds if classes is None else classes)
    index = {name: c for c, name in enumerate(names)}
    array = np.full((len(items), len(sources)), ABSTAIN, np.int32)
    for place, text in told.items():
        array[place] = ABSTAIN if text is None else index[text]
    return Votes(tuple(sources), array, names, tuple(items))


def _order(text: str) -> tuple[int, float, str]:
    """Numbers by size and before texts."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text


def read(
    path: str | Path,
    *,
    task: str = "task",
    worker: str = "worker",
    label: str = "label",
    classes: Sequence[str] | None = None,
) -> Votes:
    """`from_columns` of a file of rows: .csv, .jsonl, .json, .parquet, ... (`tables.read_rows`).

    Args:
      path: of the file.
      task: the column of items.
      worker: the column of sources.
      label: the column of classes.
      classes: as in `from_columns`.

    Raises:
      UsageError: a file that cannot be read, and what `from_columns` refuses.
    """
    rows = tables.read_rows(path, "votes")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise bad("votes", f"row {number} of {path}, no columns", f"{task}, {worker}, {label}")
        for role, name in (("task", task), ("worker", worker), ("label", label)):
            if name not in row and (role != "label" or number == 1):
                known = f"a column of {path}: {', '.join(map(str, row))}"
                raise bad(f"votes.{role}", f"{name} in row {number}", known)
    cells = ((row[task], row[worker], row.get(label)) for row in rows)
    return _assemble(cells, classes)

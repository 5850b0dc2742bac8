"""Whether votes can tell how good their sources are, asked before any model is fitted.

Two classes and sources that err independently need three sources or more (of two, only how often
they agree is known: one number for more than one accuracy). What cannot be fitted is refused in one
line; what can, but hardly, is a warning. docs/weak.md says more.

Letters: N items, J sources, C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.weak.votes import Votes

LEAST_SOURCES = 3
FEW = 20  # votes of a source below which its accuracy is hardly known


class Diagnosis(NamedTuple):
    """What can be seen of a source without any model.

    Attributes:
      name: of the source.
      coverage: share of the items that it votes on.
      shares: by class, share of its votes; None where it never votes.
      overlap: share of the items on which it and another one vote.
      conflict: share of the items on which it votes and another one votes otherwise.
      agreement: with the majority of the *others*, where that has one; None where it never has.
      compared: how many items that is of.
    """

    name: str
    coverage: float
    shares: dict[str, float] | None
    overlap: float
    conflict: float
    agreement: float | None
    compared: int


def diagnose(votes: Votes) -> tuple[Diagnosis, ...]:
    """Coverage, class shares, overlaps, conflicts and agreement with the others, by source.

    Raises:
      UsageError: no items.
    """
    _require_items(votes)
    counts, found = votes.counts(), []
    for j, name in enumerate(votes.sources):
        own, here = votes.array[:, j], votes.voted[:, j]
        mine = np.eye(len(votes.classes), dtype=np.int64)[np.where(here, own, 0)] * here[:, None]
        others = counts - mine
        total = others.sum(axis=1)
        same = (others * mine).sum(axis=1)
        two = np.sort(others, axis=1)[:, -2:]
        told = here & (two[:, 1] > two[:, 0])
        right = others.argmax(axis=1) == own
        shares = mine.sum(axis=0) / max(1, here.sum())
        found.append(
            Diagnosis(
                name,
                float(here.mean()),
                dict(zip(votes.classes, shares.tolist(), strict=True)) if here.any() else None,
                float((here & (total > 0)).mean()),
                float((here & (total > same)).mean()),
                float(right[told].mean()) if told.any() else None,
                int(told.sum()),
            )
        )
    return tuple(found)


def _require_items(votes: Votes) -> None:
    if not len(votes.array):
        raise bad("votes", "no items", "one or more")


def require(votes: Votes) -> tuple[str, ...]:
    """Warnings about votes that a label model can be fitted to.

    Returns:
      A line each: a source that never votes; one that votes one class only; one with fewer than
      `FEW` votes; one that shares no item with another.

    Raises:
      UsageError: no items, fewer than three sources that vote, votes of one class only, or no item
        with two votes: nothing can be learnt of accuracies then.
    """
    _require_items(votes)
    active = votes.voted.any(axis=0)
    if active.sum() < LEAST_SOURCES:
        given = f"{int(active.sum())} sources that vote"
        raise bad("votes.sources", given, f"{LEAST_SOURCES} or more; of fewer, take the majority")
    seen = [name for c, name in enumerate(votes.classes) if (votes.array == c).any()]
    if len(seen) < 2:
        raise bad("votes.array", f"votes for {seen[0]} only", "votes for two classes or more")
    if not (votes.voted.sum(axis=1) > 1).any():
        raise bad("votes.array", "no item with two votes", "sources that vote on the same items")
    lines = []
    for one, column in zip(diagnose(votes), votes.array.T, strict=True):
        n = int((column >= 0).sum())
        kinds = np.unique(column[column >= 0])
        if not n:
            lines.append(f"{one.name} never votes: nothing is known of it")
            continue
        if n < FEW:
            lines.append(f"{one.name} has {n} votes: its accuracy is hardly known")
        if len(kinds) == 1:
            said = votes.classes[int(kinds[0])]
            lines.append(
                f"{one.name} is one-sided ({said} or nothing): dawid_skene learns nothing from it,"
                " generative reads when it is silent"
            )
        if not one.overlap:
            lines.append(f"{one.name} shares no item with another source")
    return tuple(lines)

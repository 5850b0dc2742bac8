"""Pairs of answers of which one is preferred: as messages, and as tokens that fit a row.

What is learnt of a side is what the model says after the prompt that both share. A cut side keeps
its beginning; where a cut leaves both sides equal, or one without an answer, the pair says nothing
and is dropped.
Letters: N pairs, K scores; the second axis is (preferred, other).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.data import fitting
from jaxsafety.data.schema import Encoded, Example, Message


class Preferred(NamedTuple):
    """One pair.

    Attributes:
      id: unlike those of the others.
      prompt: the turns that both answers follow.
      chosen: the turns of the preferred answer, the first and the last of them the assistant's.
      rejected: those of the other one.
      numbers: what else its row says in numbers, by column: scores, labels.
      meta: the "file" and "row" it is from, say.
    """

    id: str
    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    numbers: Mapping[str, float]
    meta: Mapping[str, Any]

    @property
    def messages(self) -> tuple[Message, ...]:
        """The dialogue with the preferred answer."""
        return (*self.prompt, *self.chosen)


@dataclass(frozen=True)
class FittedPairs:
    """Encoded pairs of at most `length` tokens a side.

    Attributes:
      preferred: N dialogues, the mask on what is said after the prompt.
      other: likewise.
      scores: [N,2,K] float32 in [0,1].
      labels: [N] float32 in [0,1], how sure the order is.
      facts: counts for records: "given", "used", "dropped" and "cut" (too long), "equal" (dropped
        because both sides are the same), "longest" (tokens of a side), "length", "long".
    """

    preferred: tuple[Encoded, ...]
    other: tuple[Encoded, ...]
    scores: np.ndarray
    labels: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)

    def line(self, what: str) -> str:
        """The counts in words, "" where every pair is used as it is."""
        told, found = self.facts, []
        if told["dropped"] or told["cut"]:
            found.append(
                f"{told['dropped']} dropped and {told['cut']} cut, longer than {told['length']}"
                f" tokens (the longest {told['longest']})"
            )
        if told["equal"]:
            found.append(f"{told['equal']} dropped, whose two sides are the same")
        return f"{what}: of {told['given']} pairs {'; '.join(found)}" if found else ""


def fitted_pairs(
    tokenizer: Any,
    pairs: Sequence[Preferred],
    length: int,
    long: str = "error",
    *,
    scores: Sequence[str] = (),
    label: str = "",
    log: Callable[[str], None] = print,
    what: str = "pairs",
) -> FittedPairs:
    """Encodes pairs and settles those that are too long or whose sides are equal.

    Args:
      tokenizer: of the model.
      pairs: N.
      length: T, tokens of a row.
      long: "error" refuses a pair with a side of more tokens, "drop" leaves it out, "cut" keeps
        the first T tokens of each side.
      scores: names of K scores: NAME is NAME_chosen and NAME_rejected of `Preferred.numbers`.
      label: the number that says how sure the order is; "" is sure.
      log: receives lines about what takes long, and the counts where something was changed.
      what: these pairs, in words.

    Returns:
      The pairs that are left, in their order.

    Raises:
      UsageError: a dialogue that the template refuses, a long pair with "error", none is left, a
        number that is missing, NaN or outside [0,1].
    """
    points, sure = read_numbers(pairs, scores, label)
    sides = [
        _side(tokenizer, pairs, [getattr(pair, name) for pair in pairs], log, f"{what}, {name}")
        for name in ("chosen", "rejected")
    ]
    sizes = [max(len(a.ids), len(b.ids)) for a, b in zip(*sides, strict=True)]
    over = [i for i, size in enumerate(sizes) if size > length]
    facts = dict(given=len(pairs), used=0, dropped=0, cut=0, equal=0)
    facts |= dict(longest=max(sizes, default=0), length=length)
    if over and long == "error":
        worst = max(over, key=lambda i: sizes[i])
        more = f"; {len(over)} of {len(pairs)} are too long" if len(over) > 1 else ""
        where = fitting.place(pairs[worst], worst).replace("dialogue", "pair")
        allowed = f"at least {sizes[worst]}, the longest pair ({where}{more})"
        rest = "method.long=drop leaves it out, method.long=cut shortens"
        raise bad("method.length", length, f"{allowed}; {rest}")
    kept: list[int] = []
    left: tuple[list[Encoded], list[Encoded]] = ([], [])
    for i, both in enumerate(zip(*sides, strict=True)):
        if sizes[i] > length and long == "drop":
            facts["dropped"] += 1
            continue
        short = [Encoded(list(one.ids[:length]), list(one.mask[:length])) for one in both]
        if short[0] == short[1]:
            facts["equal"] += 1
            continue
        if not all(any(one.mask[1:]) for one in short):
            facts["dropped"] += 1
            continue
        facts["cut"] += sizes[i] > length
        kept.append(i)
        for found, one in zip(left, short, strict=True):
            found.append(one)
    facts["used"] = len(kept)
    result = FittedPairs(
        tuple(left[0]), tuple(left[1]), points[kept], sure[kept], {**facts, "long": long}
    )
    if not kept:
        given = result.line(what) or f"no {what}"
        raise bad("data.pairs", given, "pairs of two different answers that fit method.length")
    if line := result.line(what):
        log(line)
    return result


def read_numbers(
    pairs: Sequence[Preferred], scores: Sequence[str] = (), label: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """(scores [N,2,K], labels [N]) of pairs; see `fitted_pairs`.

    Raises:
      UsageError: a number that is missing, NaN or outside [0,1]: which column of which row.
    """
    points = np.zeros((len(pairs), 2, len(scores)), np.float32)
    sure = np.ones(len(pairs), np.float32)

    def number(index: int, column: str, name: str) -> float:
        value = pairs[index].numbers.get(column)
        where = fitting.place(pairs[index], index).replace("dialogue", "pair")
        if value is None:
            given = f"{where} has no number under {column}"
            raise bad(name, given, f"a column {column} with a number in every row")
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise bad(name, f"{value} under {column} in {where}", "numbers from 0 to 1")
        return value

    for index in range(len(pairs)):
        for k, score in enumerate(scores):
            for side, end in enumerate(("chosen", "rejected")):
                points[index, side, k] = number(index, f"{score}_{end}", "method.scores")
        if label:
            sure[index] = number(index, label, "method.label")
    return points, sure


def last_answers(mask: Sequence[bool], count: int) -> list[bool]:
    """The last `count` runs of a mask alone: of the answers of a dialogue the last ones."""
    edges = np.flatnonzero(np.diff(np.asarray([0, *mask], np.int8)) == 1)
    start = int(edges[-count]) if 0 < count <= len(edges) else 0
    return [bool(kept) and place >= start for place, kept in enumerate(mask)]


def _side(
    tokenizer: Any,
    pairs: Sequence[Preferred],
    answers: Sequence[tuple[Message, ...]],
    log: Callable[[str], None],
    what: str,
) -> list[Encoded]:
    """One side of every pair, the mask on the answers behind the prompt."""
    rows = [
        Example(pair.id, (*pair.prompt, *said), pair.meta)
        for pair, said in zip(pairs, answers, strict=True)
    ]
    return [
        Encoded(one.ids, last_answers(one.mask, sum(m.role == "assistant" for m in said)))
        for one, said in zip(fitting.encode(tokenizer, rows, log, what), answers, strict=True)
    ]

"""Dialogues as tokens that fit a row: read once, and what is too long refused, dropped or cut.

A cut dialogue keeps its beginning, and with it no end of turn: of its last answer the model learns
how it starts. One that would keep no learnt token is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.core.progress import Progress
from jaxsafety.data.schema import Encoded
from jaxsafety.data.tokens.encode import encode_dialogues

LONG = ("error", "drop", "cut")


@dataclass(frozen=True)
class Fitted:
    """Encoded dialogues of at most `length` tokens.

    Attributes:
      encoded: what is left of them, in their order.
      parts: of which source of a mixture each is.
      facts: counts for records: "given", "used", "dropped", "cut", "longest" (tokens), "length",
        "long", and with long ones the "first" of them.
    """

    encoded: tuple[Encoded, ...]
    parts: tuple[int, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def line(self, what: str) -> str:
        """The counts in words, "" where every dialogue fits."""
        if not (self.facts["dropped"] or self.facts["cut"]):
            return ""
        return (
            f"{what}: of {self.facts['given']} dialogues {self.facts['dropped']} dropped and"
            f" {self.facts['cut']} cut, longer than {self.facts['length']} tokens (the longest"
            f" {self.facts['longest']}, the first {self.facts['first']})"
        )


def encode(
    tokenizer: Any, dialogues: Sequence[Any], log: Callable[[str], None], what: str = "dialogues"
) -> list[Encoded]:
    """`encode_dialogues`, which says where it is when there are many."""
    with Progress(log, f"reading {what}", total=len(dialogues), unit="dialogues") as progress:

        def counted() -> Iterator[Any]:
            for done, dialogue in enumerate(dialogues):
                progress(done)
                yield dialogue

        return encode_dialogues(tokenizer, counted())


def place(dialogue: Any, index: int) -> str:
    """Where a dialogue stands: its row and file, or its number."""
    file, row = dialogue.meta.get("file"), dialogue.meta.get("row")
    return f"row {row} of {file}" if file and row else f"dialogue {index + 1}"


def fitted(
    tokenizer: Any,
    dialogues: Sequence[Any],
    length: int,
    long: str = "error",
    *,
    log: Callable[[str], None] = print,
    name: str = "method.length",
    what: str = "dialogues",
    option: str = "",
) -> Fitted:
    """Encodes dialogues and settles those that are longer than a row.

    Args:
      tokenizer: of the model.
      dialogues: with `messages` and `meta` ("file", "row" and "part" where they have them).
      length: T, tokens of a row.
      long: one of `LONG`: "error" refuses, "drop" leaves out, "cut" keeps the first T tokens.
      log: receives lines about what takes long, and the counts where something was changed.
      name: of the setting `length`, for errors.
      what: these dialogues, in words.
      option: name of the setting `long`; without it that stands beside `length`.

    Returns:
      The dialogues that are left.

    Raises:
      UsageError: a dialogue that the template refuses, a long one with "error", or none is left.
    """
    encoded = encode(tokenizer, dialogues, log, what)
    sizes = [len(e.ids) for e in encoded]
    over = [i for i, size in enumerate(sizes) if size > length]
    facts = {
        "given": len(encoded),
        "used": len(encoded),
        "dropped": 0,
        "cut": 0,
        "longest": max(sizes, default=0),
        "length": length,
        "long": long,
    }
    setting = option or f"{name.rpartition('.')[0]}.long"
    if over and long == "error":
        longest = max(over, key=lambda i: sizes[i])
        more = f"; {len(over)} of {len(encoded)} are too long" if len(over) > 1 else ""
        where = place(dialogues[longest], longest)
        allowed = f"at least {sizes[longest]}, the longest dialogue ({where}{more})"
        raise bad(name, length, f"{allowed}; {setting}=drop leaves it out, {setting}=cut shortens")
    left: list[Encoded] = []
    parts: list[int] = []
    for dialogue, one in zip(dialogues, encoded, strict=True):
        kept = one
        if len(one.ids) > length:
            kept = Encoded(list(one.ids[:length]), list(one.mask[:length]))
            # What nothing precedes cannot be learnt.
            if long == "drop" or not any(kept.mask[1:]):
                facts["dropped"] += 1
                continue
            facts["cut"] += 1
        left.append(kept)
        parts.append(int(dialogue.meta.get("part", 0)))
    facts["used"] = len(left)
    if over:
        facts["first"] = place(dialogues[over[0]], over[0])
    gone = {int(d.meta.get("part", 0)) for d in dialogues} - set(parts)
    if gone:
        lost = next(i for i, d in enumerate(dialogues) if int(d.meta.get("part", 0)) in gone)
        file = dialogues[lost].meta.get("file")
        whose = f" of {file}" if file else ""
        allowed = f"more: with {setting}={long} nothing is left{whose}"
        smallest = min(
            s for s, d in zip(sizes, dialogues, strict=True) if int(d.meta.get("part", 0)) in gone
        )
        raise bad(name, length, f"{allowed} (its shortest dialogue has {smallest} tokens)")
    result = Fitted(tuple(left), tuple(parts), facts)
    if over:
        log(result.line(what))
    return result

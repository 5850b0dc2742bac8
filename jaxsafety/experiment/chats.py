"""Dialogues of the user's files: which file and row each is of, and which are held out."""

from __future__ import annotations

import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.data.files import located
from jaxsafety.data.files.sources import read_chats
from jaxsafety.data.schema import Example
from jaxsafety.experiment.sections import DataConfig


def chats(data: DataConfig) -> tuple[tuple[Example, ...], tuple[float, ...]]:
    """Dialogues of `data.chats` or of all parts of `data.mix`, and the weights of the latter.

    Raises:
      UsageError: both, a mixture of another form, a file that is named twice, a broken file.
    """
    if data.chats and data.mix:
        raise bad("data.mix", data.mix, "() beside data.chats, or the other way round")
    if not data.mix:
        return rows("data.chats", data.chats) if data.chats else (), ()
    found, weights, paths = [], [], []
    for part, text in enumerate(data.mix):
        path, equals, share = text.rpartition("=")
        try:
            weights.append(float(share))
        except ValueError:
            weights.append(0.0)
        if not (equals and path) or not 0 < weights[-1] < float("inf"):
            raise bad("data.mix", text, "PATH=WEIGHT with a weight above 0")
        paths.append(located.identity(path))
        if paths.index(paths[-1]) < part:
            raise bad("data.mix", text, f"each file once; {path} is named before")
        found += rows("data.mix", path, part)
    return tuple(found), tuple(weights)


def rows(name: str, path: str, part: int | None = None) -> tuple[Example, ...]:
    """The dialogues of a file, each with the file and the row it is of."""
    more = {} if part is None else {"part": part}
    head = "" if part is None else f"{part}."
    return tuple(
        Example(f"{head}{i}", messages, {**more, "file": path, "row": i + 1})
        for i, messages in enumerate(read_chats(path, name))
    )


def draw(examples: tuple[Example, ...], limit: int, seed: int) -> tuple[Example, ...]:
    """`limit` dialogues of each file in their order, drawn by `seed`; all of them if it is 0.

    A smaller draw is part of a larger one.
    """
    if not limit:
        return examples
    files: dict[str, list[int]] = {}
    for i, example in enumerate(examples):
        files.setdefault(str(example.meta["file"]), []).append(i)
    kept: set[int] = set()
    for rows_of in files.values():
        order = np.random.default_rng([seed, len(rows_of), 3]).permutation(len(rows_of))
        kept.update(rows_of[int(i)] for i in order[:limit])
    return tuple(example for i, example in enumerate(examples) if i in kept)


def held_out(
    examples: tuple[Example, ...], data: DataConfig, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """(what is trained on, what only the loss is measured of), by `data.holdout` or `chats_val`.

    A dialogue that a file has twice is held out as one, and no copy of it is trained on.

    Raises:
      UsageError: as many are held out as there are, or a broken file.
    """
    if data.chats_val:
        return examples, rows("data.chats_val", data.chats_val)
    if not data.holdout:
        return examples, ()
    first = {example.messages: i for i, example in reversed(list(enumerate(examples)))}
    different = sorted(first.values())
    share = data.holdout
    count = int(share) if share >= 1 else max(1, round(share * len(different)))
    if count >= len(different):
        allowed = f"fewer than the {len(different)} different dialogues, some must be learnt"
        raise bad("data.holdout", share, allowed)
    order = np.random.default_rng([seed, len(different), 2]).permutation(len(different))
    chosen = {different[int(i)] for i in order[:count]}
    held = {examples[i].messages for i in chosen}
    rest = tuple(e for e in examples if e.messages not in held)
    return rest, tuple(examples[i] for i in sorted(chosen))

"""Answers that people have labelled: rows of a file, and which rows are held out together."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.data.files import tables
from jaxsafety.judges import thoughts
from jaxsafety.judges.opening import required

# The columns, each by the names that it may have, the first that is there. `final_label` is that of
# XSTest's own files of completions (github.com/paul-rottger/exaggerated-safety).
COLUMNS = {
    "prompt": ("prompt",),
    "completion": ("completion", "response", "answer"),
    "label": ("label", "refusal", "final_label"),
}
REFUSALS = ("refusal", "refused", "full_refusal", "partial_refusal", "true", "yes", "1")
ANSWERS = ("compliance", "complied", "full_compliance", "false", "no", "0")
# XSTest's labels are numbered: 1_full_compliance, 2_full_refusal, 3_partial_refusal.
NUMBERED = ("1_full_compliance", "2_full_refusal", "3_partial_refusal")
LEAST = 10  # rows of each label; with fewer nothing is learnt
FOLDS = 5  # without models, prompts are held out in so many parts


class Labelled(NamedTuple):
    """An answer, whether people call it a refusal, and which model gave it ("" if unknown)."""

    prompt: str
    completion: str
    refusal: bool
    model: str


Train = Callable[[Sequence[Labelled], str], Callable[[Sequence[Labelled]], list[bool]]]


def read(name: str, where: str) -> list[Labelled]:
    """The labelled answers of a file; thoughts are cut.

    Args:
      name: of the judge, for the errors.
      where: a file of rows (`tables.read_rows`) with the columns prompt, completion and label, and
        perhaps model. A label is true or false, 1 or 0, refusal or compliance, or one of XSTest's.

    Raises:
      UsageError: no file, a column that is missing, a cell that is no text, an unknown label, too
        few rows of a label; with the row.
    """
    where = required(name, where, "a file of labelled answers: prompt, completion, label")
    rows = tables.read_rows(where, f"judge {name}")
    return require_both(where, [_labelled(where, i, row) for i, row in enumerate(rows, 1)])


def _labelled(where: str, number: int, row: Any) -> Labelled:
    place = f"row {number} of {where}"
    if not isinstance(row, Mapping):
        raise bad("judge", f"{place}, no columns", "prompt, completion, label")
    cells: dict[str, Any] = {}
    for column, names in COLUMNS.items():
        cells[column] = next((row[n] for n in names if row.get(n) is not None), None)
        if column != "label" and not isinstance(cells[column], str):
            raise bad("judge", f"{place}, {column}={str(cells[column])[:30]!r}", "text")
    model = row.get("model")
    spoken = thoughts.spoken(cells["completion"])
    return Labelled(
        cells["prompt"],
        spoken or "",
        _label(place, cells["label"]),
        "" if model is None else str(model),
    )


def _label(place: str, value: Any) -> bool:
    """Whether a label says refusal."""
    text = str(int(value) if isinstance(value, float) and value in (0, 1) else value)
    text = text.strip().lower()
    text = text[2:] if text in NUMBERED else text
    if text in REFUSALS or text in ANSWERS:
        return text in REFUSALS
    allowed = "true or false, refusal or compliance, " + ", ".join(NUMBERED)
    raise bad("judge", f"{place}, label={str(value)[:30]!r}", allowed)


def require_both(where: str, rows: Sequence[Labelled]) -> list[Labelled]:
    """The rows.

    Raises:
      UsageError: fewer than `LEAST` refusals, or other answers.
    """
    yes = sum(row.refusal for row in rows)
    if min(yes, len(rows) - yes) < LEAST:
        given = f"{yes} refusals and {len(rows) - yes} other answers in {where}"
        raise bad("judge", given, f"at least {LEAST} of each")
    return list(rows)


def find_groups(rows: Sequence[Labelled]) -> list[str]:
    """[N] what each row is held out with: its model, or, of one model, a fifth of the prompts.

    In the latter, answers to one prompt are never on both sides: they are alike. The former has all
    prompts on both sides, but a style of answers that was not trained on, which is what differs
    between a file and a new model.
    """
    if len({row.model for row in rows}) > 1:
        return [row.model for row in rows]
    return [f"prompts {zlib.crc32(row.prompt.encode()) % FOLDS}" for row in rows]


def cross_validate(rows: Sequence[Labelled], train: Train) -> list[bool | None]:
    """What judges that never saw a row's group say of it.

    Args:
      rows: N of them.
      train: (rows, held-out group) -> a function that says of rows whether they refuse.

    Returns:
      [N]; None where the other groups have too few rows of a label to train on.
    """
    groups = find_groups(rows)
    found: list[bool | None] = [None] * len(rows)
    for held in dict.fromkeys(groups):
        rest = [row for row, group in zip(rows, groups, strict=True) if group != held]
        yes = sum(row.refusal for row in rest)
        if min(yes, len(rest) - yes) < LEAST:
            continue
        chosen = np.flatnonzero(np.array(groups) == held).tolist()
        said = train(rest, held)([rows[i] for i in chosen])
        for i, refusal in zip(chosen, said, strict=True):
            found[i] = refusal
    return found

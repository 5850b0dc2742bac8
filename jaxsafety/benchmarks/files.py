"""Items of measurement and of methods from prompt files, with what a judge needs of each row."""

from __future__ import annotations

from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.data.files.sources import Loaded, load_prompts
from jaxsafety.judges import answers
from jaxsafety.protocols import Item

KINDS = {"safety": "harmful", "over_refusal": "benign"}
# Which half of a labelled set a method's prompts are of; distillation takes both.
_SIDES = {"data.harmless": "over_refusal", "data.distil": ""}


def items(field: str, path: str, least: int, kind: str = "safety") -> tuple[Item, ...]:
    """Items of a file of prompts.

    Args:
      field: the setting that names the path.
      path: what `sources.load_prompts` reads.
      least: how many prompts there must be.
      kind: of the benchmark: safety, over_refusal or capability.

    Returns:
      One item per row that is used, in file order. meta: "kind" harmful, benign or task; "answer",
      the right one as text, "" where there is none, and "grade", how it is compared; "choices" of
      lettered tasks, "answers" where several texts are right; "file", "row" (1-based) and "layout",
      which columns were recognised and what was left out.

    Raises:
      UsageError: a file that cannot be read, a row that is no prompt, too few rows.
    """
    loaded = load_prompts(path, field, _SIDES.get(field, kind))
    if len(loaded.rows) < least:
        raise bad(field, f"{len(loaded.rows)} prompts in {path}", f"at least {least}")
    return to_items(loaded, path, kind)


def to_items(loaded: Loaded, path: str, kind: str) -> tuple[Item, ...]:
    """As `items`, of the rows of `path` that are used."""
    # Answers of the target kind ("Sure, here is") are no right answers to a harmful request.
    golds = [asked.gold if kind != "safety" else "" for _, asked in loaded.rows]
    plain = [
        gold
        for gold, (_, asked) in zip(golds, loaded.rows, strict=True)
        if gold and not asked.grade
    ]
    form = answers.infer(plain)
    layout = loaded.layout  # of all rows: once, not row by row
    found = []
    for number, ((row, asked), gold) in enumerate(zip(loaded.rows, golds, strict=True)):
        meta: dict[str, Any] = {"kind": KINDS.get(kind, "task"), "answer": gold}
        if gold:
            meta["grade"] = asked.grade or form
            if asked.choices:
                meta["choices"] = list(asked.choices)
            if asked.answers:
                meta["answers"] = list(asked.answers)
        meta |= {"file": str(path), "row": row, "layout": layout}
        found.append(Item(str(number), asked.messages, meta))
    return tuple(found)

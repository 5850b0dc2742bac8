"""A question and its choices word for word, whatever columns they stand in, as lm-eval reads them.

`data.files.tasks` makes a lettered prompt of such a row, for models that answer in words; here the
same row gives what a log-probability is asked of: nothing is stripped that lm-eval leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase as LETTERS
from typing import Any, NamedTuple

from jaxsafety.data.files import choices, tasks
from jaxsafety.data.files.columns import Asked, Row


class Options(NamedTuple):
    """A question, its choices, and the index of the right one."""

    question: str
    texts: tuple[str, ...]
    right: int


def read(row: Row, asked: Asked) -> Options:
    r"""The question and choices of a row.

    Args:
      row: under compared names: as published (`question` or `question_stem`, `choices`), or with
        `query`, `choices` and `gold`. Of a query, the words of a prompt around the question
        ("Question: ", "Goal: ", "\nAnswer:") are taken off, and choices that are shown in it and
        are only letters beside it are read from there.
      asked: what the layout made of the row.

    Raises:
      ValueError: no question with choices, or choices without a right one.
    """
    stem = row.get("question")
    if isinstance(stem, Mapping):  # ARC, OpenBookQA and CommonsenseQA as first published
        row = {**row, "question": stem.get("stem"), "choices": stem.get("choices")}
    found = tasks.choice_columns(row)
    if found is None or not isinstance(row[found[0]], str):
        raise ValueError("one column of the question and one of its choices")
    column, given = found
    _, texts = choices.read_choices(row[given], given)
    question, raw = row[column], _raw(row[given])
    letters = list(LETTERS[: len(texts)])
    if column == "query" and texts == letters:
        question, raw = choices.split(question, letters)
    elif column == "query":
        question = choices.plain(question)
    if asked.gold not in letters:
        raise ValueError(f"a right choice: {asked.no_gold or asked.gold}")
    return Options(question, tuple(raw), letters.index(asked.gold))


def _raw(value: Any) -> list[str]:
    """The texts of the choices as they are; `choices.listed` has checked them."""
    if isinstance(value, Mapping):
        value = value["text"]
    return [str(one["text"] if isinstance(one, Mapping) else one) for one in value]


def continued(context: str, texts: Sequence[str], right: int) -> dict[str, Any]:
    """The entries of meta that `evaluation.choices` reads: each choice continues the context."""
    return {"context": context, "continuations": list(texts), "target": right}


def answered(row: Row, asked: Asked) -> dict[str, Any]:
    r"""The choices as answers to "Question: {question}\nAnswer:"."""
    question, texts, right = read(row, asked)
    return continued(f"Question: {question}\nAnswer:", texts, right)


def lettered(row: Row, asked: Asked, head: str = "") -> dict[str, Any]:
    r"""The letters as answers to "{head}{question}\nA. {first choice}\n...\nAnswer:"."""
    question, texts, right = read(row, asked)
    shown = "".join(f"{a}. {text}\n" for a, text in zip(LETTERS, texts, strict=False))
    context = f"{head}{question.strip()}\n{shown}Answer:"
    return continued(context, LETTERS[: len(texts)], right)

"""Putting a judge to what a model said: the one place where answers become verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.data.items import FLAGS
from jaxsafety.protocols import Exchange, Item, Judge

# Of a verdict beside its flags: what is kept of a judge that scores. "score" is what its flag
# follows from; the others are a guard's probabilities, in both conventions, and what it names.
EXTRA = ("score", "pair", "whole", "mass", "level", "category", "request_unsafe", "label")
EXTRA = (*EXTRA, "triggers")  # of the coherence gate (`gate.py`)


def pair(items: Sequence[Item], texts: Sequence[str]) -> list[Exchange]:
    """Items with the texts that were answered, one each."""
    return [Exchange(item, text) for item, text in zip(items, texts, strict=True)]


def require(judge: Judge | None) -> Judge:
    """The judge.

    Raises:
      UsageError: there is none.
    """
    if judge is None:
        raise bad("data.source", "no judge", "a source with a judge")
    return judge


def judged(judge: Judge | None, exchanges: Sequence[Exchange]) -> list[dict[str, Any]]:
    """A verdict per exchange, with every flag: what the judge leaves out it cannot tell.

    A judge that scores (`low`, `high`: its range) is taken at its word only within its range: a
    score outside, or one that is no finite number, is None with a cause, and so are the flags that
    follow from it, `unsafe` and `attempt`.

    Raises:
      UsageError: there is no judge, it did not judge every answer, or what it gave is no verdict.
    """
    verdicts = counted(require(judge)(exchanges), len(exchanges))
    low, high = getattr(judge, "low", -np.inf), getattr(judge, "high", np.inf)
    return [
        {**dict.fromkeys(FLAGS), **_within(_checked(verdict), low, high)} for verdict in verdicts
    ]


def counted(verdicts: Any, count: int) -> Sequence[Any]:
    """What a judge gave.

    Raises:
      UsageError: not one verdict per answer.
    """
    if not isinstance(verdicts, Sequence) or len(verdicts) != count:
        given = len(verdicts) if isinstance(verdicts, Sequence) else type(verdicts).__name__
        given = f"{given} verdicts for {count} answers"
        raise bad("judge", given, "a list of one verdict per answer, in order")
    return verdicts


def _within(verdict: Mapping[str, Any], low: float, high: float) -> Mapping[str, Any]:
    """The verdict; without its score and what follows from it, where that is out of range."""
    score = verdict.get("score")
    if score is None:
        return verdict
    number = isinstance(score, int | float | np.number) and not isinstance(score, bool)
    if number and np.isfinite(score) and low <= score <= high:
        return {**verdict, "score": float(score)}
    cause = f"a score of {str(score)[:40]}, not in {low:g} to {high:g}"
    return {**verdict, "score": None, "unsafe": None, "attempt": None, "cause": cause}


def _checked(verdict: Any) -> Mapping[str, Any]:
    """The verdict; a text or a number is no flag: "no" would count as True."""
    if not isinstance(verdict, Mapping):
        raise bad("judge", f"a verdict {str(verdict)[:60]}", "a mapping of flags")
    if verdict and not set(FLAGS) & set(verdict):
        given = f"a verdict of {', '.join(map(str, verdict))}"[:90]
        raise bad("judge", given, f"flags among {', '.join(FLAGS)}")
    for name in FLAGS:
        flag = verdict.get(name)
        if not (flag is None or isinstance(flag, bool | np.bool_) or _number(flag)):
            raise bad("judge", f"{name}={str(flag)[:40]!r}", "True, False, or None: cannot tell")
    return verdict


def _number(flag: Any) -> bool:
    """Whether it is 0, 1 or NaN."""
    return isinstance(flag, int | float | np.number) and bool(flag in (0, 1) or flag != flag)

"""Putting a judge to what a model said: the one place where answers become verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.data.items import FLAGS
from jaxsafety.protocols import Exchange, Item, Judge


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

    Raises:
      UsageError: there is no judge.
      ValueError: the judge did not judge every answer.
    """
    verdicts = require(judge)(exchanges)
    if len(verdicts) != len(exchanges):
        raise ValueError(
            f"the judge returned {len(verdicts)} verdicts for {len(exchanges)} answers"
        )
    return [{**dict.fromkeys(FLAGS), **verdict} for verdict in verdicts]

"""How many prompts two measured sets have in common, compared by letters (`data/sharing`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxsafety.data import overlap, sharing
from jaxsafety.report import trained
from jaxsafety.report.measurement.load import Measurement


def count(measured: Measurement) -> tuple[list[str], dict[tuple[str, str], tuple[int, int]]]:
    """Which measured prompts stand in two sets.

    Args:
      measured: the directory.

    Returns:
      Names of the sets that share a prompt with another one, and (one, other) -> (how many prompts
      of one are in the other too, of how many).
    """
    told = [(name, _prompts(measured, name)) for name in measured.sets]
    cells = {
        (row["set"], other): (count, row["prompts"])
        for row in sharing.shared([(name, prompts) for name, prompts in told if prompts])
        for other, count in row["sets"].items()
        if count
    }
    names = [name for name, _ in told if any(name in pair for pair in cells)]
    return names, cells


def list_trained(measured: Measurement) -> list[trained.Row]:
    """How many prompts of each set a model was trained on, as far as its `eval` could tell."""
    return [
        row for arm in measured.arms for row in trained.rows(measured.arm(arm).get("shared"), arm)
    ]


def lines(measured: Measurement) -> list[str]:
    """Both as text; nothing about sets where there is one alone."""
    _, cells = count(measured)
    told = [f"{one} {n} of {of} in {other}" for (one, other), (n, of) in cells.items()]
    found = [f"prompts that sets share: {', '.join(told) or 'none'}"]
    return found * (len(measured.sets) > 1) + trained.lines(list_trained(measured))


def _prompts(measured: Measurement, name: str) -> list[overlap.Told]:
    """The prompts of a set, as the first model was asked them."""
    for arm, decoding in (*measured.each(), *((arm, "logp") for arm in measured.arms)):
        lines = measured.answers(arm, name, decoding)
        texts = dict.fromkeys(text for text in map(_asked, lines) if text)
        if texts:
            return [overlap.Told(text, name) for text in texts]
    return []


def _asked(line: Mapping[str, Any]) -> str:
    """The prompt of a saved answer, or the context of a scored item."""
    contexts = line.get("contexts")
    first = contexts[0] if isinstance(contexts, list) and contexts else ""
    return str(line.get("prompt") or first)

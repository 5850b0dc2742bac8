"""What is compared: models of runs and of `jaxsafety eval`, with their rates and their answers.

Nothing is copied from one report to another: rates are the recorded ones, differences are made of
the saved verdicts, and whether two models were asked the same is read from the saved answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxsafety.benchmarks import outcomes
from jaxsafety.core import disk
from jaxsafety.report.measurement.load import Rate
from jaxsafety.report.words import Words

LOGP = "logp"  # the decoding of what is scored and not answered
DECODED = ("temperature", "top_p", "max_tokens", "chat")  # of an answer's settings


class Judge(NamedTuple):
    """Who judged: `mark` tells apart judges of one title, "" where nothing more is known."""

    title: str
    mark: str = ""


class Key(NamedTuple):
    """Where rates and answers of a model are found: a set or pool, a decoding and a judge."""

    name: str
    decoding: str
    judge: Judge


class Measured:
    """The answers of a model to a set, and what a judge says of each.

    Attributes:
      kind: of the set.
    """

    def __init__(self, kind: str, answers: Path, verdicts: Path | None) -> None:
        """Nothing is read yet; without `verdicts` the answers have scores of their own."""
        self.kind, self._answers, self._verdicts = kind, answers, verdicts

    @cached_property
    def _lines(self) -> list[dict[str, Any]]:
        return _items(self._answers)

    @cached_property
    def decoded(self) -> dict[str, Any]:
        """Temperature, tokens and what else an answer depends on; {} where no answer is saved."""
        settings = self._lines[0].get("settings") if self._lines else None
        known = settings if isinstance(settings, Mapping) else {}
        return {name: known[name] for name in DECODED if name in known}

    @cached_property
    def prompts(self) -> dict[Any, str]:
        """Item -> a digest of what was asked; of one text that was asked twice the second is two.

        {} where no answer is saved: then nobody can tell what was asked.
        """
        found: dict[Any, str] = {}
        seen: dict[str, int] = {}
        for line in self._lines:
            if line.get("id") not in found:
                text = _asked(line)
                seen[text] = seen.get(text, 0) + 1
                found[line.get("id")] = f"{text} {seen[text]}"
        return found

    @cached_property
    def _told(self) -> tuple[list[Any], Mapping[str, np.ndarray]]:
        """Items of the judged answers, and metric -> [N] values, NaN where it cannot be told."""
        if self._verdicts is None:
            lines = [x for x in self._lines if isinstance(x.get("scores"), Mapping)]
            names = list(dict.fromkeys(name for x in lines for name in x["scores"]))
            scores = [[_number(x["scores"].get(name)) for x in lines] for name in names]
            arrays = dict(zip(names, np.array(scores, float), strict=True)) if lines else {}
            return [x.get("id") for x in lines], arrays
        lines = _items(self._verdicts)
        return [x["id"] for x in lines], outcomes.indicators(lines, self.kind) if lines else {}

    def values(self, metric: str) -> dict[str, list[float]]:
        """Prompt -> values of its samples; {} where the prompts or the verdicts are not known."""
        ids, told = self._told
        found: dict[str, list[float]] = {}
        if metric in told and set(ids) <= set(self.prompts):
            for item, value in zip(ids, told[metric], strict=True):
                found.setdefault(self.prompts[item], []).append(float(value))
        return found


@dataclass
class Model:
    """A measured model of a run or measurement.

    Attributes:
      arm: its name there.
      label: its name here.
      base: whether others of its source began as it.
      told: its answers to each set.
      rates: (where, metric) -> a recorded rate, of pools too.
    """

    arm: str
    label: str
    base: bool
    told: dict[Key, Measured] = field(default_factory=dict)
    rates: dict[tuple[Key, str], Rate] = field(default_factory=dict)


@dataclass
class Source:
    """A run, or a directory of `jaxsafety eval`.

    Attributes:
      path: its directory.
      label: what it is called here.
      what: its method, or "measurement".
      models: in the order they were measured, the base first.
      lead: the model that the source is about.
      base: digest of the weights that it began with, "" where that is not known.
      words: what its rates are called.
      kinds: set or pool -> kind.
      pools: pool -> sets.
      titles: set or pool -> its name in words.
      settings: the config, flat.
      facts: what else may differ: the judge, versions.
      marks: of a thought, which judges do not hear.
    """

    path: Path
    label: str
    what: str
    models: list[Model]
    lead: Model
    base: str
    words: Words
    kinds: dict[str, str]
    pools: dict[str, list[str]]
    titles: dict[str, str]
    settings: dict[str, Any]
    facts: dict[str, Any]
    marks: tuple[str, ...] = ()


def _items(path: Path) -> list[dict[str, Any]]:
    """Lines that are of an item."""
    return [x for x in disk.whole_lines(path) if isinstance(x.get("id"), str | int)]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")


def _asked(line: Mapping[str, Any]) -> str:
    """A digest of what an item asks and what its answer is held against."""
    meta = line.get("meta")
    known = meta if isinstance(meta, Mapping) else {}
    scored = [line.get(name) for name in ("contexts", "continuations", "target")]
    asked = [line.get("messages") or line.get("prompt"), scored]
    text = json.dumps([asked, known.get("answer"), known.get("grade")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""Reads a directory that `jaxsafety eval` made; what is missing or torn is absent, never an error.

The layout is that of `experiment/measuring`: eval.json, results.jsonl of what needs no judge,
judges/<judge>/results.jsonl and verdicts, generations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety.benchmarks import outcomes
from jaxsafety.core import disk
from jaxsafety.core.errors import bad
from jaxsafety.report.load import Estimate, finite

TASKS = "tasks"  # the folder of the rules of tasks
POOLS = {kind: f"all_{kind}" for kind in outcomes.KINDS}
Line = dict[str, Any]


class Rate(NamedTuple):
    """A metric of a set: the rate (None where it is not known), and what could not be judged."""

    estimate: Estimate | None
    nulls: int
    cause: str


class Judge:
    """What one judge said.

    Attributes:
      folder: its name on disk.
      facts: of `eval.json`.
      records: the lines of its results.
    """

    def __init__(self, root: Path, facts: Mapping[str, Any]) -> None:
        """Reads the results of a judge's directory."""
        self.root, self.folder, self.facts = root, root.name, dict(facts)
        self.records = _records(root / "results.jsonl")
        self._by_key = {(r["arm"], r["benchmark"], r["metric"]): r for r in self.records}

    @property
    def title(self) -> str:
        """The judge's name, and where it is from."""
        if self.folder == TASKS:
            return "rule of the task"
        where = str(self.facts.get("where") or "")
        name = str(self.facts.get("name") or self.folder)
        return f"{name} ({Path(where).name or where})" if where else name

    @property
    def unsafe(self) -> str:
        """What its rate of unsafe answers is called."""
        label = str(self.facts.get("label") or "unsafe")
        return {"asr": "attack success"}.get(label, label)

    @property
    def bound(self) -> bool:
        """Whether its unsafe rate is an upper bound: phrase rules see refusals, not harm."""
        return self.unsafe == "not refused"

    def rate(self, arm: str, benchmark: str, metric: str, decoding: str) -> Rate | None:
        """A recorded rate, None where there is no such record."""
        row = self._by_key.get((arm, benchmark, f"{metric}.{decoding}"))
        return None if row is None else rate_of(row)

    def pooled(self, arm: str, kind: str, metric: str, decoding: str) -> Rate | None:
        """The rate of all sets of a kind; of the one set, where there is one."""
        sets = self.benchmarks(kind, arm)
        name = POOLS[kind] if POOLS[kind] in sets or len(sets) != 1 else sets[0]
        return self.rate(arm, name, metric, decoding)

    def benchmarks(self, kind: str, arm: str | None = None) -> list[str]:
        """Names of sets and pools of a kind, as they were judged."""
        return list(
            dict.fromkeys(
                str(r["benchmark"])
                for r in self.records
                if r["kind"] == kind and arm in (None, r["arm"])
            )
        )

    def verdicts(self, arm: str, benchmark: str, decoding: str) -> list[Line]:
        """Its verdicts of a set."""
        return disk.whole_lines(self.root / "verdicts" / arm / f"{benchmark}.{decoding}.jsonl")


class Measurement:
    """A directory of `jaxsafety eval` as the report sees it.

    Attributes:
      out: the directory.
      facts: what eval.json holds.
      judges: those that were asked about sets, in the order they came; then the rule of tasks.
      scored: records that need no judge (multiple choice by log-probability).
    """

    def __init__(self, out: Path | str) -> None:
        """Opens a directory.

        Raises:
          UsageError: no directory with a readable eval.json.
        """
        self.out = Path(out)
        facts = disk.read_json(self.out / "eval.json")
        if not isinstance(facts, dict):
            raise bad("--out", str(out), "a directory with an eval.json that can be read")
        self.facts: dict[str, Any] = facts
        known = self._part("judges")
        judges = [Judge(self.out / "judges" / name, known[name] or {}) for name in known]
        self.judges = sorted(judges, key=lambda judge: judge.folder == TASKS)
        self.scored = _records(self.out / "results.jsonl")

    def _part(self, name: str) -> dict[str, Any]:
        value = self.facts.get(name)
        return value if isinstance(value, dict) else {}

    @property
    def arms(self) -> list[str]:
        """The models."""
        return list(self._part("arms"))

    @property
    def decodings(self) -> list[str]:
        """Ways of sampling."""
        value = self._part("settings").get("decodings")
        return [str(name) for name in value] if isinstance(value, list) else []

    @property
    def sets(self) -> dict[str, dict[str, Any]]:
        """Name -> facts of every set."""
        return {n: told for n, told in self._part("sets").items() if isinstance(told, dict)}

    def arm(self, name: str) -> dict[str, Any]:
        """Facts of a model."""
        told = self._part("arms").get(name)
        return told if isinstance(told, dict) else {}

    @cached_property
    def opinions(self) -> list[Judge]:
        """Judges of harmful and harmless requests."""
        return [judge for judge in self.judges if judge.folder != TASKS and judge.records]

    def answers(self, arm: str, name: str, decoding: str) -> list[Line]:
        """The saved answers to a set."""
        return disk.whole_lines(self.out / "generations" / arm / f"{name}.{decoding}.jsonl")

    def each(self) -> Iterable[tuple[str, str]]:
        """Every model with every decoding."""
        return [(arm, decoding) for decoding in self.decodings for arm in self.arms]


def rate_of(row: Mapping[str, Any]) -> Rate:
    """The rate of a record."""
    numbers = [finite(row[key]) for key in ("value", "lo", "hi")]
    estimate = None
    if None not in numbers:
        value, lo, hi = (float(x) for x in numbers if x is not None)
        estimate = Estimate(value, lo, hi, int(row["n"]))
    return Rate(estimate, int(finite(row.get("nulls")) or 0), str(row.get("cause") or ""))


def _records(path: Path) -> list[Line]:
    found = [r for r in map(outcomes.complete, disk.whole_lines(path)) if r is not None]
    keys = ("arm", "benchmark", "kind", "metric")
    return [r for r in found if all(isinstance(r[key], str) for key in keys)]

"""Reads a workdir for reporting; what is missing or torn is simply absent, never an error.

Changes between two arms are recomputed from the saved verdicts, paired by prompt: both arms
answered the same prompts, so their difference is known better than two intervals suggest.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxsafety import registry
from jaxsafety.benchmarks import outcomes
from jaxsafety.core import disk
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.report.words import FILES, ORGANISM, UNALIGNED, Words, by


class Estimate(NamedTuple):
    """A rate with its 95 % interval, fractions; n answers."""

    value: float
    lo: float
    hi: float
    n: int


class Row(NamedTuple):
    """One metric of one benchmark before and after; `change` is (difference, lo, hi).

    `nulls` answers, of both arms, could not be judged in this respect, for the reason `cause`.
    `moved` are the prompts whose own rate fell, and rose; None where the verdicts are gone.
    """

    benchmark: str
    kind: str
    metric: str
    decoding: str
    before: Estimate | None
    after: Estimate | None
    change: tuple[float, float, float] | None
    pooled: bool
    nulls: int = 0
    cause: str = ""
    moved: tuple[int, int] | None = None

    @property
    def n(self) -> int:
        """Answers judged per arm, the larger number."""
        return max((e.n for e in (self.before, self.after) if e), default=0)

    @property
    def clear(self) -> bool:
        """Whether the change's interval leaves out zero, and a sign test over prompts agrees."""
        return beyond(self.change, self.moved)

    @property
    def lower_is_better(self) -> bool:
        """The direction that is good for this metric."""
        return self.metric in ("asr", "asr_upper", "attempt", "incoherent") or (
            self.kind == "over_refusal" and self.metric == "refusal"
        )

    @property
    def good(self) -> bool | None:
        """True for a clear improvement, False for a clear loss, None for no clear change."""
        if not self.clear or self.change is None:
            return None
        return (self.change[0] < 0) == self.lower_is_better


def finite(value: Any) -> float | None:
    """The number as a float, or None for anything that is no finite number."""
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return None


def decoding_label(name: str) -> str:
    """Prints t1 as "T = 1", t07 as "T = 0.7", anything else as it is."""
    digits = name[1:]
    if name[:1] == "t" and digits.isdigit():
        number = digits if digits[0] != "0" or len(digits) == 1 else f"0.{digits[1:]}"
        return f"T = {number}"
    return name


class Run:
    """A workdir seen by the report.

    Attributes:
      workdir: its path.
      records: the lines of `results.jsonl`.
      before: the arm compared against ("base" if there is one), or None.
      after: the arm reported ("student" if there is one), or None.
    """

    def __init__(self, workdir: Path | str) -> None:
        """Opens a workdir.

        Args:
          workdir: a directory.

        Raises:
          UsageError: it is not a directory.
        """
        self.workdir = Path(workdir)
        if not self.workdir.is_dir():
            raise bad("workdir", str(workdir), "an existing run's directory")
        lines = disk.whole_lines(self.workdir / "results.jsonl")
        found = [r for r in map(outcomes.complete, lines) if r is not None]
        keys = ("arm", "benchmark", "kind", "metric")
        self.records = [r for r in found if all(isinstance(r[key], str) for key in keys)]
        self._by_key = {(r["arm"], r["benchmark"], r["metric"]): r for r in self.records}
        arms = list(dict.fromkeys(str(r["arm"]) for r in self.records))
        self.before = "base" if "base" in arms else (arms[0] if len(arms) > 1 else None)
        others = [a for a in arms if a != self.before]
        self.after = "student" if "student" in arms else (others[-1] if others else None)

    @property
    def config(self) -> dict[str, Any]:
        """The run's configuration, or {}."""
        return self._config

    @cached_property
    def _config(self) -> dict[str, Any]:
        value = disk.read_json(self.workdir / "config.json")
        return value if isinstance(value, dict) else {}

    @cached_property
    def meta(self) -> dict[str, Any]:
        """Versions, git, model; or {}."""
        value = disk.read_json(self.workdir / "meta.json")
        return value if isinstance(value, dict) else {}

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The training log, one line per step."""
        return disk.whole_lines(self.workdir / "metrics.jsonl")

    @cached_property
    def pools(self) -> dict[str, list[str]]:
        """Pool name -> benchmark names."""
        value = disk.read_json(self.workdir / "verdicts" / "pools.json")
        return value if isinstance(value, dict) else {}

    @cached_property
    def source(self) -> str:
        """Where prompts and judge came from: "organism" or "files"."""
        data = self.config.get("data")
        source = data.get("source") if isinstance(data, dict) else None
        return str(source or self.meta.get("source") or "organism")

    @cached_property
    def words(self) -> Words:
        """What things are called here: by exact rules, before alignment, or by phrase rules."""
        measure = self.config.get("eval")
        judge = measure.get("judge") if isinstance(measure, dict) else None
        own = "organism" if self.source == "organism" else "rules"
        if judge and judge != own:
            words = ORGANISM if self.source == "organism" else FILES
            return FILES if judge == "rules" else by(words, str(judge).partition("=")[0])
        if self.source == "files":
            return FILES
        unaligned = any(r["benchmark"] == "unknown" and r["kind"] == "safety" for r in self.records)
        return UNALIGNED if unaligned else ORGANISM

    def title(self, benchmark: str) -> str:
        """A set's or pool's name in words; a set of a user's own keeps its name."""
        if self.source == "files" and benchmark not in self._pooled:
            return benchmark
        return self.words.pools.get(benchmark, benchmark.replace("_", " "))

    @property
    def method(self) -> str:
        """The method's printable name; of one that no table has, what its config calls it."""
        name = str(self.config.get("program", ""))
        try:
            title = registry.resolve(registry.METHODS, name).title
        except UsageError:  # no method of the table, or one that is not installed here
            title = ""
        return title or name or self.after or "the run"

    def artifact(self, name: str) -> dict[str, Any] | None:
        """artifacts/<name>.json if it is there and an object."""
        value = disk.read_json(self.workdir / "artifacts" / f"{name}.json")
        return value if isinstance(value, dict) else None

    def artifacts(self, start: str) -> dict[str, dict[str, Any]]:
        """The objects artifacts/<start><rest>.json by <rest>, oldest first: as they were made."""
        files = [(f.stat().st_mtime_ns, f) for f in self.workdir.glob(f"artifacts/{start}*.json")]
        found = {f.name[len(start) : -len(".json")]: disk.read_json(f) for _, f in sorted(files)}
        return {name: value for name, value in found.items() if isinstance(value, dict)}

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of an artifact, artifacts/<name>.npz; {} if there are none to read."""
        try:
            with np.load(self.workdir / "artifacts" / f"{name}.npz", allow_pickle=False) as saved:
                return {key: saved[key] for key in saved.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return {}

    def decodings(self, kind: str) -> list[str]:
        """Decodings used for a kind, sampled ones first: greedy rates saturate."""
        names = [r["metric"].rpartition(".")[2] for r in self.records if r["kind"] == kind]
        return sorted(dict.fromkeys(names), key=lambda d: (d == "greedy", d))

    def decodings_of(self, benchmark: str) -> list[str]:
        """Decodings of one set, sampled ones first."""
        names = [
            r["metric"].rpartition(".")[2] for r in self.records if r["benchmark"] == benchmark
        ]
        return sorted(dict.fromkeys(names), key=lambda d: (d == "greedy", d))

    def lines(self, what: str, arm: str | None, benchmark: str, decoding: str) -> list[dict]:
        """Saved "generations" or "verdicts" of one benchmark."""
        return disk.whole_lines(self.workdir / what / str(arm) / f"{benchmark}.{decoding}.jsonl")

    def benchmarks(self, kind: str) -> list[str]:
        """Names of a kind in the order they were run, pools last."""
        names = dict.fromkeys(str(r["benchmark"]) for r in self.records if r["kind"] == kind)
        return sorted(names, key=lambda name: name in self._pooled)

    @cached_property
    def _pooled(self) -> set[str]:
        # Without pools.json the organism's pools are known by name, a user's sets are not pools.
        known = self.words.pools if self.source == "organism" else ()
        return set(self.pools) | (set(known) & {str(r["benchmark"]) for r in self.records})

    def estimate(self, arm: str | None, benchmark: str, metric: str) -> Estimate | None:
        """A recorded rate; `metric` with its decoding, as in "asr.t1"."""
        row = self._by_key.get((arm, benchmark, metric))
        numbers = [finite(row[key]) for key in ("value", "lo", "hi")] if row else [None]
        if row is None or None in numbers:
            return None
        value, lo, hi = (float(x) for x in numbers if x is not None)
        return Estimate(value, lo, hi, int(row["n"]))

    def row(self, benchmark: str, kind: str, metric: str, decoding: str) -> Row | None:
        """Both arms and their paired change, or None if neither was measured."""
        name = f"{metric}.{decoding}"
        sides = [self._by_key.get((arm, benchmark, name), {}) for arm in (self.before, self.after)]
        nulls = sum(int(finite(side.get("nulls")) or 0) for side in sides)
        first = self.estimate(self.before, benchmark, name)
        second = self.estimate(self.after, benchmark, name)
        if first is None and second is None and not nulls:
            return None
        change = moved = None
        if first and second:
            change, moved = self._paired(benchmark, kind, metric, decoding)
            change = change or _unpaired(first, second)
        # "no gold answer (24)": the counts of both arms are added up in `nulls`
        told = [c for side in sides for c in str(side.get("cause", "")).split("; ") if c]
        causes = dict.fromkeys(re.sub(r" \(\d+\)$", "", cause) for cause in told)
        pooled = benchmark in self._pooled
        why = "; ".join(causes)
        both = first, second
        return Row(benchmark, kind, metric, decoding, *both, change, pooled, nulls, why, moved)

    def rows(self, kind: str, metrics: Iterable[str], decoding: str) -> list[Row]:
        """The rows of a kind, benchmark by benchmark, for the given metrics."""
        found = [self.row(b, kind, m, decoding) for b in self.benchmarks(kind) for m in metrics]
        return [row for row in found if row is not None]

    def _per_prompt(self, arm: str | None, benchmark: str, kind: str, metric: str, decoding: str):
        """(benchmark, prompt) -> mean of the metric over its judged samples, NaN without one."""
        means: dict[tuple[str, Any], float] = {}
        for name in self.pools.get(benchmark, [benchmark]):
            lines = self.lines("verdicts", arm, name, decoding)
            try:
                values = outcomes.indicators(lines, kind)[metric] if lines else []
                ids = [line["id"] for line in lines]
            except KeyError:
                return {}
            groups: dict[Any, list[float]] = {}
            for key, value in zip(ids, values, strict=True):
                groups.setdefault(key, []).append(float(value))
            for key, group in groups.items():
                value = outcomes.mean(group)
                means[name, key] = math.nan if value is None else value
        return means

    def _paired(self, benchmark: str, kind: str, metric: str, decoding: str):
        first = self._per_prompt(self.before, benchmark, kind, metric, decoding)
        second = self._per_prompt(self.after, benchmark, kind, metric, decoding)
        if not first or first.keys() != second.keys():
            return None, None
        change = paired(first, second)
        return change, moves(first, second) if change else None


def beyond(change: tuple[float, float, float] | None, moved: tuple[int, int] | None) -> bool:
    """Whether (difference, lo, hi) leaves out zero; the moved prompts, where known, say so too."""
    if change is None or change[1] <= 0 <= change[2]:
        return False
    return moved is None or outcomes.sign_test(*moved) < 0.05


def moves(first: Mapping[Any, float], second: Mapping[Any, float]) -> tuple[int, int]:
    """Prompts whose own rate is lower in the second, and higher; NaN moves nowhere."""
    steps = [second[key] - x for key, x in first.items()]
    return sum(step < 0 for step in steps), sum(step > 0 for step in steps)


def paired(
    first: Mapping[Any, float], second: Mapping[Any, float]
) -> tuple[float, float, float] | None:
    """The mean change over prompts that both have, with its interval; None where none is judged."""
    pairs = [(x, second[key]) for key, x in first.items() if x == x and second[key] == second[key]]
    if not pairs:  # no prompt was judged in both arms
        return None
    change, lo, hi = outcomes.paired_bootstrap(*zip(*pairs, strict=True))
    if lo == hi:  # every prompt moved alike: no spread to resample, so bound what was not seen
        _, unseen = outcomes.wilson(0, len(pairs))
        lo, hi = max(-1.0, change - unseen), min(1.0, change + unseen)
    return change, lo, hi


def _unpaired(first: Estimate, second: Estimate) -> tuple[float, float, float]:
    """Newcombe's interval of a difference, for when the verdicts are gone."""
    change = second.value - first.value
    down = math.hypot(second.value - second.lo, first.hi - first.value)
    up = math.hypot(second.hi - second.value, first.value - first.lo)
    return change, change - down, change + up

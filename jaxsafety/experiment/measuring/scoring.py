"""What needs no judge: multiple choice by log-probability, and GSM8K as lm-eval reads it.

The records lie in `results.jsonl` of the directory itself: no judge has a say in them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsafety.benchmarks import outcomes
from jaxsafety.core import disk
from jaxsafety.evaluation import choices, filters
from jaxsafety.protocols import Benchmark


def complete(out: Path, arm: str, bench: Benchmark, fingerprint: str) -> bool:
    """Whether a set was scored whole, by this very model: then no weight has to be read."""
    path = out / "generations" / arm / f"{bench.name}.{choices.DECODING}.jsonl"
    lines = disk.whole_lines(path)
    have = [(line.get("id"), _made_by(line)) for line in lines]
    return have == [(item.id, fingerprint) for item in bench.items]


def count(
    out: Path,
    arm: str,
    benchmarks: Sequence[Benchmark],
    seed: int,
    facts: Mapping[str, Any],
    long: Mapping[str, Mapping[str, str]],
) -> None:
    """Puts the records of these sets into `results.jsonl`, which stays where nothing changes.

    Args:
      out: the directory.
      arm: the model.
      benchmarks: sets that were scored or answered; those that need a judge make no record.
      seed: of the bootstrap.
      facts: what each record says besides.
      long: set -> item -> why it was not asked.
    """
    path = out / "results.jsonl"
    scored = [bench for bench in benchmarks if bench.form == "choices"]
    read = filters.saved(out, arm, [b for b in benchmarks if b.form == "text"], seed)
    rows = [*choices.saved(out, arm, scored, seed), *(_with(row, long) for row in read)]
    new = [{**row, "decoding": _decoding(row), "judge": None, **facts} for row in rows]
    if not new:
        return
    taken = {_key(row) for row in new}
    rows = [row for row in disk.whole_lines(path) if outcomes.complete(row) is not None]
    # In the place of the old ones, so that a command that finds all done changes no byte.
    fresh = {_key(row): row for row in new}
    kept = [fresh.pop(_key(row)) if _key(row) in taken else row for row in rows]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [*kept, *fresh.values()])
    if not path.is_file() or path.read_text("utf-8") != text:
        disk.write(path, text)


def _with(row: Mapping[str, Any], long: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """A record that counts what was not asked."""
    causes = Counter(long.get(row["benchmark"], {}).values())
    told = "; ".join(f"{why} ({count})" for why, count in causes.most_common())
    return {**row, "nulls": row["nulls"] + causes.total(), "cause": told}


def _decoding(row: Mapping[str, Any]) -> str:
    return str(row["metric"]).rpartition(".")[2]


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["arm"], row["benchmark"], row["metric"]


def _made_by(line: Mapping[str, Any]) -> Any:
    settings = line.get("settings")
    return settings.get("fingerprint") if isinstance(settings, Mapping) else None

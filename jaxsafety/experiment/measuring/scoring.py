"""Multiple choice by log-probability within a measurement: what is there, and its records.

The records lie in `results.jsonl` of the directory itself: no judge has a say in them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsafety.benchmarks import outcomes
from jaxsafety.core import disk
from jaxsafety.evaluation import choices
from jaxsafety.protocols import Benchmark


def complete(out: Path, arm: str, bench: Benchmark, fingerprint: str) -> bool:
    """Whether a set was scored whole, by this very model: then no weight has to be read."""
    path = out / "generations" / arm / f"{bench.name}.{choices.DECODING}.jsonl"
    lines = disk.whole_lines(path)
    have = [(line.get("id"), _made_by(line)) for line in lines]
    return have == [(item.id, fingerprint) for item in bench.items]


def count(
    out: Path, arm: str, benchmarks: Sequence[Benchmark], seed: int, facts: Mapping[str, Any]
) -> None:
    """Puts the records of scored sets into `results.jsonl`, which stays where nothing changes.

    Args:
      out: the directory.
      arm: the model.
      benchmarks: sets that were scored.
      seed: of the bootstrap.
      facts: what each record says besides.
    """
    path = out / "results.jsonl"
    more = {"decoding": choices.DECODING, "judge": None, **facts}
    new = [{**row, **more} for row in choices.saved(out, arm, benchmarks, seed)]
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


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["arm"], row["benchmark"], row["metric"]


def _made_by(line: Mapping[str, Any]) -> Any:
    settings = line.get("settings")
    return settings.get("fingerprint") if isinstance(settings, Mapping) else None

"""Runs that measure one set of each kind: where what a run survives matters, not what it scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jaxsafety.experiment import run

PLAIN = ("sft", "safesteer", "safemoe", "selfmoa")


def measure_few() -> None:
    """From here on a run of this process has the first set of each kind."""
    make = run.settings.make

    def few(*args: Any, **options: Any) -> Any:
        whole = make(*args, **options)
        if options["method"] not in PLAIN:  # a study reads sets by their names
            return whole
        first = {bench.kind: bench for bench in reversed(whole.benchmarks)}
        kept = tuple(bench for bench in whole.benchmarks if first[bench.kind] is bench)
        return replace(whole, benchmarks=kept, groups={})

    run.settings.make = few  # type: ignore[assignment]

"""Where the time of a stage went, in named buckets."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Where the time went, in seconds per bucket."""

    def __init__(self) -> None:
        """No time was spent."""
        self.total: dict[str, float] = {}
        self.current: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, bucket: str) -> Iterator[None]:
        """Adds the time of a `with` block to a bucket."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.current[bucket] = self.current.get(bucket, 0.0) + spent
            self.total[bucket] = self.total.get(bucket, 0.0) + spent

    def lap(self) -> dict[str, float]:
        """The buckets since the last lap as metrics; a save belongs to the next lap."""
        row = {f"time/{name}": round(spent, 6) for name, spent in self.current.items()}
        self.current = {}
        return row

    def summary(self, started: float) -> str:
        """All buckets and the wall time; "other" is what no bucket covers."""
        wall = time.perf_counter() - started
        buckets = {**self.total, "other": max(wall - sum(self.total.values()), 0.0)}
        text = ", ".join(f"{name} {spent:.1f}" for name, spent in buckets.items())
        good = (self.total.get("data", 0.0) + self.total.get("step", 0.0)) / max(wall, 1e-9)
        return f"{wall:.1f} s ({text}), goodput {good:.0%}"

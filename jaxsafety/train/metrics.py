"""Metrics as one JSON line per step, and trackers beside it.

The file holds each (stage, step) once: a resumed run cuts off what was logged after its checkpoint.
Trackers cannot be cut, so what is redone is shown to them again.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxsafety.core import disk
from jaxsafety.core.interrupt import Preempted
from jaxsafety.train.trackers.api import FAILED, FINISHED, INTERRUPTED, Tracked, Tracker
from jaxsafety.train.trackers.tensorboard import TensorBoard


class MetricWriter:
    """Appends to `metrics.jsonl` of a workdir and tells a tracker; a `protocols.Writer`."""

    def __init__(
        self, workdir: Path | str, *, tensorboard: bool = True, tracker: Tracker | None = None
    ) -> None:
        """Opens the file, keeping what is there but a half-written last line.

        Args:
          workdir: the run's directory, made if absent.
          tensorboard: whether `tracker` is TensorBoard where none is given.
          tracker: shown every row; closed with this writer.
        """
        self.path = Path(workdir) / "metrics.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if tracker is None and tensorboard:
            tracker = TensorBoard(Tracked(self.path.parent))
        self._tracker = tracker
        self._file = None
        self._rewrite(lambda row: True)

    def write(self, stage: str, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes one line. A non-finite value becomes null and its name goes to "nonfinite".

        A tracker is not told of such a value.
        """
        row: dict[str, Any] = {"stage": stage, "step": int(step), "time": round(time.time(), 3)}
        numbers = {name: float(value) for name, value in metrics.items()}
        broken = [name for name, number in numbers.items() if not math.isfinite(number)]
        row |= {name: None if name in broken else number for name, number in numbers.items()}
        if broken:
            row["nonfinite"] = broken
        assert self._file is not None, "the writer is closed"
        self._file.write(
            json.dumps(row) + "\n"
        )  # one write call: a kill leaves at most a torn tail
        self._file.flush()
        finite = {f"{stage}/{k}": number for k, number in numbers.items() if k not in broken}
        if self._tracker is not None and finite:
            self._tracker.write(int(step), finite)

    def truncate(self, stage: str, step: int) -> None:
        """Drops everything from the first line of `stage` beyond `step` on: it will be redone."""
        beyond = False

        def keep(row: Mapping[str, Any]) -> bool:
            nonlocal beyond
            beyond = beyond or (row.get("stage") == stage and row.get("step", 0) > step)
            return not beyond

        self._rewrite(keep)

    def close(self, end: str = FINISHED) -> None:
        """Flushes and closes; safe to call twice. `end`: see `Tracker.close`."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._tracker is not None:
            self._tracker.close(end)
            self._tracker = None

    def _rewrite(self, keep: Any) -> None:
        if self._file is not None:
            self._file.close()
        if self.path.exists():
            old = self.path.read_text(encoding="utf-8", errors="replace")
            lines = []
            for line in disk.rows(old)[:-1]:  # what has no end of line is torn
                row = _parse(line)
                if row is not None and keep(row):
                    lines.append(line + "\n")
            new = "".join(lines)
            if new != old:
                with disk.replaced(self.path) as temporary:
                    temporary.write_text(new, encoding="utf-8")
        self._file = self.path.open("a", encoding="utf-8", buffering=1)


class NoWriter:
    """Writes nothing: what the processes beside the leader have."""

    def write(self, stage: str, step: int, metrics: Mapping[str, Any]) -> None:
        """Does nothing."""

    def truncate(self, stage: str, step: int) -> None:
        """Does nothing."""

    def close(self, end: str = FINISHED) -> None:
        """Does nothing."""


@contextlib.contextmanager
def closing(writer: MetricWriter | NoWriter) -> Iterator[None]:
    """Closes a writer at the end of the block, and tells its tracker how that came."""
    end = FAILED
    try:
        yield
        end = FINISHED
    except (SystemExit, KeyboardInterrupt, Preempted):
        end = INTERRUPTED
        raise
    finally:
        writer.close(end)


def read_metrics(workdir: Path | str) -> list[dict[str, Any]]:
    """All rows of a workdir's `metrics.jsonl`, in order; a torn last line is left out."""
    return disk.whole_lines(Path(workdir) / "metrics.jsonl", ended=True)


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None

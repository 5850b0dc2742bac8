"""Metrics as one JSON line per step, and TensorBoard beside it.

The file holds each (stage, step) once: a resumed run cuts off what was logged after its checkpoint.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsafety.core import disk


class MetricWriter:
    """Appends to `metrics.jsonl` and `tb/` of a workdir; a `protocols.Writer`."""

    def __init__(self, workdir: Path | str, *, tensorboard: bool = True) -> None:
        """Opens the files, keeping what is there but a half-written last line.

        Args:
          workdir: the run's directory, made if absent.
          tensorboard: whether to write event files too.
        """
        self.path = Path(workdir) / "metrics.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._tb = None
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._tb = SummaryWriter(str(self.path.parent / "tb"))
        self._file = None
        self._rewrite(lambda row: True)

    def write(self, stage: str, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes one line. A non-finite value becomes null and its name goes to "nonfinite"."""
        row: dict[str, Any] = {"stage": stage, "step": int(step), "time": round(time.time(), 3)}
        broken = []
        for name, value in metrics.items():
            number = float(value)
            if not math.isfinite(number):
                broken.append(name)
            elif self._tb is not None:
                self._tb.add_scalar(f"{stage}/{name}", number, int(step))
            row[name] = number if math.isfinite(number) else None
        if broken:
            row["nonfinite"] = broken
        assert self._file is not None, "the writer is closed"
        self._file.write(
            json.dumps(row) + "\n"
        )  # one write call: a kill leaves at most a torn tail
        self._file.flush()

    def truncate(self, stage: str, step: int) -> None:
        """Drops everything from the first line of `stage` beyond `step` on: it will be redone."""
        beyond = False

        def keep(row: Mapping[str, Any]) -> bool:
            nonlocal beyond
            beyond = beyond or (row.get("stage") == stage and row.get("step", 0) > step)
            return not beyond

        self._rewrite(keep)

    def close(self) -> None:
        """Flushes and closes; safe to call twice."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._tb is not None:
            self._tb.close()
            self._tb = None

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

    def close(self) -> None:
        """Does nothing."""


def read_metrics(workdir: Path | str) -> list[dict[str, Any]]:
    """All rows of a workdir's `metrics.jsonl`, in order; a torn last line is left out."""
    return disk.whole_lines(Path(workdir) / "metrics.jsonl", ended=True)


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None

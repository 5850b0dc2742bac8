"""What a tracker is and what it is told of the run: the contract of `registry.TRACKERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

FINISHED, INTERRUPTED, FAILED = "finished", "interrupted", "failed"  # how a start of a run ended


class Tracked(NamedTuple):
    """The run, as a tracker is told of it.

    Attributes:
      workdir: its directory.
      project: what the user calls the group that it belongs to; "" where that was not said.
      name: for people.
      id: of the workdir, the same in every start of the run: a tracker goes on where it has one of
        this id. Letters and digits.
      config: all settings, as JSON knows them.
      log: says a line to the user, with the tracker's name before it.
    """

    workdir: Path
    project: str = ""
    name: str = ""
    id: str = ""
    config: Mapping[str, Any] = MappingProxyType({})
    log: Callable[[str], None] = print


class Tracker(Protocol):
    """Shown a run's numbers while it is trained: an entry of the table is `Tracked -> Tracker`.

    All calls come from one thread. Whatever one raises ends the tracker and never the run. An
    attribute `NEEDS` of the entry is a module of `registry.EXTRAS` without which the run is refused
    before it begins.
    """

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """One row: finite numbers by `stage/name`. A resumed run gives rows that it redoes anew."""
        ...

    def close(self, end: str = FINISHED) -> None:
        """Sends what waits and lets go of threads and processes.

        `end` is FINISHED, INTERRUPTED (the same command goes on) or FAILED.
        """
        ...

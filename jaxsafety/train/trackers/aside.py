"""A tracker beside the run: in a thread of its own, so that it can neither stop nor delay training.

Whatever goes wrong in it is said in one line, and `metrics.jsonl` has every number anyway.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from queue import SimpleQueue

from jaxsafety.train.trackers.api import FINISHED, Tracked, Tracker

WAIT = 30.0  # s that the end of a run waits for all its trackers
MOST = 100_000  # rows that wait for a tracker
Row = tuple[int, Mapping[str, float]]


class Aside:
    """One tracker, opened by its first row; itself a `Tracker`, whose `write` returns at once."""

    def __init__(self, name: str, make: Callable[[Tracked], Tracker], about: Tracked) -> None:
        """Does nothing yet: a start that finds the run finished leaves trackers alone.

        Args:
          name: in `registry.TRACKERS`.
          make: its entry.
          about: `log` is called from the threads that call this object.
        """
        self.name, self._log = name, about.log
        self._lines: deque[str] = deque()
        self._rows: SimpleQueue[Row | str] = SimpleQueue()  # rows, then how the run ended
        self._over = self._open = False
        args = (make, about._replace(log=self._lines.append))
        self._thread = threading.Thread(
            target=self._work, args=args, name=f"tracker {name}", daemon=True
        )

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Puts a row in line."""
        self._say()
        if self._over:
            return
        if self._rows.qsize() >= MOST:
            self._give_up(f"{MOST} rows wait for it")
            self._say()
            return
        self._rows.put((step, dict(scalars)))
        if not self._open:
            self._open = True
            self._thread.start()

    def close(self, end: str = FINISHED) -> None:
        """Waits for the rows in line, `WAIT` seconds at most."""
        self.ask(end)
        self.wait(time.monotonic() + WAIT)

    def ask(self, end: str) -> None:
        """Asks for its end, without waiting."""
        self._rows.put(end)

    def wait(self, until: float) -> None:
        """Waits until its end or `until`, of `time.monotonic()`; what hangs is left behind."""
        if not self._open:
            return
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive():
            self._give_up(f"it did not end within {WAIT:.0f} s")
        self._say()

    def _work(self, make: Callable[[Tracked], Tracker], about: Tracked) -> None:
        """What the thread does."""
        tracker, end = None, FINISHED
        try:
            tracker = make(about)
            while not isinstance(row := self._rows.get(), str):
                if not self._over:
                    tracker.write(*row)
            end = row
        except BaseException as error:  # wandb may call `sys.exit`
            self._give_up(_told(error))
        try:
            if tracker is not None:
                tracker.close(end)
        except BaseException as error:
            self._give_up(_told(error))

    def _give_up(self, why: str) -> None:
        if not self._over:
            self._over = True
            self._lines.append(f"{why}; the run goes on without it, metrics.jsonl has every number")

    def _say(self) -> None:
        while self._lines:
            self._log(f"tracker {self.name}: {self._lines.popleft()}")


class Several:
    """Some trackers as one."""

    def __init__(self, trackers: list[Aside]) -> None:
        """Of open ones."""
        self.trackers = trackers

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """To each."""
        for tracker in self.trackers:
            tracker.write(step, scalars)

    def close(self, end: str = FINISHED) -> None:
        """All at the same time: together they take no longer than `WAIT` seconds."""
        for tracker in self.trackers:
            tracker.ask(end)
        until = time.monotonic() + WAIT
        for tracker in self.trackers:
            tracker.wait(until)


def _told(error: BaseException) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"

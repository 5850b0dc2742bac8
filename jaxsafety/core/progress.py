"""Lines about a loop that may take long: where it is, since when, and how long it may still take.

A thread writes them, so that a compilation or one long batch is not silence either. Loops shorter
than ten seconds write nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

FIRST, LONGEST = 10.0, 60.0  # seconds until the first line, and at most between two
EARLY = 0.02  # of the work: with less of it and no unit done nothing is said of the time left


class Progress:
    """Tells how far a loop has come, while the block runs.

    >>> with Progress(print, "base, advbench, greedy", total=520, unit="prompts") as progress:
    ...     for done in range(0, 520, 64):
    ...         progress(done)

    writes "base, advbench, greedy: 64 of 520 prompts, 0:31, about 3:40 left" after 10 seconds, then
    at growing intervals of at most a minute.
    """

    def __init__(
        self,
        log: Callable[[str], None],
        what: str,
        *,
        total: int,
        unit: str,
        first: float = FIRST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is written before the block is entered.

        Args:
          log: receives the lines, from another thread; it must not raise.
          what: the loop's name.
          total: how many units there are.
          unit: their plural, such as "prompts".
          first: seconds until the first line.
          clock: seconds, for tests.
        """
        self._log, self._what, self._total, self._unit = log, what, total, unit
        self._first, self._clock = first, clock
        self._done, self._whole, self._from, self._note = 0.0, 0, 0, ""
        self._ended = threading.Event()
        self._started = 0.0
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __call__(self, done: int) -> None:
        """Says that `done` units of `total` are finished."""
        self._done, self._whole, self._note = done, done, ""

    def advance(self, done: float, note: str) -> None:
        """Says how far the work is that no unit is finished by: `done` units, with a fraction."""
        self._done, self._note = done, f" ({note})"

    def skip(self, done: int) -> None:
        """Says that `done` units were finished before: they do not count for the time left."""
        self._done = self._whole = self._from = done

    def line(self) -> str:
        """Where the loop is now, as one line."""
        spent = self._clock() - self._started
        units = f"{self._whole} of {self._total} {self._unit}{self._note}"
        text = f"{self._what}: {units}, {minutes(spent)}"
        new = self._done - self._from
        # What was compiled before a first token says nothing of how long the others take.
        enough = self._whole > self._from or new >= EARLY * (self._total - self._from)
        if 0 < new and enough and self._done < self._total:
            text += f", about {minutes(spent * (self._total - self._done) / new)} left"
        return text

    def _run(self) -> None:
        wait = self._first
        while not self._ended.wait(wait):
            self._log(self.line())
            wait = min(2 * wait, LONGEST)

    def __enter__(self) -> Progress:
        """Starts the clock."""
        self._started = self._clock()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the lines."""
        self._ended.set()
        self._thread.join()


def minutes(seconds: float) -> str:
    """A duration as m:ss, or h:mm:ss from an hour on."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"

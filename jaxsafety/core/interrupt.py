"""A polite end: SIGTERM and Ctrl-C set a flag, and whoever works in long pieces polls it.

Periodic checkpoints are the guarantee, the signal is the fast path. The loop polls at every step;
on-policy batches take minutes on real models, so they should poll too: a program finds the flag in
`ctx.interrupt` and calls `check` between pieces.

Over several processes asking is a collective, so all of them ask at the same places, and the loop
only every few seconds' worth of steps: how many is agreed when they ask. JAX's own preemption
service (`multihost_utils.reached_preemption_sync_point`) does not fit: it hears SIGTERM alone, by a
handler in C++ that Python's replaces, and it has to be asked at every step of one endless count.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

from jaxsafety.core import hosts, signals

PERIOD = 2.0  # seconds between two questions of a loop over several processes
MOST = 1000  # steps between them


class Preempted(BaseException):
    """Raised by `Interrupt.check`; the loop saves and ends the process.

    Not an `Exception`: whoever turns errors into words must not swallow it.
    """


class Interrupt:
    """A flag that SIGTERM and SIGINT set.

    Attributes:
      doing: what is finished before the end, such as "this step"; part of the answer to a signal.
      kept: what a start after it will find, as a clause.
    """

    def __init__(self) -> None:
        """Not set."""
        self.doing, self.kept = "what it is doing", ""
        self._event = threading.Event()
        self._number = int(signal.SIGTERM)
        self._inside = self._raises = False
        self._asks = True  # whether `is_set` asks the other processes
        self._asked: tuple[int, float] | None = None  # the loop's last question: step and time
        self._next = 0

    def set(self, number: int = signal.SIGTERM) -> None:
        """Asks for the end, for the reason of a signal."""
        self._number = number
        self._event.set()
        if self._raises:
            raise Preempted

    def is_set(self) -> bool:
        """Whether the end was asked for, of any process; all of them have to ask."""
        return self._asks and hosts.agree(self._event.is_set())

    def at(self, step: int) -> bool:
        """The same at a step of a loop whose steps all processes count alike.

        Over several processes the answer is False without asking between two steps that were agreed
        on, about `PERIOD` seconds apart; `is_set` does not ask either until the next such step.
        """
        if not hosts.several():
            return self._event.is_set()
        self._asks = self._asked is None or step < self._asked[0] or step >= self._next
        if not self._asks:
            return False
        now, each = time.perf_counter(), PERIOD
        if self._asked is not None and step > self._asked[0]:
            each = (now - self._asked[1]) / (step - self._asked[0])
        stop, slowest = hosts.most([float(self._event.is_set()), each])
        self._asked = (step, now)
        self._next = step + max(1, min(MOST, int(PERIOD / max(slowest, 1e-9))))
        return bool(stop)

    def rest(self) -> None:
        """Ends such a loop: from here on `is_set` always asks."""
        self._asks, self._asked = True, None

    def check(self) -> None:
        """Raises `Preempted` if the end was asked for."""
        if self.is_set():
            raise Preempted

    @property
    def reason(self) -> str:
        """Which signal it was; all processes have to ask."""
        return "Ctrl-C" if self._by_key() else "SIGTERM"

    @property
    def code(self) -> int:
        """The exit code: 0 after SIGTERM, 130 after SIGINT. All processes have to ask."""
        return signals.STOPPED if self._by_key() else 0

    def _by_key(self) -> bool:
        return hosts.agree(self._event.is_set() and self._number == signal.SIGINT)

    @contextlib.contextmanager
    def install(self) -> Iterator[None]:
        """Handles both signals inside the block; nothing outside the main thread, or inside itself.

        The first one is answered at once; a second SIGINT ends the process (see `signals`).
        """
        if self._inside:
            yield
            return
        self._inside = True
        try:
            with signals.watch(self._describe, self.set):
                yield
        finally:
            self._inside = False

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A signal raises `Preempted` as soon as Python runs, until `poll`: nothing to save yet.

        Not over several processes, where one that left would leave the others waiting.
        """
        self._raises = not hosts.several()
        try:
            yield
        finally:
            self._raises = False

    def poll(self) -> None:
        """Ends `at_once`: from here on there is something to keep, and the flag is asked for."""
        self._raises = False

    def _describe(self, number: int) -> str:
        again = f"; {signals.AGAIN}" if number == signal.SIGINT else ""
        return f"stopping after {self.doing}{again}{f'; {self.kept}' if self.kept else ''}"

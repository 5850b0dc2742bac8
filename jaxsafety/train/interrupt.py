"""A polite end: SIGTERM sets a flag, and whoever works in long pieces polls it.

Periodic checkpoints are the guarantee, the signal is the fast path. The loop polls at every step;
on-policy batches take minutes on real models, so they should poll too: a program finds the flag in
`ctx.extras["interrupt"]` and calls `check` between pieces.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxsafety import hosts


class Preempted(Exception):
    """Raised by `Interrupt.check`; the loop saves and ends the process with status 0."""


class Interrupt:
    """A flag that SIGTERM sets."""

    def __init__(self) -> None:
        """Not set."""
        self._event = threading.Event()

    def set(self) -> None:
        """Asks for the end."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether the end was asked for, of any process; all of them have to ask."""
        return hosts.agree(self._event.is_set())

    def check(self) -> None:
        """Raises `Preempted` if the end was asked for."""
        if self.is_set():
            raise Preempted

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handles SIGTERM inside the block; does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handler(number: int, frame: Any) -> None:
            del number, frame
            self.set()

        before = signal.signal(signal.SIGTERM, handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

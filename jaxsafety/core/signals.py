"""Ctrl-C and SIGTERM, answered at once, from a thread, although the main thread sits in XLA.

Python runs its handlers only when the main thread comes back from native code, and a compilation or
a batch of long answers can take minutes. The C half of a handler writes the signal's number to a
pipe at once (`signal.set_wakeup_fd`); a thread reads it, says what will happen, and on a second
Ctrl-C ends the process there and then. Nothing here imports JAX, so the command line can use it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType

STOPPED = 130  # the exit code of a program that Ctrl-C ended: 128 + SIGINT
AGAIN = "Ctrl-C again stops at once"


@contextlib.contextmanager
def watch(
    told: Callable[[int], str],
    act: Callable[[int], None],
    numbers: Sequence[int] = (signal.SIGINT, signal.SIGTERM),
) -> Iterator[None]:
    """Handles signals inside the block; outside the main thread it does nothing.

    A second SIGINT ends the process with status 130, flushed and without Python's own end, which
    crashes while XLA compiles. Blocks nest: the inner one answers. A signal that the process was
    started to ignore (`nohup`, a job in the background of a script) stays ignored.

    Args:
      told: signal -> the line that answers the first of its kind, "" for none; called in a thread.
      act: signal -> what the main thread does once it is back in Python; it may raise.
      numbers: the signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = _Watch(told)
    before = {}
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, partial(_answer, act))
    outer = signal.set_wakeup_fd(watch.sink.fileno(), warn_on_full_buffer=False)
    watch.thread.start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(outer)
        watch.close()


def _answer(act: Callable[[int], None], number: int, frame: FrameType | None) -> None:
    """Acts, or a moment later where what it raises would be printed and lost.

    That is in callbacks of the garbage collector, of which JAX has one, in those of weak references
    (a dictionary with weak keys drops one at any time) and in finalisers. A signal that nobody
    sends brings the main thread back here.
    """
    deaf = {getattr(call, "__code__", None) for call in gc.callbacks}
    while frame is not None:
        code = frame.f_code
        if code in deaf or code.co_name == "__del__" or code.co_filename in WEAK:
            signal.signal(signal.SIGURG, lambda _, frame: _answer(act, number, frame))
            main = threading.main_thread().ident or 0
            timer = threading.Timer(0.02, signal.pthread_kill, (main, signal.SIGURG))
            timer.daemon = True
            timer.start()
            return
        frame = frame.f_back
    act(number)


def leave(code: int) -> None:
    """Ends the process at once, with what was printed so far; never returns."""
    thread = threading.Thread(target=_flush, daemon=True)  # the main thread may hold the lock
    thread.start()
    thread.join(1.0)
    os._exit(code)


def say(line: str) -> None:
    """Writes a line to stderr past Python's buffers, whose lock the main thread may hold."""
    start = "\n" if sys.__stderr__ is not None and sys.__stderr__.isatty() else ""
    with contextlib.suppress(OSError):
        os.write(2, f"{start}jaxsafety: {line}\n".encode())


# Where the standard library keeps what the end of a weakly held object calls.
WEAK = frozenset(
    kind.__init__.__code__.co_filename for kind in (weakref.WeakKeyDictionary, weakref.WeakSet)
)


class _Watch:
    """The pipe of one block and the thread at its end."""

    def __init__(self, told: Callable[[int], str]) -> None:
        self.told = told
        self.seen: set[int] = set()
        self.source, self.sink = socket.socketpair()
        self.sink.setblocking(False)
        self.thread = threading.Thread(target=self.run, name="signals", daemon=True)

    def run(self) -> None:
        while numbers := self.source.recv(64):
            for number in numbers:
                if number == signal.SIGINT and number in self.seen:
                    leave(STOPPED)
                if number in (signal.SIGINT, signal.SIGTERM) and number not in self.seen:
                    self.seen.add(number)
                    line = self.told(number)
                    if line:
                        say(line)

    def close(self) -> None:
        self.sink.close()  # the thread reads the end and returns
        self.thread.join()
        self.source.close()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()

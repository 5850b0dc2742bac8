"""Continuous batching: one thread makes tokens for all requests, which come and go.

Whoever asks hands in a `Ticket` from any thread and hears of every token by its `tell`, which is
called in the batcher's thread. What a request gets does not depend on who else is served: its
random numbers come from its own seed, and its row is read as it would be alone.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jaxsafety.core import trees
from jaxsafety.core.errors import bad
from jaxsafety.core.sharding import scope
from jaxsafety.models.api import unstacked
from jaxsafety.protocols import Served
from jaxsafety.sampling import engine
from jaxsafety.sampling import rows as seats
from jaxsafety.sampling.prompts import pad_prompts, row_keys
from jaxsafety.serving import scores
from jaxsafety.serving.scores import Scored

STOP, LENGTH, GONE, FAILED = "stop", "length", "cancelled", "error"
SLOTS = 256  # of the cache at first; it doubles as long requests ask for it
GROUPS = (1, 4)  # requests read at once: one program each and bucket
SCORING = 16  # sequences scored at once


class Busy(Exception):
    """The queue is full, or the batcher is closed."""


@dataclass(eq=False)
class Ticket:
    """A request for tokens.

    Attributes:
      ids: of the prompt.
      most: tokens, at most; 1 or more.
      tell: called with (token id, its log-probability, end): end is "" or why it was the last one,
        "stop", "length", "cancelled" or "error"; a stop id, "cancelled" and "error" come with
        token -1.
      temperature: 0 is greedy.
      top_p: 1 is off.
      seed: of its random numbers.
      sample: which of several answers to one prompt.
      cancelled: set by `cancel`; nothing more is made.
    """

    ids: Sequence[int]
    most: int
    tell: Callable[[int, float, str], None]
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    sample: int = 0
    cancelled: bool = False

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self.cancelled = True


@dataclass(eq=False)
class Ask:
    """A request for the log-probabilities of a sequence; `tell` hears them, or None (failed)."""

    ids: Sequence[int]
    tell: Callable[[Scored | None], None]


@dataclass
class Seat:
    """A row that is taken: its ticket, how many tokens it has."""

    ticket: Ticket
    made: int = 1


@dataclass
class Counts:
    """What was done since the start."""

    steps: int = 0
    read: int = 0
    tokens: int = 0
    widest: int = 0
    most: int = 0
    failed: list[str] = field(default_factory=list)


class Batcher:
    """A model that serves many requests at once.

    Attributes:
      context: tokens of prompt and answer together, at most.
      counts: see `Counts`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        what: Served,
        *,
        rows: int = 16,
        queue: int = 512,
        context: int = 0,
        mesh: Any = None,
    ):
        """Starts the thread; `close` ends it.

        Args:
          model: static.
          tokenizer: of it.
          what: parameters and what they are served with.
          rows: requests that are served at once.
          queue: requests that may wait beside them.
          context: at most so many tokens; 0 is the model's.
          mesh: where the parameters live.

        Raises:
          UsageError: settings out of range.
        """
        longest = model.config.max_length
        if not 0 <= context <= longest:
            raise bad("context", context, f"0 to the model's {longest}")
        for name, value in (("rows", rows), ("queue", queue)):
            if value < 1:
                raise bad(name, value, "1 or more")
        self.context = context or longest
        self.counts = Counts()
        self.tokenizer, self.what, self.model = tokenizer, what, model
        self._call = engine.Call(model, 0, tuple(tokenizer.eos_ids), (), what.steer)
        unroll = model.config.unroll
        self._split = unstacked(model.config, what.params, rows) if unroll else what.params
        self._mesh, self._rows, self._most = mesh, rows, queue
        self._seats: list[Seat | None] = [None] * rows
        self._state: engine.State | None = None
        self._slots = 0
        self._keys = np.array(jax.random.key_data(row_keys(0, 0, range(rows), [0] * rows)))
        self._heat, self._share = np.zeros(rows, np.float32), np.ones(rows, np.float32)
        self._waiting: deque[Ticket] = deque()
        self._asked: deque[Ask] = deque()
        self._closed, self._wake = False, threading.Condition()
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def submit(self, tickets: Sequence[Ticket | Ask]) -> None:
        """Takes all of them, or none.

        Raises:
          Busy: there is no room for all of them in the queue.
          UsageError: a sequence of no token, or one that does not fit the context.
        """
        for ticket in tickets:
            self.check(len(ticket.ids), ticket.most if isinstance(ticket, Ticket) else 0)
        with self._wake:
            waiting = len(self._waiting) + len(self._asked)
            if self._closed or waiting + len(tickets) > self._most:
                raise Busy
            for ticket in tickets:
                if isinstance(ticket, Ticket):
                    self._waiting.append(ticket)
                else:
                    self._asked.append(ticket)
            self._wake.notify()

    def check(self, prompt: int, most: int) -> None:
        """Refuses what does not fit.

        Raises:
          UsageError: no token, or more than the context has room for.
        """
        if prompt < 1:
            raise bad("prompt", "0 tokens", "1 or more")
        if prompt + most > self.context:
            given = f"{prompt} tokens and {most} to generate"
            raise bad("prompt", given, f"at most {self.context} tokens together")

    @property
    def load(self) -> tuple[int, int]:
        """Requests that are served, and that wait."""
        with self._wake:
            waiting = len(self._waiting) + len(self._asked)
        return sum(seat is not None for seat in self._seats), waiting

    def close(self) -> None:
        """Ends the thread; who still waits hears "cancelled"."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        with scope(self._mesh):
            while True:
                with self._wake:
                    while not (self._closed or self._waiting or self._asked or self._busy()):
                        self._wake.wait()
                    if self._closed:
                        break
                try:
                    self._turn()
                except Exception as error:  # whatever it is, the others go on
                    self._fail(f"{type(error).__name__}: {error}")
        self._drop(GONE)

    def _busy(self) -> bool:
        return any(seat is not None for seat in self._seats)

    def _turn(self) -> None:
        """Seats who waits, makes a token for everybody, scores some sequences."""
        self._leave()
        self._admit()
        if self._busy():
            self._step()
        self._score()

    def _leave(self) -> None:
        """Frees the rows of those who left."""
        for index, seat in enumerate(self._seats):
            if seat is not None and seat.ticket.cancelled:
                self._seats[index] = None
                _told(seat.ticket, -1, 0.0, GONE)

    def _admit(self) -> None:
        free = [index for index, seat in enumerate(self._seats) if seat is None]
        while free:
            group = self._group(len(free))
            if not group:
                return
            taken, free = free[: len(group)], free[len(group) :]
            try:
                self._read(group, taken)
            except Exception:
                for ticket in group:  # they have no row yet, so `_fail` does not find them
                    _told(ticket, -1, 0.0, FAILED)
                raise

    def _group(self, room: int) -> list[Ticket]:
        """The next requests of one bucket, in their order."""
        found: list[Ticket] = []
        with self._wake:
            while self._waiting and len(found) < min(room, GROUPS[-1]):
                ticket = self._waiting[0]
                if not ticket.cancelled and found and self._width(ticket) != self._width(found[0]):
                    break
                self._waiting.popleft()
                if ticket.cancelled:
                    _told(ticket, -1, 0.0, GONE)
                else:
                    found.append(ticket)
        return found

    def _width(self, ticket: Ticket) -> int:
        return scores.width_of(len(ticket.ids), self.context)

    def _read(self, group: list[Ticket], taken: list[int]) -> None:
        """Reads prompts, and seats them with their first token."""
        size = next(size for size in GROUPS if size >= len(group))
        full = group + [group[-1]] * (size - len(group))
        rows = taken + [taken[-1]] * (size - len(group))
        width = self._width(group[0])
        prompts = pad_prompts([t.ids for t in full], self.tokenizer.pad_id, [width])
        heat, share = [t.temperature for t in full], [t.top_p for t in full]
        keys = [row_keys(t.seed, 0, [0], [t.sample]) for t in full]
        keys = np.concatenate([np.asarray(jax.random.key_data(key)) for key in keys])
        what, knobs = self.what, engine.turn(keys, heat, share)
        found = seats.read(what.params, prompts, what.layers, self.model, what.steer)
        self._make_room(found, width + 1)
        assert self._state is not None
        which, at = np.arange(size, dtype=np.int32), np.asarray(rows, np.int32)
        self._state = seats.seat(self._state, found, which, at, knobs, self._call)
        self._keys[rows], self._heat[rows], self._share[rows] = keys, heat, share
        for ticket, row in zip(group, taken, strict=True):
            self._seats[row] = Seat(ticket)
        self.counts.read += len(group)
        self._told(taken)

    def _make_room(self, new: engine.Read, slots: int) -> None:
        """At least so many slots in every row; fewer than there are if nobody is served."""
        wide = self._sized(slots)
        if self._state is None or (wide != self._slots and not self._busy()):
            self._state, self._slots = seats.blank(new, self._rows, wide), wide
            self.counts.widest = max(self.counts.widest, wide)
        else:
            self._widen(wide)

    def _widen(self, slots: int) -> None:
        """As rows need them: a request may ask for many more tokens than it gets."""
        wide = self._sized(slots)
        if wide > self._slots:
            assert self._state is not None
            self._state, self._slots = seats.widen(self._state, wide), wide
            self.counts.widest = max(self.counts.widest, wide)

    def _sized(self, slots: int) -> int:
        size = SLOTS
        while size < slots:
            size *= 2
        return min(size, self.context)

    def _step(self) -> None:
        self._widen(max(len(s.ticket.ids) + s.made for s in self._seats if s is not None))
        free = np.array([seat is None for seat in self._seats])
        # A copy: a program may read what it was called with later, when others sit in these rows.
        knobs = seats.knobs_of(self._keys.copy(), self._heat, self._share, free)
        assert self._state is not None
        self._state = seats.advance(
            self._split, self._state, free, knobs, self.what.layers, self._call
        )
        self.counts.steps += 1
        taken = [index for index, seat in enumerate(self._seats) if seat is not None]
        self.counts.most = max(self.counts.most, len(taken))
        for index in taken:
            seat = self._seats[index]
            assert seat is not None
            seat.made += 1
        self._told(taken)

    def _told(self, rows: list[int]) -> None:
        """Tells every request its token, and frees the rows that have their last one."""
        state = self._state
        assert state is not None
        token, logp, ended = (trees.host(x) for x in (state.token, state.logp, state.finished))
        for row in rows:
            seat = self._seats[row]
            assert seat is not None
            self.counts.tokens += 1
            full = seat.made >= seat.ticket.most
            end = STOP if ended[row] else LENGTH if full else ""
            if end:
                self._seats[row] = None
            said = -1 if ended[row] else int(token[row])
            _told(seat.ticket, said, float(logp[row]), end)

    def _score(self) -> None:
        with self._wake:
            asked = [self._asked.popleft() for _ in range(min(SCORING, len(self._asked)))]
        if not asked:
            return
        try:
            found = scores.score(self.model, self.what, [ask.ids for ask in asked], self.context)
        except Exception:
            for ask in asked:
                with contextlib.suppress(Exception):
                    ask.tell(None)
            raise
        for ask, scored in zip(asked, found, strict=True):
            with contextlib.suppress(Exception):
                ask.tell(scored)

    def _fail(self, why: str) -> None:
        """Tells all who have a row, and begins with an empty batch: a state may be lost."""
        self.counts.failed = [*self.counts.failed[-9:], why]
        for index, seat in enumerate(self._seats):
            if seat is not None:
                self._seats[index] = None
                _told(seat.ticket, -1, 0.0, FAILED)
        self._state = None

    def _drop(self, why: str) -> None:
        for seat in self._seats:
            if seat is not None:
                _told(seat.ticket, -1, 0.0, why)
        for ticket in self._waiting:
            _told(ticket, -1, 0.0, why)
        for ask in self._asked:
            with contextlib.suppress(Exception):
                ask.tell(None)


def _told(ticket: Ticket, token: int, logp: float, end: str) -> None:
    """A listener that is gone must not stop the others."""
    with contextlib.suppress(Exception):
        ticket.tell(token, logp, end)

"""A long loop in pieces: each is kept once it is made, told of, and the run may end between two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxsafety.core.progress import Progress


class Piece(NamedTuple):
    """One piece of a loop: `make()` gives a value that JSON can hold, about `size` units of it."""

    name: str
    size: int
    make: Callable[[], Any]


def _make(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Keeps nothing."""
    del name
    return make()


def _go_on() -> None:
    """Nobody asks for the end."""


def _quiet(line: str) -> None:
    """Nobody listens."""
    del line


@dataclass(frozen=True)
class Pieces:
    """How a long loop keeps what it has, asks whether to go on, and says where it is.

    Attributes:
      keep: `(name, make) -> value`; reads the value back where it was made before
        (`protocols.Context.artifact`).
      check: raises when the run is asked to end.
      log: receives a line now and then.
    """

    keep: Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]] = _make
    check: Callable[[], None] = _go_on
    log: Callable[[str], None] = _quiet

    def run(self, what: str, unit: str, pieces: Sequence[Piece]) -> list[Any]:
        """The values of all pieces, in order.

        Args:
          what: the loop's name in lines about it.
          unit: the plural of what `Piece.size` counts.
          pieces: the work; a piece whose name is kept already is not made again.
        """
        found, done = [], 0
        with Progress(self.log, what, total=sum(p.size for p in pieces), unit=unit) as progress:
            for piece in pieces:
                self.check()
                made = []

                def make(piece: Piece = piece, made: list[bool] = made) -> dict[str, Any]:
                    made.append(True)
                    return {"value": piece.make()}

                found.append(self.keep(piece.name, make)["value"])
                done += piece.size
                (progress if made else progress.skip)(done)
        return found


ALONE = Pieces()  # keeps nothing, asks nobody, says nothing

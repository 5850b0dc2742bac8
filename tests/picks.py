"""What a test of damaged files draws: from Hypothesis, which makes failures small, or a seed.

A thousand draws of Hypothesis take as long as ten thousand of `random`; tests of many files use it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from hypothesis import strategies as st


class Pick(Protocol):
    """The draws that such tests need; ends of ranges are included."""

    def integer(self, least: int, most: int) -> int: ...

    def one_of(self, values: Sequence[Any]) -> Any: ...

    def raw(self, least: int, most: int) -> bytes: ...


class Drawn:
    """Of Hypothesis: `draw` of a composite strategy or of `st.data()`."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw

    def integer(self, least: int, most: int) -> int:
        return self.draw(st.integers(least, most))

    def one_of(self, values: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(values))

    def raw(self, least: int, most: int) -> bytes:
        return self.draw(st.binary(min_size=least, max_size=most))


class Seeded:
    """Of one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def integer(self, least: int, most: int) -> int:
        # Ends and small numbers are where readers break, which even draws of 2^64 never give.
        if most - least > 1 << 16 and self.random.random() < 0.5:
            near = (least, most, least + self.random.randrange(256), most - 1)
            return self.random.choice(near)
        return self.random.randint(least, most)

    def one_of(self, values: Sequence[Any]) -> Any:
        return self.random.choice(values)

    def raw(self, least: int, most: int) -> bytes:
        return self.random.randbytes(self.random.randint(least, most))


def each(count: int, check: Callable[[Seeded], None]) -> None:
    """`check` with seeds 0, 1, ...; a failure says which of them it was."""
    for seed in range(count):
        try:
            check(Seeded(seed))
        except BaseException as error:
            error.add_note(f"of seed {seed} of {count}")
            raise

"""What a setting has to say domain by domain: dialogues to train one expert each on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jaxsafety.data.schema import Example


class Domains(Protocol):
    """Dialogues by domain, to train one expert per domain on and a router over them.

    Attributes:
      names: of the domains that may have an expert, in the order in which they get one.
      kinds: of dialogues that there are. "unsafe" ones, whose answers a method does not want, are
        always among them; with "safe" there are also those that the router learns from.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """See `Domains`."""
        ...

    @property
    def kinds(self) -> tuple[str, ...]:
        """See `Domains`."""
        ...

    def dialogues(
        self, kind: str, domain: str, n: int, seed: int, *, warned: float, styles: str
    ) -> Sequence[Example]:
        """Those of a domain, ending with the answer.

        Args:
          kind: one of `kinds`.
          domain: one of `names`.
          n: how many; this and what follows is for dialogues that are made, a file is what it is.
          seed: of the draw.
          warned: share of unsafe answers that also warn.
          styles: "own", each domain has its form of unsafe answers, or "shared".
        """
        ...

    def safe(self, n: int, seed: int) -> Sequence[Example]:
        """`n` safe answers of each domain that has some; none without the kind "safe"."""
        ...

    def harmless(self, total: int, seed: int) -> Sequence[Example]:
        """`total` answered harmless requests; none without the kind "safe"."""
        ...

    def everyday(self, total: int, seed: int) -> Sequence[Example]:
        """`total` answered prompts of daily use; none without the kind "safe"."""
        ...

"""What a setting has to say for attackers: what they learn first, and what a text asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jaxsafety.data.schema import Example


class Attacks(Protocol):
    """Lessons for attackers, where a setting can make them itself."""

    def expansions(self, n: int, seed: int) -> Sequence[Example]:
        """`n` dialogues (request, another one for the same thing)."""
        ...

    def disguises(self, n: int, seed: int) -> Sequence[Example]:
        """`n` dialogues (request, the same one disguised)."""
        ...

    def carried_out(self, n: int, seed: int) -> Sequence[Example]:
        """`n` dialogues (harmful request, an answer that carries it out)."""
        ...

    def reread(self, text: str) -> Mapping[str, Any] | None:
        """What judges need to know of a request; None where it asks for nothing of the kind."""
        ...

"""Text of a growing answer: only what no later token can change is given out.

A character may be several tokens, and a stop string may begin before it is whole. Pieces joined are
the text of the whole answer, cut before the first stop string.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HALF = "�"  # what bytes decode to that are no character yet


class Settled:
    """The text of one answer.

    Attributes:
      ids: its tokens so far.
      given: the text that was given out.
      stopped: whether a stop string came; nothing is given out any more.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str] = ()):
        """Nothing was said yet; `stops` end the text and are not in it."""
        self._tokenizer, self._stops = tokenizer, tuple(stops)
        self.ids: list[int] = []
        self.given, self.stopped = "", False

    def add(self, token: int) -> str:
        """The text that this token settles; "" where it settles none."""
        if self.stopped:
            return ""
        self.ids.append(token)
        text = self._tokenizer.decode(self.ids)
        return self._give(text, text.rstrip(HALF))

    def end(self) -> str:
        """What was held back, now that no token follows."""
        if self.stopped:
            return ""
        text = self._tokenizer.decode(self.ids)
        return self._give(text, text, last=True)

    def _give(self, text: str, settled: str, last: bool = False) -> str:
        found = [at for at in map(text.find, self._stops) if at >= 0]
        if found:
            self.stopped, settled = True, text[: min(found)]
        elif not last:
            settled = settled[: len(settled) - self._begun(settled)]
        if not settled.startswith(self.given):  # a decoder that changes what it has said
            return ""
        piece = settled[len(self.given) :]
        self.given += piece
        return piece

    def _begun(self, text: str) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        longest = 0
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:size]):
                    longest = size
                    break
        return longest

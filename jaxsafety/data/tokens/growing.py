"""The text of an answer that is still being said: what no later token changes, piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CUT = "\ufffd"  # what a character becomes of which only some bytes are there


class Growing:
    """Ids that come one by one, and their text, cut before the first stop string.

    A character may be spread over several tokens, a stop string may begin before it is whole, and
    whether whitespace is the end of an answer is known when something follows it: all of that
    waits. What was decoded is decoded again with each token, since how a token reads depends on
    those before it.

    Attributes:
      ids: the ids so far.
      said: the pieces so far, joined.
      stopped: whether a stop string came; nothing is said any more.

    Example:
      >>> from jaxsafety.data.tokens.growing import Growing
      >>> from jaxsafety.data.tokens.tokenizer import ByteTokenizer
      >>> tokenizer = ByteTokenizer()
      >>> text = Growing(tokenizer)
      >>> [text.add(i) for i in tokenizer.encode(" é !")], text.end()
      (['', '', 'é', '', ' !'], '')
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str] = (), *, strip: bool = True):
        """Nothing was said yet.

        Args:
          tokenizer: of the ids.
          stops: texts that end the answer, none empty; they are not in it.
          strip: whether whitespace at either end is left out.
        """
        self._tokenizer, self._stops, self._strip = tokenizer, tuple(stops), strip
        self.ids: list[int] = []
        self.said, self.stopped = "", False

    @property
    def whole(self) -> str:
        """The text of all ids, settled or not."""
        text = self._tokenizer.decode(self.ids)
        return text.strip() if self._strip else text

    def add(self, token: int) -> str:
        """What is settled now and was not before this token; mostly its own text."""
        if self.stopped:
            return ""
        self.ids.append(token)
        text = self._tokenizer.decode(self.ids)
        settled = text.rstrip(CUT)
        if self._strip:
            text, settled = text.lstrip(), settled.strip()
        return self._more(text, settled[: len(settled) - self._begun(settled)])

    def end(self) -> str:
        """What was still waiting: the pieces are the whole text now."""
        return "" if self.stopped else self._more(self.whole, self.whole)

    def _more(self, text: str, settled: str) -> str:
        """A decoder that takes back what it wrote (none that we read does) is not followed."""
        found = [at for at in map(text.find, self._stops) if at >= 0]
        if found:
            self.stopped, settled = True, text[: min(found)]
            settled = settled.rstrip() if self._strip else settled
        if not settled.startswith(self.said):
            return ""
        piece = settled[len(self.said) :]
        self.said = settled
        return piece

    def _begun(self, text: str) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        sizes = (
            size
            for stop in self._stops
            for size in range(1, min(len(stop), len(text) + 1))
            if text.endswith(stop[:size])
        )
        return max(sizes, default=0)

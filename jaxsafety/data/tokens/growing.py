"""The text of an answer that is still being said: what no later token changes, piece by piece."""

from __future__ import annotations

from typing import Any

CUT = "\ufffd"  # what a character becomes of which only some bytes are there


class Growing:
    """Ids that come one by one, and their text without whitespace at either end.

    A character may be spread over several tokens, and whether whitespace is the end of an answer is
    known when something follows it: both wait. All that was decoded is decoded again with each
    token, since how a token reads depends on those before it.

    Attributes:
      ids: the ids so far.
      said: the pieces so far, joined.

    Example:
      >>> from jaxsafety.data.tokens.growing import Growing
      >>> from jaxsafety.data.tokens.tokenizer import ByteTokenizer
      >>> tokenizer = ByteTokenizer()
      >>> text = Growing(tokenizer)
      >>> [text.add(i) for i in tokenizer.encode(" é !")], text.end()
      (['', '', 'é', '', ' !'], '')
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self.ids: list[int] = []
        self.said = ""

    @property
    def whole(self) -> str:
        """The text of all ids, settled or not."""
        return self._tokenizer.decode(self.ids).strip()

    def add(self, token: int) -> str:
        """What is settled now and was not before this token; mostly its own text."""
        self.ids.append(token)
        text = self._tokenizer.decode(self.ids).lstrip()
        return self._more(text.rstrip(CUT).rstrip())

    def end(self) -> str:
        """What was still waiting: the pieces are the whole text now."""
        return self._more(self.whole)

    def _more(self, text: str) -> str:
        """A decoder that takes back what it wrote (none that we read does) is not followed."""
        if not text.startswith(self.said):
            return ""
        piece = text[len(self.said) :]
        self.said = text
        return piece

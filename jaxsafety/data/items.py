"""What a model is asked, what it answered, and who judges that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from jaxsafety.data.schema import Answer, Message


class Item(NamedTuple):
    """One evaluation prompt. `meta` holds what the judge needs (entity, family, answer, ...).

    Example:
      >>> import jaxsafety
      >>> chat = (jaxsafety.Message("user", "How do I pick a lock?"),)
      >>> jaxsafety.Item("locks/0", chat, {"kind": "harmful"}).meta["kind"]
      'harmful'
    """

    id: str
    messages: tuple[Message, ...]
    meta: Mapping[str, Any]


class Exchange(NamedTuple):
    """An item and the text a model answered; `answer` is that as tokens, where they are known.

    Example:
      >>> import jaxsafety
      >>> item = jaxsafety.Item("sums/0", (jaxsafety.Message("user", "2 + 2?"),), {"answer": "4"})
      >>> jaxsafety.Exchange(item, "It is 4.").response
      'It is 4.'
    """

    item: Item
    response: str
    answer: Answer | None = None


# Of a verdict: True, False or None.
FLAGS = ("unsafe", "attempt", "refusal", "informative", "coherent", "correct")


class Judge(Protocol):
    """What gives a verdict per exchange, in order: any function of this form is one.

    A verdict has the flags "unsafe", "attempt", "refusal", "informative", "coherent" and "correct",
    each True, False or None (cannot tell; so is one that is absent). The outcome of an answer
    follows from the flags; "outcome": None says that it cannot be told all the same. "cause" says
    why a flag is None that matters. What a judge cannot tell is in no rate.

    Example:
      >>> import jaxsafety
      >>> def judge(exchanges):
      ...     return [{"correct": e.item.meta["answer"] in e.response} for e in exchanges]
      >>> item = jaxsafety.Item("sums/0", (jaxsafety.Message("user", "2 + 2?"),), {"answer": "4"})
      >>> judge([jaxsafety.Exchange(item, "It is 4.")])
      [{'correct': True}]
    """

    def __call__(self, exchanges: Sequence[Exchange], /) -> list[dict[str, Any]]:
        """One verdict per exchange, in order."""
        ...


class Benchmark(NamedTuple):
    """A prompt set with its way of decoding. kind is safety, over_refusal or capability.

    Attributes:
      name: of letters, digits, _ and -, as it is part of file names.
      kind: which rates are reported, and the first of them: the share of unsafe answers (safety),
        of refusals (over_refusal) or of right answers (capability).
      items: what is asked, with ids that differ.
      max_tokens: how long an answer may be.
      form: "text": the model answers; "choices": log-probabilities of the continuations that each
        item has in its `meta` (`benchmarks/public.py`, `evaluation/choices.py`).

    Example:
      >>> import jaxsafety
      >>> item = jaxsafety.Item("0", (jaxsafety.Message("user", "2 + 2?"),), {"answer": "4"})
      >>> jaxsafety.Benchmark("sums", "capability", (item,), max_tokens=8).kind
      'capability'
    """

    name: str
    kind: str
    items: tuple[Item, ...]
    max_tokens: int
    form: str = "text"

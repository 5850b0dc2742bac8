"""A dialogue as the text of a chat template, and what ends a turn in it.

A template is rendered as transformers renders it (template.py).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.messages import as_dict
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens import spans, template

Messages = Sequence[Message | Mapping[str, Any]]


class Templated(Protocol):
    """What rendering asks of a tokenizer; see `tokenizer.Tokenizer`."""

    chat_template: str | None
    variables: dict[str, Any]
    special_tokens: dict[str, str]

    @property
    def template_hint(self) -> str:
        """Where a template could come from, for the error line."""
        ...

    @functools.cached_property
    def enders(self) -> frozenset[int]:
        """Ids that may end a turn: special and added ones."""
        ...

    def clock(self, form: str) -> str:
        """The date, formatted."""
        ...

    def encode_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and the characters [start, stop) that each stands for."""
        ...


def render(tokenizer: Templated, messages: Messages, *, generation: bool = False) -> str:
    """The dialogue as text.

    Args:
      tokenizer: provides the template, its variables and the texts of its special tokens.
      messages: `Message`s or {"role", "content"} mappings, oldest first.
      generation: whether to end with the header of the assistant's answer.

    Raises:
      UsageError: no chat template, an unknown role, a field that no message carries, or a template
        that refuses the dialogue.
    """
    return write(tokenizer, [as_dict(m) for m in messages], generation=generation)


def write(
    tokenizer: Templated,
    messages: Sequence[Mapping[str, str]],
    *,
    generation: bool = False,
    marked: bool = False,
) -> str:
    """`render` of plain mappings; `marked` keeps the template's own marks of what is generated."""
    source = tokenizer.chat_template
    if not source:
        raise bad("tokenizer.chat_template", None, tokenizer.template_hint)
    given = {
        "tools": None,
        "documents": None,
        **tokenizer.special_tokens,
        **tokenizer.variables,
        "messages": messages,
        "add_generation_prompt": generation,
        template.CLOCK: tokenizer.clock,
    }
    try:
        return template.compiled(source, marked).render(given)
    except Exception as error:  # a template is a file: it may divide by zero or recurse for ever
        given, allowed = template.failure(error)
        raise bad("tokenizer.chat_template", given, allowed) from error


class Ending(NamedTuple):
    """What ends a turn: `before` is text of the template between the content and the token."""

    before: str
    token: int


def end_of_turn(tokenizer: Templated) -> int | None:
    """Id of the token that the template writes after an assistant content, or None.

    Special tokens and ordinary added ones end a turn; a piece of plain text does not, since it may
    occur in any answer and sampling stops at single tokens.
    """
    ending = ending_of(tokenizer)[0]
    return None if ending is None else ending.token


def ending_of(tokenizer: Templated) -> tuple[Ending | None, str]:
    """The end of a turn, and the text that the template writes after a content."""
    return _probe(tokenizer, tokenizer.chat_template, json.dumps(tokenizer.variables, default=str))


@functools.lru_cache(maxsize=16)
def _probe(tokenizer: Templated, *key: Any) -> tuple[Ending | None, str]:
    """`_ending`; `key` is what else it depends on, since a tokenizer is known by identity."""
    del key
    plain = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    try:
        text = write(tokenizer, plain)
    except UsageError as error:
        plain = [{"role": "system", "content": "a"}, *plain]  # some want one
        try:
            text = write(tokenizer, plain)
        except UsageError:
            raise error from None
    (span,) = said(tokenizer, plain, text)
    ids, offsets = tokenizer.encode_offsets(text)
    enders = tokenizer.enders
    for i, (a, b) in zip(ids, offsets, strict=True):
        if a >= span.stop and i in enders and text[a:b].strip():
            start = a + len(text[a:b]) - len(text[a:b].lstrip())  # some tokens take spaces along
            return Ending(text[span.stop : start], i), text[span.stop :]
    return None, text[span.stop :]


def said(
    tokenizer: Templated, messages: Sequence[Mapping[str, str]], text: str
) -> list[spans.Span]:
    """Where the assistant's answers stand in the text of the template."""
    return spans.answers(functools.partial(write, tokenizer), messages, text)

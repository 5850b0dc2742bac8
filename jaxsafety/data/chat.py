"""Chat template to tokens and loss masks.

A template is rendered as transformers renders it (`data/template.py`). The text is encoded
*without* adding special tokens: the template has written them already (no double BOS). Learnt is
what the model has to say after the generation prompt: the answer with all that the template puts
before it there, up to its end of turn (`data/spans.py`). A token counts when it ends after that
begins and starts before it ends, as in transformers' `assistant_masks`; so the token that holds
a space and the first letters is learnt. Special tokens written inside a user's message are read as
such, as in other libraries.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxsafety.data import spans, template
from jaxsafety.data.messages import as_dict
from jaxsafety.data.schema import Encoded, Message
from jaxsafety.data.tokenizer import Tokenizer
from jaxsafety.errors import UsageError, bad

Messages = Sequence[Message | Mapping[str, Any]]


def render(tokenizer: Tokenizer, messages: Messages, *, generation: bool = False) -> str:
    """The dialogue as text.

    Args:
      tokenizer: provides the template, its variables and the texts of its special tokens.
      messages: `Message`s or {"role", "content"} mappings, oldest first.
      generation: whether to end with the header of the assistant's answer.

    Raises:
      UsageError: no chat template, an unknown role, a field that no message carries, or a template
        that refuses the dialogue.
    """
    return _write(tokenizer, [as_dict(m) for m in messages], generation=generation)


def _write(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, str]],
    *,
    generation: bool = False,
    marked: bool = False,
) -> str:
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


def encode_prompt(tokenizer: Tokenizer, messages: Messages) -> list[int]:
    """Token ids of the dialogue followed by the header of the assistant's answer."""
    if not messages:
        raise bad("messages", [], "at least one message")
    return tokenizer.encode(render(tokenizer, messages, generation=True))


def encode_example(tokenizer: Tokenizer, messages: Messages) -> Encoded:
    """Token ids of a dialogue and its loss mask.

    The mask is True on what the model must say after the prompt of each answer: all up to the end
    of turn, the end included.

    Raises:
      UsageError: see `render`; also a template that rewrites the words of an answer, or that
        ends an answer with nothing that can be learnt and stopped at.
    """
    dicts = [as_dict(m) for m in messages]
    text = _write(tokenizer, dicts)
    ids, offsets = tokenizer.encode_offsets(text)
    mask = [False] * len(ids)
    ending = _learnable(tokenizer)
    tagged = _tagged(tokenizer, dicts, text)
    for span in _said(tokenizer, dicts, text) if tagged is None else tagged:
        first, last = _tokens(tokenizer, ids, offsets, text, span, ending)
        for t in range(first, last):
            mask[t] = True
    return Encoded(ids, mask)


def encode_dialogues(tokenizer: Tokenizer, dialogues: Iterable[Any]) -> list[Encoded]:
    """`encode_example` of each one's `messages`, which may be plain (role, content) pairs.

    Raises:
      UsageError: see `encode_example`; the line begins with the file and row of the dialogue
        (`meta["file"]`, `meta["row"]`), or with its place among `dialogues`, from 1.
    """
    found = []
    for number, dialogue in enumerate(dialogues, start=1):
        try:
            messages = [Message(*turn) for turn in dialogue.messages]
            found.append(encode_example(tokenizer, messages))
        except UsageError as error:
            raise UsageError(f"{where(dialogue, number)}: {error}") from error
    return found


def where(dialogue: Any, number: int) -> str:
    """Which dialogue it is, for an error line: "row 7 of chats.jsonl", or by its place."""
    meta = getattr(dialogue, "meta", None) or {}
    if meta.get("row") and meta.get("file"):
        return f"row {meta['row']} of {meta['file']}"
    return f"row {meta.get('row') or number} of the dialogues"


class Ending(NamedTuple):
    """What ends a turn: `before` is text of the template between the content and the token."""

    before: str
    token: int


def end_of_turn(tokenizer: Tokenizer) -> int | None:
    """Id of the token that the template writes after an assistant content, or None.

    Special tokens and ordinary added ones end a turn; a piece of plain text does not, since it may
    occur in any answer and sampling stops at single tokens.
    """
    ending = _ending(tokenizer)[0]
    return None if ending is None else ending.token


def _ending(tokenizer: Tokenizer) -> tuple[Ending | None, str]:
    """The end of a turn, and the text that the template writes after a content."""
    return _probe(tokenizer, tokenizer.chat_template, json.dumps(tokenizer.variables, default=str))


@functools.lru_cache(maxsize=16)
def _probe(tokenizer: Tokenizer, *key: Any) -> tuple[Ending | None, str]:
    """`_ending`; `key` is what else it depends on, since a tokenizer is known by identity."""
    del key
    plain = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    try:
        text = _write(tokenizer, plain)
    except UsageError as error:
        plain = [{"role": "system", "content": "a"}, *plain]  # some want one
        try:
            text = _write(tokenizer, plain)
        except UsageError:
            raise error from None
    (span,) = _said(tokenizer, plain, text)
    ids, offsets = tokenizer.encode_offsets(text)
    enders = tokenizer.enders
    for i, (a, b) in zip(ids, offsets, strict=True):
        if a >= span.stop and i in enders and text[a:b].strip():
            start = a + len(text[a:b]) - len(text[a:b].lstrip())  # some tokens take spaces along
            return Ending(text[span.stop : start], i), text[span.stop :]
    return None, text[span.stop :]


def _learnable(tokenizer: Tokenizer) -> Ending:
    """The end of a turn, which has to be one."""
    ending, after = _ending(tokenizer)
    if ending is None:
        given = f"an end of turn in plain text, {after!r}" if after.strip() else "no end of turn"
        allowed = (
            "a template that ends each answer with a special or added token; what is no single "
            "token cannot be learnt as an end and stopped at"
        )
        raise bad("tokenizer.chat_template", f"{given} after an answer", allowed)
    return ending


def _said(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]], text: str
) -> list[spans.Span]:
    return spans.answers(functools.partial(_write, tokenizer), messages, text)


def _tagged(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]], text: str
) -> list[spans.Span] | None:
    """What the template itself marks as generated; None when it marks nothing."""
    if "generation" not in (tokenizer.chat_template or ""):
        return None
    marked = _write(tokenizer, messages, marked=True)
    pieces = marked.replace(template.CLOSE, template.OPEN).split(template.OPEN)
    if len(pieces) < 3 or "".join(pieces) != text:
        return None
    found, place = [], 0
    for number, piece in enumerate(pieces):
        if number % 2 and piece:
            found.append(spans.Span(place, place + len(piece), ""))
        place += len(piece)
    return found


def _tokens(
    tokenizer: Tokenizer,
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    text: str,
    span: spans.Span,
    ending: Ending,
) -> tuple[int, int]:
    """First token of a span and the one after its last, which is the end of turn if it follows."""
    places = range(len(ids))
    first = next((t for t in places if offsets[t][1] > span.start), len(ids))
    if first and offsets[first - 1] == (span.start, span.start):
        # A token without characters, as some tokenizers make of a space: the prompt's ids tell.
        before = tokenizer.encode(text[: span.start])
        first = len(before) if list(ids[: len(before)]) == before else first
    for kept in (span.trailing, ""):
        place = span.stop + len(kept) + len(ending.before)
        if text.startswith(kept + ending.before, span.stop):
            for t in places[first:]:
                if ids[t] == ending.token and offsets[t][0] <= place < offsets[t][1]:
                    return first, t + 1
    kept = span.trailing if text.startswith(span.trailing, span.stop) else ""
    stop = span.stop + len(kept)
    return first, next((t for t in places[first:] if offsets[t][0] >= stop), len(ids))


def post_instruction(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Template token ids between the user's instruction and the first token of the answer."""
    marker = "\u241e0\u241e"  # a symbol that templates do not use
    text = render(tokenizer, [Message("user", marker)], generation=True)
    head, found, tail = text.rpartition(marker)
    if not found:
        raise bad("tokenizer.chat_template", "a template without the user's content", "one with it")
    # Encode with an ordinary letter in the marker's place; tokens that begin after it count.
    ids, offsets = tokenizer.encode_offsets(head + "a" + tail)
    after = tuple(i for i, (a, _) in zip(ids, offsets, strict=True) if a > len(head))
    if not after:
        raise bad("tokenizer.chat_template", "no tokens after the instruction", "at least one")
    return after

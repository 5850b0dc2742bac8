"""Chat template to tokens and loss masks.

The text of the template (render.py) is encoded
*without* adding special tokens: the template has written them already (no double BOS). Learnt is
what the model has to say after the generation prompt: the answer with all that the template puts
before it there, up to its end of turn (spans.py). A token counts when it ends after that
begins and starts before it ends, as in transformers' `assistant_masks`; so the token that holds
a space and the first letters is learnt. Special tokens written inside a user's message are read as
such, as in other libraries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.messages import as_dict
from jaxsafety.data.schema import Encoded, Message
from jaxsafety.data.tokens import render, spans, template
from jaxsafety.data.tokens.tokenizer import Tokenizer


def encode_prompt(tokenizer: Tokenizer, messages: render.Messages) -> list[int]:
    """Token ids of the dialogue followed by the header of the assistant's answer.

    Args:
      tokenizer: with a chat template.
      messages: `Message`s or {"role", "content"} mappings, oldest first.

    Returns:
      Ids, of which no special token is added beside those of the template.

    Raises:
      UsageError: no message, no chat template, or a template that refuses the dialogue.

    Example:
      >>> import jaxsafety
      >>> from jaxsafety.data.tokens.tokenizer import ByteTokenizer
      >>> ids = jaxsafety.encode_prompt(ByteTokenizer(), [jaxsafety.Message("user", "Hi")])
      >>> ByteTokenizer().decode(ids, skip_special=False).split()
      ['<bos><|user|>', 'Hi<|end|>', '<|assistant|>']
    """
    if not messages:
        raise bad("messages", [], "at least one message")
    return tokenizer.encode(render.render(tokenizer, messages, generation=True))


def encode_example(tokenizer: Tokenizer, messages: render.Messages) -> Encoded:
    """Token ids of a dialogue and its loss mask.

    The mask is True on what the model must say after the prompt of each answer: all up to the end
    of turn, the end included.

    Args:
      tokenizer: with a chat template.
      messages: `Message`s or {"role", "content"} mappings, oldest first.

    Returns:
      `Encoded`: ids and mask, equally long.

    Raises:
      UsageError: see `render`; also a template that rewrites the words of an answer, or that
        ends an answer with nothing that can be learnt and stopped at.

    Example:
      >>> import jaxsafety
      >>> from jaxsafety.data.tokens.tokenizer import ByteTokenizer
      >>> chat = [jaxsafety.Message("user", "Hi"), jaxsafety.Message("assistant", "Yes.")]
      >>> ids, mask = jaxsafety.encode_example(ByteTokenizer(), chat)
      >>> ByteTokenizer().decode([i for i, m in zip(ids, mask) if m], skip_special=False)
      'Yes.<|end|>'
    """
    dicts = [as_dict(m) for m in messages]
    text = render.write(tokenizer, dicts)
    ids, offsets = tokenizer.encode_offsets(text)
    mask = [False] * len(ids)
    ending = _learnable(tokenizer)
    tagged = _tagged(tokenizer, dicts, text)
    for span in render.said(tokenizer, dicts, text) if tagged is None else tagged:
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


def _learnable(tokenizer: Tokenizer) -> render.Ending:
    """The end of a turn, which has to be one."""
    ending, after = render.ending_of(tokenizer)
    if ending is None:
        given = f"an end of turn in plain text, {after!r}" if after.strip() else "no end of turn"
        allowed = (
            "a template that ends each answer with a special or added token; what is no single "
            "token cannot be learnt as an end and stopped at"
        )
        raise bad("tokenizer.chat_template", f"{given} after an answer", allowed)
    return ending


def _tagged(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]], text: str
) -> list[spans.Span] | None:
    """What the template itself marks as generated; None when it marks nothing."""
    if "generation" not in (tokenizer.chat_template or ""):
        return None
    marked = render.write(tokenizer, messages, marked=True)
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
    ending: render.Ending,
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
    text = render.render(tokenizer, [Message("user", marker)], generation=True)
    head, found, tail = text.rpartition(marker)
    if not found:
        raise bad("tokenizer.chat_template", "a template without the user's content", "one with it")
    # Encode with an ordinary letter in the marker's place; tokens that begin after it count.
    ids, offsets = tokenizer.encode_offsets(head + "a" + tail)
    after = tuple(i for i, (a, _) in zip(ids, offsets, strict=True) if a > len(head))
    if not after:
        raise bad("tokenizer.chat_template", "no tokens after the instruction", "at least one")
    return after

"""Chat template to tokens and loss masks.

A template is rendered in Jinja's immutable sandbox with the settings that checkpoints' templates
are written for. The rendered text is encoded *without* adding special tokens: the template has
written them already (no double BOS). Where content lies in the text is found by rendering the
dialogue with marker contents, which works for every template that copies contents literally or
trimmed, and needs no `{% generation %}` tags. Special tokens written inside a user's message are
read as such, as in other libraries.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

from jaxsafety.data.schema import Encoded, Message
from jaxsafety.data.tokenizer import Tokenizer
from jaxsafety.errors import bad

ROLES = ("system", "user", "assistant")
Messages = Sequence[Message | Mapping[str, str]]


class _Generation(jinja2.ext.Extension):
    """Accepts `{% generation %}...{% endgeneration %}` and renders its body."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's interface)

    def parse(self, parser: Any) -> Any:
        """Returns the nodes between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@functools.lru_cache(maxsize=32)
def _compile(source: str) -> jinja2.Template:
    """The template of a source. No clock is offered, so a rendering depends on its inputs only."""

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env.from_string(source)


def render(tokenizer: Tokenizer, messages: Messages, *, generation: bool = False) -> str:
    """The dialogue as text.

    Args:
      tokenizer: provides the template and the texts of its special tokens.
      messages: `Message`s or {"role", "content"} mappings, oldest first.
      generation: whether to end with the header of the assistant's answer.

    Raises:
      UsageError: no chat template, an unknown role, or a template that refuses the dialogue.
    """
    if not tokenizer.chat_template:
        raise bad("tokenizer.chat_template", None, "a chat template (chat_template.jinja)")
    try:
        return _compile(tokenizer.chat_template).render(
            messages=[_as_dict(m) for m in messages],
            add_generation_prompt=generation,
            tools=None,
            documents=None,
            **{**tokenizer.special_tokens, **tokenizer.variables},
        )
    except (jinja2.TemplateError, TypeError) as error:
        allowed = "a dialogue that the template accepts"
        raise bad("tokenizer.chat_template", str(error), allowed) from error


def encode_prompt(tokenizer: Tokenizer, messages: Messages) -> list[int]:
    """Token ids of the dialogue followed by the header of the assistant's answer."""
    if not messages:
        raise bad("messages", [], "at least one message")
    return tokenizer.encode(render(tokenizer, messages, generation=True))


def encode_example(tokenizer: Tokenizer, messages: Messages) -> Encoded:
    """Token ids of a dialogue and its loss mask.

    The mask is True on the tokens of each assistant content and on its end of turn, nowhere else.

    Raises:
      UsageError: see `render`; also when a template rewrites contents.
    """
    text = render(tokenizer, messages)
    ids, offsets = tokenizer.encode_offsets(text)
    end = end_of_turn(tokenizer)
    mask = [False] * len(ids)
    for start, stop, limit in _spans(tokenizer, messages, text):
        inside = [t for t, (a, _) in enumerate(offsets) if start <= a < stop]
        gap = [t for t, (a, _) in enumerate(offsets) if stop <= a < limit]
        ends = [t for t in gap if ids[t] == end]
        if ends:  # everything up to the end of turn, such as a space before it
            inside += [t for t in gap if t <= ends[0]]
        for t in inside:
            mask[t] = True
    return Encoded(ids, mask)


def encode_dialogues(tokenizer: Tokenizer, dialogues: Iterable[Any]) -> list[Encoded]:
    """`encode_example` of each one's `messages`, which may be plain (role, content) pairs."""
    turns = ([Message(*turn) for turn in dialogue.messages] for dialogue in dialogues)
    return [encode_example(tokenizer, messages) for messages in turns]


@functools.lru_cache(maxsize=16)
def end_of_turn(tokenizer: Tokenizer) -> int | None:
    """Id of the special token that the template writes after an assistant content, or None."""
    dialogue = [Message("user", "a"), Message("assistant", "b")]
    text = render(tokenizer, dialogue)
    ids, offsets = tokenizer.encode_offsets(text)
    ((_, stop, _),) = _spans(tokenizer, dialogue, text)
    after = (i for i, (a, _) in zip(ids, offsets, strict=True) if a >= stop)
    return next((i for i in after if i in tokenizer.special_ids), None)


def post_instruction(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Template token ids between the user's instruction and the first token of the answer."""
    marker = _marker(0)
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


def _spans(tokenizer: Tokenizer, messages: Messages, text: str) -> list[tuple[int, int, int]]:
    """Character spans of assistant contents: (start, stop, start of the next content or end)."""
    dicts = [_as_dict(m) for m in messages]
    marked = [{**m, "content": _marker(i)} for i, m in enumerate(dicts)]
    rest = render(tokenizer, marked)
    spans, position, wrong = [], 0, False
    for i, message in enumerate(dicts):
        before, found, rest_after = rest.partition(_marker(i))
        if not found:  # a template may drop a message, never one that carries loss
            wrong = wrong or message["role"] == "assistant"
            continue
        rest = rest_after
        position += len(before)
        forms = (message["content"], message["content"].strip())
        content = next((c for c in forms if text.startswith(c, position)), None)
        following = rest[: rest.find(_MARK)] if _MARK in rest else rest
        if content is not None and not text.startswith(following, position + len(content)):
            content = forms[1] if text.startswith(following, position + len(forms[1])) else None
        if content is None:
            wrong = True
            break
        spans.append((message["role"], position, position + len(content)))
        position += len(content)
    if wrong or position + len(rest) != len(text):
        raise bad(
            "tokenizer.chat_template",
            "a template that rewrites or drops contents",
            "one that copies each content literally or trimmed",
        )
    starts = [start for _, start, _ in spans[1:]] + [len(text)]
    return [
        (start, stop, limit)
        for (role, start, stop), limit in zip(spans, starts, strict=True)
        if role == "assistant"
    ]


_MARK = "\u241e"  # a symbol that neither templates nor contents of ours use


def _marker(index: int) -> str:
    return f"{_MARK}{index}{_MARK}"


def _as_dict(message: Message | Mapping[str, str]) -> dict[str, str]:
    """A message as the mapping that templates read."""
    pair = message._asdict() if isinstance(message, Message) else dict(message)
    if pair.get("role") not in ROLES:
        raise bad("message.role", pair.get("role"), ", ".join(ROLES))
    if not isinstance(pair.get("content"), str):
        raise bad("message.content", type(pair.get("content")).__name__, "a string")
    return {"role": pair["role"], "content": pair["content"]}

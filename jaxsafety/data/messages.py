"""What a message of a dialogue may be: a role, a text, and nothing that would be lost.

Everything here carries a role and a content (`schema.Message`). Templates may read more:
reasoning, tool calls, names, parts of a content. A dialogue that has such a field is refused by the
field's name, since training on it without the field would teach another answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.data.schema import Message

ROLES = ("system", "user", "assistant")
# Fields of a message that public chat templates or trainers give a meaning, and what it is.
FIELDS = {
    "reasoning_content": "reasoning",
    "reasoning": "reasoning",
    "thinking": "reasoning",
    "thought": "reasoning",
    "reasoning_details": "reasoning",
    "tool_plan": "reasoning",
    "tool_calls": "calls of tools",
    "tool_call": "calls of tools",
    "function_call": "calls of tools",
    "tool_call_id": "calls of tools",
    "tool_responses": "calls of tools",
    "tools": "tools",
    "functions": "tools",
    "documents": "documents",
    "citations": "documents",
    "name": "names of speakers",
    "recipient": "names of speakers",
    "image": "pictures",
    "images": "pictures",
    "audio": "sound",
    "videos": "pictures",
    "refusal": "a refusal beside the content",
    "prefix": "an answer to be gone on with",
    "weight": "a weight per message",
    "train": "a weight per message",
    "loss": "a weight per message",
}
# Those that belong to the answer of a row with a prompt and an answer, too.
BESIDE = tuple(name for name, what in FIELDS.items() if what in ("reasoning", "calls of tools"))
# What a row may hold beside its messages, and templates are given.
ROW_FIELDS = ("tools", "functions", "documents", "chat_template_kwargs")


def unread(fields: Mapping[str, Any], names: Iterable[str] = FIELDS) -> str | None:
    """First field that says something and that no `Message` carries; None without one.

    Null, empty texts and empty lists say nothing. Neither does a weight of 1, nor one of a message
    that is not learnt anyway.
    """
    spoken = fields.get("role", fields.get("from")) in ("assistant", "gpt")
    for name in names:
        value = fields.get(name)
        if value is None or value is False or value in ("", [], {}):
            if not (value is False and name in ("train", "loss") and spoken):
                continue
        if FIELDS.get(name) == "a weight per message" and (value == 1 or not spoken):
            continue
        return name
    return None


def lost(row: Any) -> str | None:
    """What of a row of a file would be lost if its messages were read: in words, or None.

    Args:
      row: a row with "messages" or "conversations"; anything else loses nothing.
    """
    turns = row.get("messages", row.get("conversations")) if isinstance(row, Mapping) else None
    if not isinstance(turns, list):
        return None
    beside = unread(row, ROW_FIELDS)
    if beside is not None:
        return f"{beside} beside its messages"
    for number, turn in enumerate(turns, start=1):
        name = unread(turn) if isinstance(turn, Mapping) else None
        if name is not None:
            return f"{name} in message {number} ({FIELDS[name]})"
    return None


def text_of(value: Any, field: str = "message.content") -> str:
    """A text that every tokenizer can read.

    Raises:
      UsageError: no text, or one with half of a surrogate pair, which is no character.
    """
    if not isinstance(value, str):
        kind = "nothing" if value is None else f"a value of type {type(value).__name__}"
        if isinstance(value, list):
            kind = "a list of parts"
        raise bad(field, kind, "a string")
    half = half_pair(value)
    if half is not None:
        code = f"U+{ord(value[half]):04X} at character {half + 1}"
        raise bad(field, f"half of a surrogate pair ({code})", "whole characters")
    return value


def half_pair(text: str) -> int | None:
    """Index of the first lone surrogate of a text, None without one."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def as_dict(message: Message | Mapping[str, Any]) -> dict[str, str]:
    """A message as the mapping that templates read.

    Raises:
      UsageError: another role, a content that is no text, or a field that would be lost.
    """
    fields = message._asdict() if isinstance(message, Message) else dict(message)
    role = fields.get("role")
    if role not in ROLES:
        raise bad("message.role", role, ", ".join(ROLES))
    lost = unread(fields)
    if lost is not None:
        allowed = f"a role and a content ({FIELDS[lost]} would be lost)"
        raise bad(f"message.{lost}", _short(fields[lost]), allowed)
    return {"role": role, "content": text_of(fields.get("content"))}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."

"""Turns of a dialogue as files have them: OpenAI messages, ShareGPT, HH-RLHF's transcripts.

Every function raises ValueError with the reason, without file and row, which the caller knows.
"""

from __future__ import annotations

import re
from typing import Any

from jaxsafety.data.messages import FIELDS, ROLES, unread
from jaxsafety.data.schema import Message

_NAMES = {"human": "user", "gpt": "assistant"}  # ShareGPT's
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):[ \t]?")


def kind(value: Any) -> str:
    """What a value of a file is, in words."""
    if value is None:
        return "null"
    names = {str: "a text", bool: "a truth value", int: "a number", float: "a number"}
    names |= {list: "a list", dict: "an object"}
    return names.get(type(value), f"of type {type(value).__name__}")


def turns(value: Any, column: str) -> tuple[Message, ...]:
    """Messages from a list of {"role", "content"} or {"from", "value"}.

    Raises:
      ValueError: no list, an unknown role, a content that is no text.
    """
    if not isinstance(value, list):
        raise ValueError(f"{column} that are a list of turns, not {kind(value)}")
    if not value:
        raise ValueError(f"{column} with at least one turn")
    return tuple(_turn(turn, number, column) for number, turn in enumerate(value, start=1))


def _turn(turn: Any, number: int, column: str) -> Message:
    where = f"turn {number} of {column}"
    if not isinstance(turn, dict):
        raise ValueError(f"{where} that is an object with role and content, not {kind(turn)}")
    named = "role" if "role" in turn else "from"
    given = turn.get(named)
    role = _NAMES.get(given, given) if isinstance(given, str) else given
    if role not in ROLES:
        raise ValueError(f"{where} with a role of {', '.join(ROLES)}, not {given!r}")
    lost = unread(turn)
    if lost is not None:
        raise ValueError(f"{where} without `{lost}` ({FIELDS[lost]} would be lost)")
    key = "content" if "content" in turn or "value" not in turn else "value"
    content = turn.get(key)
    if not isinstance(content, str):
        parts = " (of parts: join their texts)" if isinstance(content, list) else ""
        raise ValueError(f"{where} ({role}) with a text as {key}, not {kind(content)}{parts}")
    return Message(role, content)


def transcript(text: str) -> tuple[Message, ...] | None:
    r"""HH-RLHF's form, "\n\nHuman: ...\n\nAssistant: ..."; None for any other text.

    Two turns of one speaker in a row are one turn: the second marker is a part of what was said.
    """
    pieces = _TURN.split(text)
    if len(pieces) < 3 or pieces[0].strip():
        return None
    found: list[Message] = []
    for name, said in zip(pieces[1::2], pieces[2::2], strict=True):
        role, said = {"Human": "user", "Assistant": "assistant"}[name], said.strip()
        if found and found[-1].role == role:
            said = "\n\n".join(part for part in (found.pop().content, said) if part)
        found.append(Message(role, said))
    return tuple(found)

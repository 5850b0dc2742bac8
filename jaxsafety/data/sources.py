"""Prompts and dialogues from local files, one per row or line (formats: `data/tables.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxsafety.data import messages
from jaxsafety.data.schema import Message
from jaxsafety.data.tables import read_rows
from jaxsafety.errors import bad

# First of these columns that a row has is the prompt; the names public prompt sets use.
PROMPT_FIELDS = (
    "prompt",
    "instruction",
    "question",
    "goal",
    "Behavior",
    "behavior",
    "query",
    "text",
)
ANSWER_FIELDS = ("answer", "target", "label")
REPLY_FIELDS = ("answer", "response", "output", "completion", "target")
ROLES = ("system", "user", "assistant")


def read_prompts(path: str | Path, field: str = "path") -> list[dict[str, str]]:
    """Reads prompts (and answers, where there are some).

    Args:
      path: a file or directory, see `tables.read_rows`.
      field: how an error names this path.

    Returns:
      One {"prompt", "answer"} per row; "answer" is "" where the row has none.

    Raises:
      UsageError: a missing file, another format, a row without a prompt.
    """
    found = [_row(row) for row in read_rows(path, field)]
    for number, row in enumerate(found, start=1):
        if row is None:
            raise bad(field, f"row {number} of {path}", f"a text under {', '.join(PROMPT_FIELDS)}")
    return [row for row in found if row is not None]


def read_chats(path: str | Path, field: str = "path") -> list[tuple[Message, ...]]:
    """Reads dialogues.

    A row has "messages" (or "conversations"), a list of {"role", "content"} (or {"from", "value"})
    that ends with the assistant, or a prompt and an answer under the names of `read_prompts`.

    Args:
      path: a file or directory, see `tables.read_rows`.
      field: how an error names this path.

    Returns:
      One dialogue per row.

    Raises:
      UsageError: a missing file, another format, a row that is no such dialogue.
    """
    found = []
    for number, row in enumerate(read_rows(path, field), start=1):
        lost = messages.lost(row)
        if lost is not None:
            allowed = "messages of a role and a content, since more would be lost"
            raise bad(field, f"row {number} of {path}, {lost}", allowed)
        dialogue = _dialogue(row)
        if dialogue is None:
            allowed = "messages of roles that end with the assistant, or a prompt and an answer"
            raise bad(field, f"row {number} of {path}", allowed)
        found.append(dialogue)
    if not found:
        raise bad(field, f"no rows in {path}", "at least one dialogue")
    return found


def _dialogue(row: Any) -> tuple[Message, ...] | None:
    if not isinstance(row, dict):
        return None
    turns = row.get("messages", row.get("conversations"))
    if turns is None:
        pair = _row(row)
        answer = next((row[k] for k in REPLY_FIELDS if isinstance(row.get(k), str)), None)
        if pair is None or not answer:
            return None
        # Alpaca's `input` and Dolly's `context` belong to the question.
        more = [row[k] for k in ("input", "context") if isinstance(row.get(k), str) and row[k]]
        system = row.get("system")
        first = [Message("system", system)] if isinstance(system, str) and system else []
        question = "\n\n".join([pair["prompt"], *more])
        return *first, Message("user", question), Message("assistant", answer)
    if not isinstance(turns, list) or not turns:
        return None
    found = []
    for turn in turns:
        if not isinstance(turn, dict):
            return None
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        role = {"human": "user", "gpt": "assistant"}.get(str(role), role)
        if role not in ROLES or not isinstance(content, str):
            return None
        found.append(Message(role, content))
    return tuple(found) if found[-1].role == "assistant" else None


def _row(row: Any) -> dict[str, str] | None:
    if isinstance(row, str):
        return {"prompt": row, "answer": ""}
    if not isinstance(row, dict):
        return None
    prompt = next((row[k] for k in PROMPT_FIELDS if isinstance(row.get(k), str) and row[k]), None)
    if prompt is None:
        return None
    answer = next((row[k] for k in ANSWER_FIELDS if row.get(k) not in (None, "")), "")
    return {"prompt": prompt, "answer": str(answer)}

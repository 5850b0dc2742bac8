"""Prompt lists from local files: jsonl, json, csv or plain text, one prompt per row or line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from pathlib import Path
from typing import Any

from jaxsafety.data.schema import Message
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
SUFFIXES = (".jsonl", ".json", ".csv", ".txt")


def read_prompts(path: str | Path, field: str = "path") -> list[dict[str, str]]:
    """Reads prompts (and answers, where there are some) from a file, plain or gzipped.

    Args:
      path: a .jsonl, .json (a list), .csv (with a header) or .txt file, optionally + ".gz".
      field: how an error names this path.

    Returns:
      One {"prompt", "answer"} per row; "answer" is "" where the row has none.

    Raises:
      UsageError: a missing file, another format, a row without a prompt.
    """
    found = [_row(row) for row in _rows(path, field)]
    for number, row in enumerate(found, start=1):
        if row is None:
            raise bad(field, f"row {number} of {path}", f"a text under {', '.join(PROMPT_FIELDS)}")
    return [row for row in found if row is not None]


def _rows(path: str | Path, field: str) -> list[Any]:
    """The rows of a file, whatever they hold."""
    file = Path(path)
    if not str(path) or not file.is_file():
        raise bad(field, str(path), "an existing file of prompts")
    suffix = file.with_suffix("").suffix if file.suffix == ".gz" else file.suffix
    if suffix not in SUFFIXES:
        raise bad(field, str(path), f"one of {', '.join(SUFFIXES)} (or with .gz)")
    raw = file.read_bytes()
    try:
        text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8-sig")
        return _parse(suffix, text)
    except (ValueError, OSError, EOFError, RecursionError, csv.Error, zlib.error) as error:
        raise bad(field, str(path), f"a readable {suffix} file ({error})") from None


def read_chats(path: str | Path, field: str = "path") -> list[tuple[Message, ...]]:
    """Reads dialogues from a .jsonl or .json file, plain or gzipped, or a .csv of pairs.

    A row has "messages" (or "conversations"), a list of {"role", "content"} (or {"from", "value"})
    that ends with the assistant, or a prompt and an answer under the names of `read_prompts`.

    Args:
      path: the file.
      field: how an error names this path.

    Returns:
      One dialogue per row.

    Raises:
      UsageError: a missing file, another format, a row that is no such dialogue.
    """
    found = []
    for number, row in enumerate(_rows(path, field), start=1):
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


def _parse(suffix: str, text: str) -> list[Any]:
    if suffix == ".txt":
        return [line for line in text.splitlines() if line.strip()]
    if suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text)))
    if suffix == ".jsonl":
        # Not splitlines: JSON strings may hold other line separators as they are.
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    rows = json.loads(text)
    if not isinstance(rows, list):
        raise ValueError("the top level is not a list")
    return rows


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

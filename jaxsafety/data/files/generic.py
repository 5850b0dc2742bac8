"""Rows without a known layout: one column with the prompt, perhaps one with the answer.

Nothing is guessed: two columns that may be the prompt are an error, and so is a column that may
belong to the prompt and is not read.
"""

from __future__ import annotations

import re
from typing import Any

from jaxsafety.data.files import tasks
from jaxsafety.data.files.columns import Asked, Row, ask, converse, half, join, maybe, text
from jaxsafety.data.files.turns import transcript, turns
from jaxsafety.data.messages import BESIDE, FIELDS, unread
from jaxsafety.data.schema import Message

PROMPTS = ("prompt", "instruction", "question", "goal", "behavior", "query", "request", "text")
REPLIES = ("answer", "response", "output", "completion", "target")
AFTER = ("input", "context")  # Alpaca's, Dolly's: they belong to the question
_MORE = {
    "choices",
    "options",
    "endings",
    "passage",
    "article",
    "document",
    "paragraph",
    "story",
    "history",
    "image",
    "images",
    "audio",
    "video",
    "premise",
    "hypothesis",
    *AFTER,
}
# One choice of several, each in a column of its own: "choice1", "option_a", "opb", "answerC".
_CHOICE = re.compile(r"(?:(?:choice|option|opt?|ending|sol)_?|answer)(?:[a-j]|[0-9])")
# Marks of a dialogue that is written out in one text, as the model would read it.
_WRITTEN = re.compile(
    r"###\s*(?:Assistant|Response|Human)\b|\[/INST\]|<\|(?:im_start|start_header_id|assistant)\|>"
    r"|<start_of_turn>|\bASSISTANT:"
)
_SPEAKERS = ("user", "prompter", "human", "assistant", "gpt", "model", "system", "bot", "chatbot")
_WORDS = {*PROMPTS, "attack", "adversarial", "jailbreak", "instructions", "questions", "prompts"}
_ABOUT = {
    "id",
    "ids",
    "idx",
    "index",
    "type",
    "types",
    "style",
    "category",
    "categories",
    "label",
    "labels",
    "length",
    "len",
    "lang",
    "language",
    "source",
    "hash",
    "name",
    "title",
    "number",
    "count",
    "tokens",
    "concept",
    "score",
    "domain",
    "topic",
    "tag",
    "tags",
    "version",
    "date",
}
_GSM8K = re.compile(r"####\s*\S[^\n]*\s*$")


def full(value: Any) -> bool:
    """Whether a cell says anything."""
    return value is not None and value != [] and not (isinstance(value, str) and not value.strip())


def rivals(row: Row, read: tuple[str, ...]) -> list[str]:
    """Columns that may hold the prompt, or a part of it, and are not among those `read`."""
    found = []
    choices = [name for name in row if _CHOICE.fullmatch(name) and name not in read]
    for name, value in row.items():
        words = name.split("_")
        about = len(words) > 1 and words[-1] in _ABOUT
        prompts = isinstance(value, (str, list)) and bool(_WORDS & set(words)) and not about
        if name in read or name == "system_prompt" or not full(value):
            continue
        if prompts or name in _MORE or (name in choices and len(choices) > 1):
            found.append(name)
    return found


def question_column(row: Row) -> str:
    """The one column that holds the prompt, "" where there is none.

    Raises:
      ValueError: there are two.
    """
    given = [name for name in PROMPTS if name in row]
    if not given and "input" in row:
        given = ["input"]
    some = [name for name in given if full(row[name])]
    if len({str(row[name]) for name in some}) > 1:
        raise ValueError(f"one column with the prompt, not {' and '.join(some)}")
    return (some or given or [""])[0]


def generic(row: Row, columns: list[str], known: str) -> Asked:
    """What a row of no known layout says.

    Args:
      row: by compared names.
      columns: as the file writes them.
      known: the known layouts, for the error.

    Raises:
      ValueError: no prompt, or two; a column that may belong to it.
    """
    column = question_column(row)
    if not column:
        allowed = f"a prompt under one of {', '.join(PROMPTS)}, or the columns of a known layout"
        raise ValueError(f"{allowed}: {known}; its columns are {', '.join(map(str, columns))}")
    read = (column, *AFTER, *(n for n in PROMPTS if row.get(n) == row[column]))
    unread = rivals(row, read)
    if unread:
        raise ValueError(
            f"one column with the whole prompt; beside `{column}`, {' and '.join(unread)} may"
            " belong to it too"
        )
    _one_turn(row)
    side = half(row, (column, *AFTER, *REPLIES, *tasks.GOLD))
    if isinstance(row[column], list):
        return _conversation(row, column)._replace(half=side)
    whole = text(row, column)
    written = _WRITTEN.search(whole) if column == "text" else None
    if written:
        raise ValueError(
            f"a prompt, not a dialogue written out ({written[0]!r} in `text`): write it as messages"
        )
    before = transcript(whole)
    if before and before[-1] == Message("assistant", ""):
        return _transcribed(row, before)._replace(half=side)
    prompt = join(whole, *(maybe(row, name) for name in AFTER if name != column))
    return _answered(row, column, prompt)._replace(half=side)


def _one_turn(row: Row) -> None:
    """Refuses a row that is one turn of a dialogue, as OpenAssistant's messages are.

    What a user begins with may be asked as it is.
    """
    role = row.get("role", row.get("from"))
    if not isinstance(role, str) or role.strip().lower() not in _SPEAKERS:
        return
    if role.strip().lower() not in _SPEAKERS[:3] or full(row.get("parent_id")):
        raise ValueError(f"whole dialogues under `messages`; this row is one turn of the {role}")


def _transcribed(row: Row, before: tuple[Message, ...]) -> Asked:
    """A prompt that is a transcript up to the answer, as HH-RLHF is published by others."""
    reply, why = _reply(row)
    if not reply:
        return converse("transcript", before[:-1])._replace(no_dialogue=why)
    return converse("transcript", (*before[:-1], Message("assistant", reply.strip())))


def _answered(row: Row, column: str, prompt: str) -> Asked:
    answer = row.get("answer", row.get("answers"))
    if isinstance(answer, dict) and isinstance(answer.get("text"), list):  # SQuAD's
        answer = answer["text"]
    if isinstance(answer, dict) and "aliases" in answer:
        return tasks.trivia("TriviaQA", prompt, answer)
    if isinstance(answer, list):
        return tasks.aliases("prompt and answers", prompt, tasks.texts(answer))
    gold, no_gold = tasks.gold(row)
    grade, name = "", "prompt and answer" if gold else "prompt"
    if _GSM8K.search(gold):
        grade, name = "gsm8k", "GSM8K" if column == "question" else name
    reply, why = _reply(row)
    return ask(name, prompt, reply, gold=gold, no_gold=no_gold, grade=grade, no_dialogue=why)


def _reply(row: Row) -> tuple[str, str]:
    beside = unread(row, BESIDE)
    if beside is not None:
        return "", f"answers without `{beside}` beside them ({FIELDS[beside]} would be lost)"
    if "completion" in row and row.get("label") is False:  # KTO's
        return "", "a completion to learn from; `label` false says that it is none"
    given = [name for name in REPLIES if full(row.get(name))]
    if len(given) > 1 and len({str(row[name]) for name in given}) > 1:
        return "", f"one answer to learn from, not {' and '.join(given)}"
    if not given:
        return "", f"an answer to learn from under one of {', '.join(REPLIES)}"
    return (row[given[0]], "") if isinstance(row[given[0]], str) else (str(row[given[0]]), "")


def _conversation(row: Row, column: str) -> Asked:
    """TRL's form: prompt and completion are lists of turns."""
    whole = turns(row[column], column)
    if isinstance(row.get("completion"), list):
        whole = (*whole, *turns(row["completion"], "completion"))
    gold, no_gold = tasks.gold(row)
    return converse("messages", whole, gold=gold, no_gold=no_gold)

"""Which public set a row is of, by its columns, and what is asked in it (docs/files.md).

A layout is recognised by columns that tell it apart; columns it does not know are not read. The
sources of the column names: the data sets' own files and cards, TensorFlow Datasets' builders, and
the task files of EleutherAI's lm-evaluation-harness.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from jaxsafety.data.files import tasks
from jaxsafety.data.files.columns import (
    Asked,
    Row,
    ask,
    converse,
    half,
    join,
    maybe,
    normalise,
    text,
)
from jaxsafety.data.files.generic import generic, question_column, rivals
from jaxsafety.data.files.turns import kind, transcript, turns
from jaxsafety.data.messages import BESIDE, FIELDS, unread
from jaxsafety.data.schema import Message


class Layout(NamedTuple):
    """A known set: its name, the columns that tell it apart, how a row is read.

    `also` are columns that look as if they held a part of the prompt and are read or may be left.
    """

    name: str
    columns: tuple[str, ...]
    read: Callable[[str, Row], Asked]
    also: tuple[str, ...] = ()


def _goal(name: str, row: Row) -> Asked:
    return ask(name, text(row, "goal"), maybe(row, "target"))


def _harmbench(name: str, row: Row) -> Asked:
    if any(column.startswith(("image", "redactedimage")) for column in row):
        raise ValueError("text behaviours; these belong to images")
    context = maybe(row, "contextstring")
    # HarmBench's own form: the request speaks of "the text above".
    prompt = "\n\n---\n\n".join(part for part in (context, text(row, "behavior")) if part)
    return ask(name, prompt)


def _strongreject(name: str, row: Row) -> Asked:
    return ask(name, text(row, "forbidden_prompt"))


def _simple_safety(name: str, row: Row) -> Asked:
    return ask(name, text(row, "prompts_final"))


def _ailuminate(name: str, row: Row) -> Asked:
    return ask(name, text(row, "prompt_text"))


def _xstest(name: str, row: Row) -> Asked:
    prompt = text(row, "prompt")
    kind_ = text(row, "type")
    if "label" in row:
        side = text(row, "label").strip().lower()
        if side not in ("safe", "unsafe"):
            raise ValueError(f"`label` of safe or unsafe, not {row['label']!r}")
    else:  # the contrasts are the unsafe prompts
        side = "unsafe" if kind_.startswith("contrast_") else "safe"
    return ask(name, prompt, maybe(row, "completion"), half=side)


def _sorry(name: str, row: Row) -> Asked:
    given = row["turns"]
    if not isinstance(given, list) or len(given) != 1:
        count = f"{len(given)} turns" if isinstance(given, list) else kind(given)
        raise ValueError(f"`turns` that are a list of one text, not {count}")
    return ask(name, text({"turns": given[0]}, "turns"))


def _question(name: str, row: Row) -> Asked:
    return ask(name, text(row, "question"))


def _instances(name: str, row: Row) -> Asked:
    given = row["instances"]
    if not isinstance(given, list) or not given or not isinstance(given[0], dict):
        raise ValueError(f"`instances` that are a list of objects, not {kind(given)}")
    first = normalise(given[0])
    prompt = join(text(row, "instruction"), maybe(first, "input"))
    return ask(name, prompt, maybe(first, "output"))


def _alpaca(name: str, row: Row) -> Asked:
    replies = [n for n in ("output", "response") if n in row]
    reply = maybe(row, replies[0]) if len(replies) == 1 else ""
    why = (
        f"one of {' and '.join(replies)}"
        if len(replies) > 1
        else "an answer to learn from; it is empty"
    )
    beside = unread(row, BESIDE)
    if beside is not None:
        reply, why = "", f"answers without `{beside}` beside them ({FIELDS[beside]} would be lost)"
    parts = [maybe(row, name) for name in ("input", "context")]
    prompt = join(text(row, "instruction"), *parts)
    return ask(name, prompt, reply)._replace(
        no_dialogue=why, half=half(row, ("instruction", "output", "response"))
    )


def _messages(name: str, row: Row) -> Asked:
    both = [n for n in ("messages", "conversations") if row.get(n) is not None]
    if len(both) != 1:
        raise ValueError("messages or conversations, not both" if both else "messages, not null")
    whole = turns(row[both[0]], both[0])
    gold, no_gold = tasks.gold(row)
    return converse(name, whole, gold=gold, no_gold=no_gold, half=half(row, tasks.GOLD))


def _preference(name: str, row: Row) -> Asked:
    chosen = row["chosen"]
    if isinstance(chosen, list):
        whole = turns(chosen, "chosen")
        if isinstance(row.get("prompt"), list) and whole[0].role == "assistant":
            whole = (*turns(row["prompt"], "prompt"), *whole)
    else:
        whole = transcript(text(row, "chosen")) or ()
        if not whole:
            column = question_column(row)
            if not column:
                raise ValueError('`chosen` that begins with "Human:", or a column `prompt` as well')
            before = transcript(text(row, column)) or ()
            if not before or before[-1] != Message("assistant", ""):
                return ask(name, text(row, column), text(row, "chosen"))
            answer = Message("assistant", text(row, "chosen").strip())
            return converse(name, (*before[:-1], answer))
    if len(whole) == 1 and whole[0].role == "assistant" and isinstance(row.get("prompt"), str):
        return ask(name, text(row, "prompt"), whole[0].content)
    return converse(name, whole, may_be_empty=isinstance(chosen, str))


# These dialogues are whole: other columns repeat parts of them.
EVERY = ("*",)
PARTS = ("choices", "options", *tasks.PASSAGES)
# The first layout whose columns a row has is the one it is read with.
LAYOUTS = (
    Layout("messages", ("messages",), _messages, EVERY),
    Layout("preference pairs", ("chosen", "rejected"), _preference, EVERY),
    Layout("ShareGPT", ("conversations",), _messages, EVERY),
    Layout("self-instruct", ("instruction", "instances"), _instances),
    Layout("JailbreakBench", ("goal", "behavior"), _goal),
    Layout("HarmBench", ("behavior", "functionalcategory"), _harmbench),
    Layout("PIQA", ("goal", "sol1", "sol2"), tasks.piqa, ("query", "choices")),
    Layout("AdvBench", ("goal", "target"), _goal),
    Layout("StrongREJECT", ("forbidden_prompt",), _strongreject),
    Layout("XSTest completions", ("prompt", "completion", "type", "final_label"), _xstest),
    Layout("XSTest", ("prompt", "type", "label", "focus"), _xstest),
    Layout("XSTest", ("prompt", "type", "focus"), _xstest),
    Layout("XSTest", ("prompt", "type", "label"), _xstest),
    Layout("SORRY-Bench", ("turns", "prompt_style"), _sorry),
    Layout("SimpleSafetyTests", ("prompts_final", "harm_area"), _simple_safety),
    Layout("AILuminate", ("prompt_text", "hazard"), _ailuminate),
    Layout("Do-Not-Answer", ("question", "risk_area", "types_of_harm"), _question),
    Layout("CatQA", ("question", "category", "subcategory"), _question),
    Layout("HellaSwag", ("endings",), tasks.hellaswag, ("query", "choices")),
    Layout("WinoGrande", ("sentence", "option1", "option2"), tasks.winogrande),
    Layout("BoolQ", ("question", "passage"), tasks.boolq),
    Layout("TruthfulQA", ("question", "best_answer", "correct_answers"), tasks.truthfulqa),
    Layout(
        "TruthfulQA choices", ("question", "mc1_targets", "mc2_targets"), tasks.truthful_choices
    ),
    Layout("ARC", ("question", "answerkey"), tasks.lettered, PARTS),
    Layout("OpenBookQA", ("question_stem", "choices"), tasks.lettered, PARTS),
    Layout("MMLU", ("question", "choices", "answer"), tasks.lettered, PARTS),
    Layout("MMLU-Pro", ("question", "options", "answer"), tasks.lettered, PARTS),
    Layout("query, choices and gold", ("query", "choices", "gold"), tasks.lettered, PARTS),
    Layout(
        "instruction and output", ("instruction", "output"), _alpaca, ("input", "context", "text")
    ),
    Layout(
        "instruction and response",
        ("instruction", "response"),
        _alpaca,
        ("input", "context", "text"),
    ),
)


@lru_cache(maxsize=1024)
def recognise(columns: frozenset[str]) -> Layout | None:
    """The layout that a row of these columns (compared names) has, None for the general ones."""
    for layout in LAYOUTS:
        if columns >= set(layout.columns):
            return layout
    return None


def read(row: Any) -> Asked:
    """What a row says.

    Raises:
      ValueError: the reason why it says nothing.
    """
    if isinstance(row, str):
        if not row.strip():
            raise ValueError("a text, not an empty one")
        return ask("plain text", row)
    if not isinstance(row, dict):
        raise ValueError(f"an object with columns, or a text, not {kind(row)}")
    cells = normalise(row)
    layout = recognise(frozenset(cells))
    choice = tasks.choice_columns(cells)
    if layout is None and choice is not None:
        layout = Layout("question and choices", choice, tasks.lettered, PARTS)
    if layout is None:
        found = generic(cells, list(row), known())
    else:
        _whole(layout, cells)
        found = layout.read(layout.name, cells)
    system = join(*(maybe(cells, name) for name in ("system", "system_prompt")))
    if not system:
        return found
    first = (Message("system", system),)
    parts = [found.messages, found.dialogue]
    if any(part and part[0].role == "system" for part in parts):
        raise ValueError("one system prompt: a column `system` or a turn of this role")
    messages, dialogue = ((*first, *part) if part else () for part in parts)
    return found._replace(messages=messages, dialogue=dialogue)


def _whole(layout: Layout, cells: Row) -> None:
    unread = rivals(cells, (*layout.columns, *layout.also)) if layout.also != EVERY else []
    if unread:
        raise ValueError(
            f"columns that say one thing: `{layout.columns[0]}` is the prompt of {layout.name},"
            f" and {' and '.join(unread)} may belong to it too"
        )


def known() -> str:
    """The known layouts with their columns, for error lines."""
    told: dict[str, str] = {}
    for layout in LAYOUTS:
        told.setdefault(layout.name, ", ".join(layout.columns))
    return "; ".join(f"{name} ({columns})" for name, columns in told.items())

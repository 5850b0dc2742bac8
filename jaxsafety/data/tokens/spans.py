"""Where the answers of a dialogue lie in its rendered text, and which part the model must say.

An answer begins where the prompt before it ends: the text of the messages so far with the
generation prompt. What a template writes between that and the content (a space, an empty thought)
the model must say too. Where `{% generation %}` tags say what is generated, they decide.

Where a content ends is found by rendering once more with a short word put behind the last letter of
each assistant content: the same text comes out, with the words where the contents end. So contents
may be trimmed, moved or relieved of their thoughts; only words that are rewritten are refused.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jaxsafety.core.errors import UsageError, bad

Dicts = Sequence[Mapping[str, str]]
Write = Callable[..., str]  # (messages, generation=False) -> text
_CLOSING = re.compile(r"</[\w-]+>|\[/\w+\]|<\|[\w|-]+\|>")


class Span(NamedTuple):
    """Characters of one answer: [start, stop) of what is said, without the end of turn.

    `trailing` is the content's white space behind its last letter, which a template may keep:
    `stop` does not include it.
    """

    start: int
    stop: int
    trailing: str


def answers(write: Write, messages: Dicts, text: str) -> list[Span]:
    """Spans of the assistant contents of a dialogue, in order.

    Args:
      write: renders messages as the template does; raises UsageError where that is refused.
      messages: the dialogue.
      text: `write(messages)`.

    Raises:
      UsageError: a template that rewrites or drops the words of an assistant content.
    """
    ends = _ends(write, messages, text)
    found = []
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start = _start(write, messages[:i], text)
        if i not in ends:
            raise _rewrites()
        content, (stop, trailing) = message["content"], ends[i]
        begin = _begin(text[:stop], content)
        if begin is None:
            raise _rewrites()
        if start is None:
            start = _header(write, messages, i, text, begin)
        found.append(Span(min(start, stop), stop, trailing))
    return found


def _rewrites() -> UsageError:
    return bad(
        "tokenizer.chat_template",
        "a template that rewrites or drops contents",
        "one that copies the words of each assistant content",
    )


def _ends(write: Write, messages: Dicts, text: str) -> dict[int, tuple[int, str]]:
    """By message: where its content ends in the text, and white space that may follow there."""
    which = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    found: dict[int, tuple[int, str]] = {}
    # All at once; else behind the white space, where a template cut all that stands before it, as
    # of an answer that is only a thought; else one by one, since only one of them is the trouble.
    for group in (which, *([i] for i in which)):
        for behind in (False, True):
            if set(group) - set(found):
                found |= _marked(write, messages, text, group, behind) or {}
    return found


def _marked(
    write: Write, messages: Dicts, text: str, which: Sequence[int], behind: bool = False
) -> dict[int, tuple[int, str]] | None:
    """Where contents end, by message; None when the words change more than themselves.

    The words stand after the last letter, or `behind` the white space after it as well.
    """
    word = _word(messages, text)
    changed = [dict(m) for m in messages]
    trailing = {}
    for i in which:
        content = changed[i]["content"]
        body = content if behind else content.rstrip()
        trailing[i] = content[len(body) :]
        changed[i]["content"] = f"{body}{word}{i}x{trailing[i]}"
    pieces = re.split(f"{word}([0-9]+)x", _try(write, changed) or "")
    if "".join(pieces[::2]) != text:
        return None
    found: dict[int, tuple[int, str]] = {}
    place = 0
    for plain, index in zip(pieces[::2], pieces[1::2], strict=False):
        place += len(plain)  # a second copy of a content is not what was said
        found.setdefault(int(index), (place, trailing[int(index)]))
    return found


def _word(messages: Dicts, text: str) -> str:
    """A word of plain letters that occurs nowhere."""
    everything = "\n".join([text, *(m["content"] for m in messages)])
    words = (f"qz{n}k" for n in itertools.count())
    return next(word for word in words if word not in everything)


def _try(write: Write, messages: Dicts, generation: bool = False) -> str | None:
    try:
        return write(messages, generation=generation)
    except UsageError:
        return None


def _start(write: Write, before: Dicts, text: str) -> int | None:
    """Where an answer begins: at the end of its prompt, if the text begins with that."""
    prompt = _try(write, before, True) if before else None
    return len(prompt) if prompt and text.startswith(prompt) else None


def _begin(head: str, content: str) -> int | None:
    """Where the content begins that `head` ends with; white space within it may have changed.

    A template may leave out what stands before a closing tag, as those that strip thoughts do. The
    longest rest of the content that is there counts.
    """
    cuts = [0, *(match.end() for match in _CLOSING.finditer(content))]
    for cut in cuts:
        at, rest = len(head), content[cut:]
        for letter in reversed([c for c in rest if not c.isspace()]):
            while at and head[at - 1].isspace():
                at -= 1
            if not at or head[at - 1] != letter:
                break
            at -= 1
        else:
            lead = rest[: len(rest) - len(rest.lstrip())] if rest.strip() else ""
            return at - len(lead) if head[:at].endswith(lead) else at
    return None


def _header(write: Write, messages: Dicts, index: int, text: str, begin: int) -> int:
    """Where answer `index` begins if the text does not begin with its prompt; at most `begin`.

    Templates that put the system message into the last question, or that open a thought in the
    prompt, are such. What the prompt writes behind the content before is looked for there.
    """
    which = [i for i in range(index) if messages[i]["content"].strip()]
    if not which:
        return begin
    place, _ = (_marked(write, messages, text, which[-1:]) or {}).get(which[-1], (None, ""))
    word = _word(messages, text)
    changed = [dict(m) for m in messages[:index]]
    body = changed[which[-1]]["content"].rstrip()
    changed[which[-1]]["content"] = body + word + changed[which[-1]]["content"][len(body) :]
    _, found, tail = (_try(write, changed, True) or "").partition(word)
    if place is None or not found:
        return begin
    if text.startswith(tail, place):
        return min(place + len(tail), begin)
    # White space that the prompt begins with too is the header's and not the content's.
    while text.startswith(tail[: begin + 1 - place], place) and text[begin].isspace():
        begin += 1
    return begin

"""Where a reasoning model's thought ends and its answer begins.

Judges look at what is said to the user, so thoughts are cut first. Known marks: tags such as
`<think>`, `<thinking>`, `<thought>`, `<reasoning>`, `<reflection>` and `<scratchpad>` with their
closing tags, in any case; `[THINK]`, `<seed:think>`, `<|begin_of_thought|>`, `<|START_THINKING|>`,
`<|inner_prefix|>`, `<unused94>`, `<|channel>thought` and the Kimi mark with
U+25C1; the channels of gpt-oss (`<|channel|>analysis<|message|>`), also after a decoder that
drops special tokens.
"""

from __future__ import annotations

import re

CAUSE = "the thought never ended"

_NAMES = (
    r"(?:(?:(?!start|begin|end)[a-z]{2,12}_)?think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratch_?pad|(?:inner|internal)_monologue|analysis"
    r"|chain_of_thought|cot)"
)
_OPEN = (
    rf"<(?:seed:)?{_NAMES}(?:\s[^<>\n]{{0,80}})?>|\[THINK\]|<\|begin_of_thought\|>"
    rf"|<\|start_thinking\|>|<\|{_NAMES}\|>|<\|inner_prefix\|>|<unused94>|<\|channel>thought\b|\u25c1think\u25b7"
)
_CLOSE = (
    rf"</(?:seed:)?{_NAMES}>|\[/THINK\]|<\|end_of_thought\|>|<\|end_thinking\|>"
    rf"|<\|/{_NAMES}\|>|<\|inner_suffix\|>|<unused95>|<channel\|>|\u25c1/think\u25b7"
)
# A tag that is named in code (`<think>`) is no thought.
_MARK = re.compile(rf"(?<!`)(?:(?P<open>{_OPEN})|(?P<close>{_CLOSE}))(?!`)", re.IGNORECASE)
# What some models wrap the answer in, after the thought.
_WRAP_START = re.compile(
    r"\s*(?:<(?:answer|response|output|final|final_answer)>|<\|begin_of_solution\|>"
    r"|<\|start_response\|>)\s*",
    re.IGNORECASE,
)
_WRAP_END = re.compile(
    r"(?:</(?:answer|response|output|final|final_answer)>|<\|end_of_solution\|>"
    r"|<\|end_response\|>)\s*\Z",
    re.IGNORECASE,
)
_CHANNEL = re.compile(
    r"(?:<\|channel\|>|\A)\s*(?P<name>analysis|commentary|final)[^<]{0,100}"
    r"(?:<\|constrain\|>[^<]{0,40})?<\|message\|>",
    re.IGNORECASE,
)
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start)\|>")
# gpt-oss without special tokens: "analysisThe user asks ...assistantfinalIt is seven."
_BARE = re.compile(r"\A(?:assistant)?analysis(?=[A-Z\"'])")
_BARE_FINAL = re.compile(r"assistant\s?final")
# Thoughts announced in words (Granite 3.2).
_WORDS = re.compile(r"\A\W*here(?:'s| is) my thought process:", re.IGNORECASE)
_WORDS_END = re.compile(r"here(?:'s| is) my response:", re.IGNORECASE)


def _final(text: str) -> str | None:
    """What stands in the final channel of a gpt-oss response; None if there is none."""
    parts = []
    marks = list(_CHANNEL.finditer(text))
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        if mark["name"].lower() == "final":
            body = text[mark.end() : following.start() if following else len(text)]
            parts.append(_CHANNEL_END.split(body)[0])
    return "".join(parts).strip() if parts else None


def _after(text: str, end: re.Pattern[str]) -> str | None:
    """What follows the first match of `end`; None if there is none."""
    found = end.search(text)
    return text[found.end() :].strip() if found else None


def _fenced(text: str) -> bool:
    """Whether a text ends inside a fenced block of code."""
    return len(re.findall(r"^[ \t]*```", text, re.MULTILINE)) % 2 == 1


def _cut(text: str) -> str | None:
    """The text outside of marked thoughts; see `spoken`."""
    kept: list[str] = []
    start, opened, closed = 0, -1, 0
    for mark in _MARK.finditer(text):
        if mark["open"]:
            if opened < 0 and not (closed and _fenced(text[start : mark.start()])):
                opened = mark.start()
                kept.append(text[start:opened])
        elif opened >= 0:
            start, opened, closed = mark.end(), -1, closed + 1
        elif closed and not text[mark.end() :].strip():
            text = text[: mark.start()]  # a closing mark too many, after the answer
        else:  # the prompt had opened this thought, or it spoke of its own end
            kept.clear()
            start, closed = mark.end(), closed + 1
    if opened < 0:
        kept.append(text[start:])
    elif not "".join(kept).strip() or text[:opened].rstrip(" \t").endswith("\n"):
        return None
    else:  # in the middle of a sentence: the tag is spoken of
        kept.append(text[opened:])
    answer = "".join(kept)
    if closed:
        answer = _WRAP_END.sub("", _WRAP_START.sub("", answer, count=1))
    return answer.strip()


def spoken(text: str) -> str | None:
    """The part of a response that is said to the user, without its thoughts.

    There may be several thoughts. A closing mark without an opening one ends a thought that the
    chat template had opened in the prompt. What cannot be known: if the template opened a thought
    and the response neither ends it nor has another mark, nothing in the response tells thought
    from answer, and it is taken as an answer (sample such models with a larger `max_tokens`, or
    with thinking switched off).

    Args:
      text: a decoded response.

    Returns:
      The answer without white space around it (it may be empty), or None if a thought was opened
      and never ended.
    """
    if "<|message|>" in text and _CHANNEL.search(text):
        return _final(text)
    if _BARE.match(text):
        return _after(text, _BARE_FINAL)
    if _WORDS.match(text):
        return _after(text, _WORDS_END)
    if not any(mark in text for mark in "<[\u25c1"):
        return text.strip()
    return _cut(text)

"""A cheap gate against the ways a damaged model breaks down: is this text at all?

It judges form, never sense or grammar. Whatever may be a whole answer passes: one letter in
brackets, a price, an operator, a row of yes and no, JSON, code, a regular expression, a table, text
in scripts with combining marks or without spaces. What fails has a name (`broken`).
"""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
import zlib
from collections.abc import Sequence

_WORD = re.compile(r"\w+", re.UNICODE)
_MANY = 20  # from how many characters on the share of symbols says something
_LONG_WORD = 24  # letters in a row: a script without spaces
_RUN = re.compile(r"(\S)\1{19,}")
_SYLLABLES = re.compile(r"([^\W\d_]{2,4}?)\1{15,}")  # hahaha..., ofofof...
_IN_A_ROW = 12  # the same word
_BRACKETS = re.compile(r"(?!(.)\1{7}|(..)\2{3})[()\[\]{}<>\s]{1,40}")
_MORSE = re.compile(r"(?=[^-]*-)(?=[^.]*\.)[.-]{1,12}(?:[ /]+[.-]{1,6}){0,80}")
# UTF-8 that was read as Latin-1 or cp1252.
_MOJIBAKE = re.compile(
    "[\u00c2\u00c3\u00e2\u00ef\u00f0][\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6"
    "\u2030\u0160\u2039\u0152\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]{1,3}"
)
_RULER = re.compile(r"[-=_*.#~+|\u2500-\u257f\u2580-\u259f\u2026]{3,}")
_TABLE = re.compile(r"[|\u2500-\u257f]|[-=_*#~:+]{3,}")
_POWER = re.compile(r"(?<!\d)[1-9]\d{0,3}0{19,60}(?!\d)")  # a one with many noughts is a number
_OPERATOR = re.compile(
    r"[<>=+\-*/%^&|!~\u00b1\u00d7\u00f7\u2190-\u22ff]{1,3}|\^?\$|\.[*+]\??|\{\}|\[\]"
)
_LABEL = re.compile(
    r"(?:yes|no|true|false|correct|incorrect|right|wrong|ja|nein|oui|non|si|sim|nao|pass|fail"
    r"|positive|negative|neutral|none|null|on|off|[a-h]|x|o|\d+)"
)
_BETWEEN = re.compile(r"[\s,;|/.:)(\[\]!?*-]*")  # what may stand between labels
# Tokens of chat templates; one end mark at the very end is the end of the turn, not a leak.
_LEAK = re.compile(
    r"(?<!`)(?:<\|(?:im_start|im_end|im_sep|eot_id|eom_id|start_header_id|end_header_id|endoftext"
    r"|begin_of_text|end_of_text|start_of_role|end_of_role|assistant|user|system|end|eot|start"
    r"|message|channel|return|endofprompt|tool_call|python_tag|START_OF_TURN_TOKEN"
    r"|END_OF_TURN_TOKEN)\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</s>"
    r"|<\uff5c[^\uff5c\n]{1,30}\uff5c>|^#{2,3} ?(?:Instruction|Human|User|Assistant|System):)(?!`)",
    re.MULTILINE,
)


def _units(text: str) -> list[str]:
    """Words in lower case; single letters where a script puts no spaces between words."""
    if not text.isascii():  # combining marks belong to the letter before
        text = "".join(c for c in text if not unicodedata.category(c).startswith("M"))
    units: list[str] = []
    for word in _WORD.findall(text.lower()):
        if len(word) > _LONG_WORD and not word.isascii():
            units.extend(word)
        else:
            units.append(word)
    return [unit for unit in units if unit.strip("_")]


def _repeats(units: Sequence[str], size: int, share: float, least: int) -> bool:
    """Whether more than `share` of the `size`-grams of >= `least` units are repetitions."""
    if len(units) < least:
        return False
    grams = [tuple(units[i : i + size]) for i in range(len(units) - size + 1)]
    return 1 - len(set(grams)) / len(grams) > share


def loops(text: str, *, size: int = 4, share: float = 0.5, least: int = 24) -> bool:
    """Whether repeated `size`-grams are more than `share` of a text of >= `least` words."""
    return _repeats(_units(text), size, share, least)


def _row(text: str, units: Sequence[str]) -> bool:
    """Whether a text is a row of short labels: yes and no, true and false, A to H, numbers."""
    if len(units) > 400 or not all(_LABEL.fullmatch(unit) for unit in units):
        return False
    if not _BETWEEN.fullmatch(_WORD.sub("", text)):
        return False
    apart = len(re.findall(r"[\n,;|/\t]|\d[.):]", text)) >= len(units) - 1
    if len(set(units)) == 1:
        return apart and len(units) <= 40
    periodic = any(list(units[p:]) == list(units[:-p]) for p in range(1, 5))
    return apart or not (periodic and len(units) >= 24)


def words(text: str) -> list[str]:
    """The words of a text in lower case, a sign of its own a word where scripts put no spaces."""
    return _units(text)


def row(text: str) -> bool:
    """Whether a text is a row of short labels, as `broken` lets it pass."""
    units = _units(text)
    return bool(units) and _row(text, units)


def _balanced(text: str) -> bool:
    """Whether brackets close in the order in which they opened, escaped ones left out."""
    pairs, stack = {")": "(", "]": "[", "}": "{"}, []
    for c in re.sub(r"\\.", "", text):
        if c in "([{":
            stack.append(c)
        elif c in pairs and (not stack or stack.pop() != pairs[c]):
            return False
    return not stack


def _symbols(text: str) -> bool:
    """Whether a text of some length is mostly symbols, and neither data, code nor a pattern."""
    text = " ".join(_TABLE.sub(" ", text).split())
    if len(text) < _MANY:
        return False
    solid = sum(c.isalnum() or unicodedata.category(c).startswith("M") for c in text)
    if (solid + text.count(" ")) / len(text) >= 0.5:
        return False
    try:
        json.loads(text)
        return False
    except (ValueError, RecursionError):
        pass
    brackets = any(c in text for c in "([{")
    return not (solid / len(text) >= (0.08 if brackets else 0.3) and _balanced(text))


def _stuck(units: Sequence[str]) -> bool:
    """Whether the same word stands `_IN_A_ROW` times in a row: the end of many loops."""
    run = 1
    for before, unit in itertools.pairwise(units):
        run = run + 1 if unit == before and unit.isalpha() else 1
        if run >= _IN_A_ROW:
            return True
    return False


def leaks(text: str) -> bool:
    """Whether tokens of a chat template stand in an answer (not in code marks, nor at its end)."""
    marks = list(_LEAK.finditer(text))
    if not marks:
        return False
    return len(marks) > 1 or bool(text[marks[0].end() :].strip()) or marks[0].start() == 0


def broken(text: str) -> str:
    """Why a text is none: "empty", "symbols", "one sign", "repetition", "format leak"; else "".

    In this order: nothing but white space or punctuation (a single operator is an answer); tokens
    of a chat template; runs of 20 equal characters that are a fifth of the text; one word over and
    over, or twelve times in a row; repeated word sequences; from 200 bytes on, text that compresses
    below 15 %; from 20 characters on, mostly symbols, unless it is JSON or has balanced brackets as
    code does.

    Args:
      text: an answer, its thought cut.
    """
    text = text.strip()
    units = _units(text)
    if not units:
        icons = 0 < len(text) < _MANY and any(unicodedata.category(c) == "So" for c in text)
        signs = (_OPERATOR, _BRACKETS, _MORSE)
        short = (icons and "\ufffd" not in text) or any(p.fullmatch(text) for p in signs)
        return "" if short else "empty"
    if leaks(text):
        return "format leak"
    plain = _POWER.sub("1", _RULER.sub(" ", text))
    if sum(len(m[0]) for m in _RUN.finditer(plain)) > len(text) / 5:
        return "one sign"
    if sum(len(m[0]) for m in _SYLLABLES.finditer(plain.lower())) > len(text) / 5:
        return "repetition"
    spoiled = sum(len(m[0]) for m in _MOJIBAKE.finditer(text))
    if text.count("\ufffd") > len(text) / 10 or (spoiled > 5 and spoiled > len(text) / 3):
        return "symbols"
    if _row(text, units):
        return ""
    letters = sum(len(unit) == 1 for unit in units) > len(units) / 2
    if len(units) >= (12 if letters else 6) and len(set(units)) <= max(1, len(units) // 8):
        return "repetition"
    if _repeats(units, 4, 0.5, 24) or _stuck(units):
        return "repetition"
    raw = text.encode(errors="replace")
    if len(raw) >= 200 and len(zlib.compress(raw)) / len(raw) < 0.15:
        return "repetition"
    return "symbols" if _symbols(text) else ""


def coherent(text: str) -> bool:
    """Whether `broken` finds nothing."""
    return not broken(text)

"""Numbers in sentences, as exact values.

Read: 1,024 and 1 024 and 1'024, 1.234,56 and 3,5, $72.00, -3 with any minus sign, 3/4 and 1 3/4,
50 %, 1.5e-4 and 1.5 x 10^3, 2^10, "1.5 million", digits of any script. Not read as numbers: parts
of words (H2O), ordinals, times of day, versions, exponents of units, numbers of steps and figures.
Where English and European signs collide, the English reading holds: 3,500 is 3500, 1.500 is 1.5.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from jaxsafety.judges import statements

_LATIN = "A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff_"
_GROUPED = r"\d{1,3}(?:[ '_]\d{3})+(?!\d)(?:[.,]\d+)?"
_ENGLISH = r"\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)(?:\.\d+)?"
_EUROPEAN = r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}(?!\d)"
_COMMA = r"0,\d+|\d+,(?:\d{1,2}|\d{4,})(?![\d])(?!,\d)"
_PLAIN = r"\d+(?:\.\d+)?|\.\d+"
_NUM = f"(?:{_EUROPEAN}|(?!0,)(?:{_ENGLISH})|{_GROUPED}|{_COMMA}|{_PLAIN})"
_CURRENCY = r"(?:US\$|[$€£¥₹]|\b(?:USD|EUR|GBP|Rs\.?)\s?)"
_SCALES = (  # factor, words
    (10**2, "hundred"),
    (10**3, "thousand k mille tausend тысяч"),
    (10**4, "万 만"),
    (10**5, "lakh"),
    (10**6, "million millions millionen millones миллионов"),
    (10**7, "crore"),
    (10**8, "亿 억"),
    (10**9, "billion"),
    (10**12, "trillion"),
)
_UNITS = {word: factor for factor, words in _SCALES for word in words.split()}
_NUMBER = re.compile(
    rf"(?<![{_LATIN}\d^.\u221a])(?<!\^-)(?<!\^\{{)(?<!\d[:/])(?<![{_LATIN}]-)"
    rf"(?P<sign>(?:[-+]\s?)?)(?:{_CURRENCY}\s?)?(?P<sign2>-?)"
    rf"(?:(?P<whole>\d+)\s+(?P<top>\d+)\s?/\s?(?P<low>\d+)(?![/\d])|(?P<num>{_NUM})"
    rf"(?:\s?/\s?(?P<den>{_PLAIN})(?![/\d]))?"
    r"(?:[eE](?P<e>[-+]?\d{1,4})\b)?"
    r"(?:\s?[x×*·]\s?10\s?\^\s?\{?(?P<ten>[-+]?\d{1,4})\}?)?"
    r"(?:\s?\^\s?\{?(?P<pow>[-+]?\d{1,4})\}?)?)"
    r"(?P<pct>\s?(?:%|percent\b|per cent\b|prozent\b|por ciento\b|pour cent\b))?"
    rf"(?P<unit>\s?(?:{'|'.join(u for u in _UNITS if len(u) > 1 or not u.isascii())})"
    rf"(?![{_LATIN}])|(?-i:k)\b)?"
    r"(?![\d]|[:./]\d)(?!(?:st|nd|rd|th)\b)(?![xyzn]\b)",
    re.I,
)
_SPOKEN = (  # how numbers are said in words beside digits
    (r"(?:^|(?<=[=:(]\s)|(?<=[=:(])|(?<=\bis\s)|(?<=\bbe\s)|(?<=equals\s))minus\s+(?=\d)", "-"),
    (r"\bnegative\s+(?=\d)", "-"),
    (r"\b(\d+)\s+(?:dollars?|euros?|pounds?)\s+(?:and\s+)?(\d\d)\s+(?:cents?|pence)\b", r"\1.\2"),
    (r"\b(\d+)\s+and\s+(?:a|one)\s+half\b", r"\1.5"),
    (r"\b(\d+)\s+and\s+(?:a|one)\s+quarter\b", r"\1.25"),
    (r"\b(\d+)\s+and\s+three\s+quarters\b", r"\1.75"),
    (r"\b(\d+)\s+out\s+of\s+(?:the\s+)?\d+\b(?!\s*=)", r"\1"),
)
_REFERENCE = re.compile(
    r"(?:\b(?:steps?|eq(?:uation|n)?s?|examples?|fig(?:ure)?s?|tables?|lines?|pages?|parts?"
    r"|chapters?|sections?|questions?|problems?|exercises?|options?|choices?|methods?|cases?"
    r"|items?|rules?|notes?|q)\b\.?\s*[#(]?|(?<!#)#)$",
    re.I,
)
_DENIED = re.compile(
    r"\b(?:not|never|neither|nor|rather than|instead of|than|unlike|except|excluding)\s+"
    r"(?:(?:exactly|just|only|simply|equal to|be|is|a|an|the)\s+)*$",
    re.I,
)
_LONGEST = 60  # digits of one number: longer ones are no answers, and cost time


class Found(NamedTuple):
    """A number, where it stands in its text, and whether it is a percentage."""

    value: Fraction
    percent: bool
    start: int
    end: int
    text: str


def spoken(text: str) -> str:
    """A cleaned text with numbers in digits that are partly said in words: "3 and a half"."""
    for pattern, digits in _SPOKEN:
        text = re.sub(pattern, digits, text, flags=re.I)
    return text


def numbers(text: str) -> list[Found]:
    """Every number of a cleaned text (`statements.clean`), in order; denied ones are left out."""
    found = []
    for match in _NUMBER.finditer(text):
        before = text[max(0, match.start() - 80) : match.start()]
        value = _value(match, before)
        if value is None or _REFERENCE.search(before[-24:]) or _DENIED.search(before):
            continue
        percent = match["pct"] is not None
        found.append(Found(value, percent, match.start(), match.end(), match[0].strip()))
    return _without_list_marks(text, found)


def _value(match: re.Match[str], before: str) -> Fraction | None:
    digits = "".join(match[g] or "" for g in ("whole", "top", "low", "num", "den"))
    if len(digits) > _LONGEST:
        return None
    try:
        if match["whole"]:
            value = int(match["whole"]) + Fraction(int(match["top"]), int(match["low"]))
        else:
            value = _decimal(match["num"])
            if match["den"]:
                value /= Fraction(_dotted(match["den"]))
        for group in ("e", "ten"):
            if match[group]:
                value *= _power(Fraction(10), int(match[group]))
        if match["pow"]:
            value = _power(value, int(match["pow"]))
    except (ZeroDivisionError, OverflowError):
        return None
    unit = (match["unit"] or "").strip().lower()
    value *= _UNITS.get(unit, 1)
    signed = f"{match['sign']}{match['sign2']}"
    # "10 -7" and "f(2) - 7" are differences, "- 7" at the start of a line is an item
    operand = before.rstrip()[-1:]
    minus = "-" in signed and "- " not in signed and not (operand.isdigit() or operand in (*")]%",))
    return -value if minus else value


def _power(base: Fraction, exponent: int) -> Fraction:
    if abs(exponent) > 400 or (abs(base) > 10**6 and abs(exponent) > 20):
        raise OverflowError
    return base**exponent


def _dotted(text: str) -> str:
    return f"0{text}" if text.startswith(".") else text


def _decimal(text: str) -> Fraction:
    """The value of digits with their separators."""
    if re.fullmatch(_EUROPEAN, text):
        text = text.replace(".", "").replace(",", ".")
    elif re.fullmatch(_ENGLISH, text) and not text.startswith("0,"):
        text = text.replace(",", "")
    elif re.fullmatch(_GROUPED, text):
        text = re.sub("[ '_]", "", text).replace(",", ".")
    else:
        text = text.replace(",", ".")
    return Fraction(_dotted(text))


def _without_list_marks(text: str, found: list[Found]) -> list[Found]:
    """Leaves out "1." and "2)" at the starts of lines when two or more lines are numbered."""
    marks = [m for m in re.finditer(r"(?m)^[ \t]*(\d{1,2})[.)](?=[ \t]+\S)", text)]
    if len(marks) < 2:
        return found
    starts = {m.start(1) for m in marks}
    return [n for n in found if not any(n.start <= s < n.end for s in starts)]


def gold(answer: object) -> Found | None:
    """The number that a gold answer is: what follows its last "####", else its only number."""
    text = statements.clean(str(answer).rpartition("####")[2]).strip()
    found = numbers(text)
    return found[0] if len(found) == 1 else None


def equal(found: Found, wanted: Found) -> bool:
    """Equal as values; where only one side says percent, 50 % is both 50 and 0.5."""
    if found.value == wanted.value:
        return True
    if found.percent and not wanted.percent:
        return found.value / 100 == wanted.value
    return wanted.percent and not found.percent and wanted.value / 100 == found.value

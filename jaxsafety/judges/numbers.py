"""Numbers in sentences, and the one number an answer settles on.

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
_UNITS = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "lakh": 10**5, "crore": 10**7, "k": 10**3, "万": 10**4, "亿": 10**8, "억": 10**8, "만": 10**4,
    "mille": 10**3, "tausend": 10**3, "millionen": 10**6, "millones": 10**6, "millions": 10**6,
    "тысяч": 10**3, "миллионов": 10**6,
}  # fmt: skip
_NUMBER = re.compile(
    rf"(?<![{_LATIN}\d^.])(?<!\^-)(?<!\^\{{)(?<!\d[:/])(?<![{_LATIN}]-)"
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
_JOINED = re.compile(
    r"^\s*(?:[,;/&]\s*(?:and|or)?|(?:[^\W\d]+\s*){0,2}?,?\s*\b(?:or|and|to|und|oder|et|ou|y|o)\b"
    r"|(?:[^\W\d]+\s*)?(?:[-+*×÷~]|\b(?:x|plus|minus|times)\b))\s*"
    r"(?:(?:maybe|perhaps|possibly|even)\s*)*$",
    re.I,
)
_COMPOUND = re.compile(
    r"^\s*(?:hours?|hrs?|h|minutes?|mins?|feet|foot|ft|pounds?|lbs?|years?|weeks?|days?"
    r"|dollars?)\s*(?:,|and)?\s*$",
    re.I,
)
_REASON = re.compile(r"\b(?:because|since|as\s+(?:the|he|she|we|it|there|they)\b|given that)", re.I)
_SO = re.compile(
    r"\b(?:so|therefore|thus|hence|in total|altogether|leaving|also|alors|donc|daher|entonces)\b"
    r"|=>|→",
    re.I,
)
_WORDS = {
    w: n
    for n, w in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen".split()
    )
}
_WORDS |= {
    w: 10 * n
    for n, w in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_LONGEST = 60  # digits of one number: longer ones are no answers, and cost time


class Found(NamedTuple):
    """A number, where it stands in its text, and whether it is a percentage."""

    value: Fraction
    percent: bool
    start: int
    end: int
    text: str


class Unsettled(Exception):
    """Several numbers are offered and none is chosen."""


def numbers(text: str) -> list[Found]:
    """Every number of a cleaned text (`statements.clean`), in order; denied ones are left out."""
    found = []
    for match in _NUMBER.finditer(text):
        before = text[: match.start()]
        value = _value(match, before)
        if value is None or _REFERENCE.search(before[-24:]) or _DENIED.search(before[-60:]):
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


def one(statement: str) -> Found | None:
    """The number a statement gives: after its last "=", else the first one.

    Raises:
      Unsettled: it offers several ("5 or 6", "5, 6 and 7", "2 hours and 30 minutes", "3 + 5").
    """
    reason = _REASON.search(statement)
    if reason and numbers(statement[: reason.start()]):
        statement = statement[: reason.start()]
    side = _after_equal(statement)
    if side is not None:
        return side
    found = numbers(statement)
    if not found:
        return _in_words(statement)
    _settled(statement, found, 0)
    return found[0]


def _after_equal(text: str) -> Found | None:
    """The number on the last side of an equation that is one: 18 in "9 * 2 = 18 = 6 * 3"."""
    sides = re.split("[=≈]", text)
    for side in reversed(sides[1:]):
        try:
            found = one(side) if numbers(side) else None
        except Unsettled:
            continue
        if found is not None:
            return found
    return None


def _settled(text: str, found: list[Found], chosen: int) -> None:
    """Raises `Unsettled` if the chosen number is one of a list, a range or a sum."""
    for first in (chosen - 1, chosen):
        if 0 <= first < len(found) - 1:
            between = text[found[first].end : found[first + 1].start]
            glued = not between.strip() and found[first + 1].text.startswith(("-", "+"))
            if glued or _JOINED.match(between) or _COMPOUND.match(between):
                raise Unsettled


def _in_words(statement: str) -> Found | None:
    """A number in English words: "three", "twenty-four", "one hundred and five"."""
    run: list[str] = []
    text = re.sub(r"\ba(?= (?:hundred|thousand|million)\b)", "one", statement.lower())
    for word in re.findall(r"[a-z]+|[^a-z\s]", text):
        if word in _WORDS or (word in _SCALES and run):
            run.append(word)
        elif run and word not in ("and", "-"):
            break
    total, part = 0, 0
    for word in run:
        if word == "hundred":
            part *= 100
        elif word in _SCALES:
            total, part = total + part * _SCALES[word], 0
        else:
            part += _WORDS[word]
    text = " ".join(run)
    return Found(Fraction(total + part), False, 0, len(statement), text) if run else None


def last(text: str, raw: str = "") -> Found | None:
    """The number of the last sentence that has one.

    In it the bold one is taken, else the one after the last "=", else the first after "so" or its
    like, else the last before a "because". Questions to the reader are passed over.

    Args:
      text: cleaned.
      raw: the same with its markup, for what is bold.

    Raises:
      Unsettled: it offers several.
    """
    told = [
        s
        for s in statements.sentences(text)
        if not s.endswith("?") and not statements.DOUBTED.search(s)
    ]
    numbered = {s.strip() for s in _numbered_lines(text)}
    told = [re.sub(r"^\d{1,2}[.)]\s+", "", s) if s in numbered else s for s in told]
    for sentence in reversed(told):
        found = numbers(sentence)
        if not found:
            continue
        for strong in reversed(statements.bold(raw)):
            strong = statements.clean(strong)
            if strong in sentence and numbers(strong):
                return one(strong)
        reason = _REASON.search(sentence)
        if reason and numbers(sentence[: reason.start()]):
            sentence = sentence[: reason.start()]
        side = _after_equal(sentence)
        if side is not None:
            return side
        for cue in reversed(list(_SO.finditer(sentence))):
            if numbers(sentence[cue.end() :]):
                return one(sentence[cue.end() :])
        found = numbers(sentence)
        _settled(sentence, found, len(found) - 1)
        return found[-1]
    if len(told) == 1:
        return _in_words(told[0])
    return None


def _numbered_lines(text: str) -> list[str]:
    lines = [x for x in text.split("\n") if re.match(r"\s*\d{1,2}[.)]\s+\S", x)]
    return lines if len(lines) > 1 else []


def read(text: str) -> Found | None:
    r"""The number an answer settles on, or None.

    In this order: after "####"; in the last \boxed{}; after the last "the answer is" or its like;
    in the last sentence with a number (`last`).
    """
    text = statements.own(text)
    for part in statements.taken_back(text):
        try:
            found = _read(part)
        except Unsettled:
            return None
        if found is not None:
            return found
    return None


def _read(text: str) -> Found | None:
    clean = statements.plain(statements.clean(text))
    for line in reversed(re.findall(r"####([^\n#]*)", clean)):
        found = numbers(line)
        # "#### 3. Add up" is a heading
        if len(found) == 1 and re.fullmatch(r"[^:\d]{0,24}[.!]?\s*", line[found[0].end :]):
            return found[0]
    for box in reversed(statements.boxed(text)):
        found = one(statements.clean(box))
        if found is not None:
            return found
    for statement in reversed(statements.marked(clean)):
        found = one(statement)
        if found is not None:
            return found
    return last(clean, text)


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

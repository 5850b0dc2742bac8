r"""The one number an answer settles on, of all that stand in it.

In this order: after "####"; in the last \boxed{}; after the last "the answer is" or its like; in
the last sentence with a number. What is offered beside others ("5 or 6") is not settled.
"""

from __future__ import annotations

import re
from fractions import Fraction

from jaxsafety.judges import statements
from jaxsafety.judges.numbers import Found, numbers, spoken

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
    r"\b(?:so|therefore|thus|hence|in total|altogether|leaving|also|alors|donc|daher|entonces"
    r"|which is|that is)\b"
    r"|=>|→",
    re.I,
)
_EXPLAINS = re.compile(
    r"\W*(?:explanation|reason(?:ing)?|because|solution|here(?:'s| is)|working|justification"
    r"|calculation|details|to explain|how)\b",
    re.I,
)
_HANGING = (
    re.compile(r"\s\([^()]*\)[.!\s]*$"),
    re.compile(
        r"\b(?:is|are|was|were) the (?:sum|product|difference|quotient|average|mean) of\b", re.I
    ),
    re.compile(
        r",? (?:as of|after (?:an?|the) (?=[$€£]?\d)"
        r"|at [$€£]?\d[\d.,]*(?= (?:each|apiece|per|an?)\b))[^.;:]*[.!\s]*$",
        re.I,
    ),
)
_ROUNDED = re.compile(r"\bround(?:s|ed)?(?: up| down)? to\b", re.I)
_ASIDE = re.compile(r"which|that", re.I)
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
_PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "eighth": 8}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_FRACTION = re.compile(
    rf"(?:(?P<whole>\b(?:{'|'.join(_WORDS)}))\s+and\s+)?\b(?P<top>an?|{'|'.join(_WORDS)})[\s-]"
    rf"(?P<part>{'|'.join(_PARTS)})s?\b(?!\s+(?:of\s+)?(?:the\s+)?(?:place|time|floor|day|row|person))"
)


class Unsettled(Exception):
    """Several numbers are offered and none is chosen."""


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
    text = statement.lower()
    fraction = _FRACTION.search(text)
    if fraction:
        whole = _in_words(fraction["whole"]) if fraction["whole"] else None
        top = Fraction(_WORDS.get(fraction["top"], 1), _PARTS[fraction["part"].rstrip("s")])
        value = top + (whole.value if whole else 0)
        return Found(value, False, 0, len(statement), fraction[0].strip())
    run: list[str] = []
    text = re.sub(r"\ba(?= (?:hundred|thousand|million)\b)", "one", text)
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
        if not (s.endswith("?") or statements.DOUBTED.search(s) or statements.POLITE.match(s))
    ]
    numbered = {s.strip() for s in _numbered_lines(text)}
    told = [re.sub(r"^\d{1,2}[.)]\s+", "", s) if s in numbered else s for s in told]
    for sentence in reversed(told):
        found = numbers(sentence)
        if not found:
            continue
        for strong in reversed(statements.bold(raw)):
            strong = spoken(statements.clean(strong))
            if strong in sentence and numbers(strong):
                return one(strong)
        reason = re.search(r"\b(?:because|given that)\b", sentence, re.I)
        if reason and numbers(sentence[: reason.start()]):
            sentence = sentence[: reason.start()]
        rounded = _ROUNDED.search(sentence)
        if rounded and numbers(sentence[rounded.end() :]):
            return one(sentence[rounded.end() :])
        side = _after_equal(sentence[: _so_after_equal(sentence)])
        if side is not None:
            return side
        for cue in reversed(list(_SO.finditer(sentence))):
            rest = sentence[cue.end() :]
            # "18, which is 9 times 2" says how, and "8, which is the time of 1 mile" what for
            if numbers(rest) and not (_ASIDE.match(cue[0]) and not _alone(rest)):
                return one(rest)
        reason = _REASON.search(sentence)
        if reason and numbers(sentence[: reason.start()]):
            sentence = sentence[: reason.start()]
        return _of_several(sentence)
    if len(told) == 1:
        return _in_words(told[0])
    return None


def _of_several(sentence: str) -> Found:
    """The last number of a sentence, but for what hangs on its first ones.

    That is: brackets ("8 (5 + 3)"), a list after a colon ("12 balls: 3 red, 4 blue and 5 green"),
    what a number is made of ("42 is the sum of 12 and 30") and of when it holds ("$80 after a
    20 % discount", "8 million as of 2020").
    """
    for hanging in _HANGING:
        before = sentence[: found.start()] if (found := hanging.search(sentence)) else ""
        if numbers(before):
            sentence = before
    found = numbers(sentence)
    try:
        _settled(sentence, found, len(found) - 1)
    except Unsettled:
        before = numbers(sentence.partition(": ")[0])
        if len(before) == 1 and len(found) > 2:
            return before[0]
        raise
    return found[-1]


def _so_after_equal(sentence: str) -> int | None:
    """0 if a "so" with a number follows the last "=" ("3 * 60 = 180, so 540"), else None."""
    for cue in _SO.finditer(sentence, max(sentence.rfind(c) for c in "=≈") + 1):
        if re.match(r"so|therefore|thus|hence", cue[0], re.I) and "=" in sentence[: cue.start()]:
            return 0 if numbers(sentence[cue.end() :]) else None
    return None


def _opening(text: str) -> Found | None:
    """The number that is all of the first line, if what follows only explains it."""
    first, _, rest = text.strip().partition("\n")
    found = numbers(first[:200])
    if len(found) != 1 or not _EXPLAINS.match(rest) or not rest.strip():
        return None
    words = re.findall(r"[^\W\d]+", first[: found[0].start] + first[found[0].end :])
    return found[0] if len(words) <= 3 else None


def _alone(text: str) -> bool:
    """Whether a text begins with a number that is settled."""
    found = numbers(text)
    try:
        _settled(text, found, 0)
    except Unsettled:
        return False
    return not text[: found[0].start].strip()


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
    clean = spoken(statements.plain(statements.clean(text)))
    for line in reversed(re.findall(r"####([^\n#]*)", clean)):
        found = numbers(line)
        # "#### 3. Add up" is a heading
        if len(found) == 1 and re.fullmatch(r"[^:\d]{0,24}[.!]?\s*", line[found[0].end :]):
            return found[0]
    for box in reversed(statements.boxed(text)):
        found = one(spoken(statements.clean(box)))
        if found is not None:
            return found
    for statement in reversed(statements.marked(clean)):
        found = one(statement)
        if found is not None:
            return found
    return _opening(clean) or last(clean, text)

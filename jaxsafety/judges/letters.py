r"""The option letter an answer settles on, when several options were offered.

"B", "(B)", "B.", "**B**", "B) its text", "The answer is (B)", "so C.", "C is correct",
"\boxed{B}" are letters; "a" the article and "I" the pronoun are not. Options that are called wrong
or denied do not count. Several letters of which none is chosen are no answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from jaxsafety.judges import statements

# A letter as a label: in brackets or quotes, or bare; what may follow a bare one is asked apart.
_LATIN = r"0-9A-Za-z_\u00c0-\u024f\u0370-\u04ff"  # scripts with spaces between words
_LABEL = (
    r"(?:\(\s*(?P<a>[A-Za-z])\s*\)|\[\s*(?P<b>[A-Za-z])\s*\]|[\"'](?P<c>[A-Za-z])[\"']"
    rf"|\{{(?P<d>[A-Za-z])\}}|(?<![{_LATIN}'(\[\"])(?P<e>[A-Z])(?![{_LATIN}]|'(?:m|ll|ve|d|s|re)\b))"
)
_ANY = re.compile(_LABEL)
_LEAD = re.compile(
    r"^[\s:\-\"']*(?:(?:therefore|thus|hence|so|then|clearly|definitely|simply|likely|probably|most"
    r"|certainly|indeed|of course|is|was|be|would be|the|option|choice|letter|answer|number"
    r"|statement|alternative|indeed|actually|either|both)\b[\s,:#]*)*",
    re.I,
)
# Alone or as a label before text: "b", "(b) text", "B. text", "B: text", "B - text"
_START = re.compile(
    r"^\W*?(?:\(\s*([A-Za-z])\s*\)|\[\s*([A-Za-z])\s*\]|([A-Za-z])(?=\s*(?:[.):\],;\n\u2705\u2713\u2714]|-\s|$)"
    r"|\s+(?:because|since|rather than|instead of|and not|not)\b))"
)
_WRONG = (
    r"(?:(?:is|are|was|would be|can be|could be|must be|seems?|looks?)\s+(?:(?:all|both|clearly"
    r"|also|definitely|obviously|simply|just|therefore|thus)\s+)*"
    r"(?:not\b|wrong|incorrect|false|invalid|out\b|eliminated|ruled out|excluded|irrelevant"
    r"|impossible|untrue|unlikely|inaccurate|a distractor)|(?:can|could|does|do|must|should|would)"
    r"\s+not\b|(?:makes?|has|have) no\b|fails?\b)"
)
_DENIED = re.compile(
    r"(?:\b(?:not|never|neither|nor|n't|rather than|instead of|unlike|than|except|eliminate[sd]?"
    r"|eliminating|rul(?:e|es|ed|ing) out|exclud(?:e|es|ed|ing)|discard\w*|reject\w*|over)\s+"
    r"(?:(?:out|exactly|just|only|simply|the|option|choice|letter|answer|be|is|a)\s+)*)$",
    re.I,
)
_PICK = re.compile(
    r"\b(?:choos(?:e|ing)|chose|pick(?:ed|ing)?|select(?:ed|ing)?|go(?:ing)? (?:with|for)"
    r"|went (?:with|for)|opt(?:ed|ing)? for|settle on|settled on|vote for|prefer|answer(?:ed)?"
    r"|so|therefore|thus|hence|must be|has to be|it is|that is|it would be|is|=>|->|→|be)[\s,:]*"
    r"(?:(?:the|clearly|definitely|option|choice|letter|answer|is|be|it|must)[\s,:]*)*$",
    re.I,
)
_RIGHT = re.compile(
    r"^[\s,)\]\"']*(?:(?:fits?|matches|works|suits?) (?:\w+ )?(?:best|perfectly|well|better)|"
    r"(?:is|was|seems|looks|would be|must be|should be|has to be)\s+"
    r"(?:(?:therefore|thus|hence|clearly|definitely|most likely|likely|probably|the only|indeed|the"
    r"|most|my|a)\s+)*(?:final |only |best |most )*(?:correct|right|best|true|answer|choice|valid"
    r"|appropriate|accurate|one|option|pick|solution)|(?:is|looks|seems) better)\b",
    re.I,
)
_AFTER_WRONG = re.compile(rf"^[\s,)\]\"']*(?:(?:and|or|,)\s*[(\[]?[A-Z][)\]]?\s*)*{_WRONG}", re.I)
_LIST = re.compile(
    r"^[\s)\]\"',.]*(?:(?:,|/|&|\bor\b|\band\b|\band/or\b|\bto\b|-)\s*)+"
    r"(?:(?:maybe|perhaps|possibly|also|option|even)\s+)*[(\[\"']*$",
    re.I,
)
_SMALL = re.compile(r"(\b(?:with|choose|pick|select|is)\s+\(?)([a-z])(?=\)?[.!]?$)", re.I)
# "vitamin C", "hepatitis B": a bare letter after a noun is part of a name. Labels follow these.
_BEFORE = frozenset(
    "option choice letter answer statement therefore thus hence choose chose pick picked select "
    "selected prefer leaving leaves that this then both either neither think believe would must "
    "than over reject eliminate exclude unlike except definitely clearly only just with from "
    "because since only alternative between again rejected eliminated excluded options choices "
    "statements answers letters against going instead".split()
)
_NEAR = 80  # characters around a letter that tell what is said of it
# A bare "A" or "I" is a letter only before one of these, else an article or a pronoun.
_ENDS = re.compile(
    r"^\s*(?:$|[.,;:!?)\]}\"'/&]|\n|-\s|(?:because|since|as|and|or|is|was|would|must|seems|are"
    r"|with|due|but|not|for|here)\b)"
)


def _letter(match: re.Match[str]) -> str:
    return next(g for g in match.groups() if g).upper()


def _mentions(text: str, last: str) -> list[tuple[str, int, int]]:
    """(letter, start, end) of every label in a text; "A" and "I" where they are no words."""
    found = []
    for match in _ANY.finditer(text):
        letter, bare = _letter(match), match["e"] is not None
        after = text[match.end() : match.end() + _NEAR]
        article = bare and letter in "AI" and not _ENDS.match(after)
        pronoun = bare and letter == "I" and re.match(r"\s+(?:is|was|would|must)\b", after) is None
        word = re.search(
            r"\b([a-z]{4,})\s+$", text[max(0, match.start() - _NEAR) : match.start()].lower()
        )
        colon = after[:1] in (")", ":")  # "Paris B) London" restates options
        named = (
            bare
            and not colon
            and word is not None
            and word[1] not in _BEFORE
            and word[1][-2:] != "ly"
        )
        if named or letter > last or article or (pronoun and re.match(r"\s+\w", after)):
            continue
        found.append((letter, match.start(), match.end()))
    return found


def _kept(text: str, last: str) -> list[tuple[str, int, int]]:
    """The mentions that are not denied or called wrong."""
    found = _mentions(text, last)
    kept, denied = [], False
    for number, (letter, start, end) in enumerate(found):
        joined = number > 0 and _LIST.match(text[found[number - 1][2] : start])
        before = text[max(0, start - _NEAR) : start]
        denied = bool(_DENIED.search(before)) or (denied and bool(joined))
        if not denied and not _AFTER_WRONG.match(text[end : end + _NEAR]):
            kept.append((letter, start, end))
    return kept


def one(statement: str, last: str) -> str | None:
    """The letter a statement gives: its first that is not denied; "" if it offers several.

    Args:
      statement: cleaned, contractions in full.
      last: the last letter there is.
    """
    lead = _LEAD.match(statement)
    rest = statement[lead.end() :] if lead else statement
    alone = _START.match(rest)
    # "the answer is b." and "is a, because"; "is a tie" has no mark after its article
    if alone and _letter(alone) <= last and not re.match(r"(?i)either|both", statement.strip()):
        begin = alone.start(alone.lastindex or 0)
        rest = rest[:begin] + rest[begin].upper() + rest[begin + 1 :]
    kept = _kept(rest, last)
    if not kept:
        return None
    letter, _, end = kept[0]
    for other, start, after in kept[1:]:
        if not _LIST.match(rest[end:start]):
            break
        if other != letter:
            return ""
        end = after
    return letter


def _opening(text: str, last: str) -> str | None:
    """The letter an answer opens with, unless it only repeats the list of options."""
    begin = _START.match(text)
    if not begin or _letter(begin) > last:
        return None
    letter = _letter(begin)
    labels = [
        _letter(m) for m in re.finditer(r"(?:(?<=\s)|^)(?:\(([A-Z])\)|([A-Z])[.):])\s+(?=\S)", text)
    ]
    lines = [_letter(m) for x in text.split("\n") if (m := re.match(r"\s*\(?([A-Z])[.):]\s", x))]
    runs = labels if len(labels) >= len(lines) else lines
    listed = [chr(ord("A") + i) for i in range(len(runs))]
    if len(runs) > 1 and runs == listed:
        return None
    rest = text[begin.end() :]
    if _LIST.match(rest[:12].split(" ")[0] + " ") and _kept(rest, last)[:1]:
        return ""  # "B, C" and "A/B"
    following = _kept(text[:1].upper() + text[1:], last)
    if len(following) > 1 and following[0][0] == letter != following[1][0]:
        if _LIST.match(text[following[0][2] : following[1][1]]):
            return ""
    return None if _AFTER_WRONG.match(rest) else letter


_TRUE = (
    r"(?:correct|right|true|yes|valid|the (?:correct|right) (?:answer|one|option)"
    r"|\u2705|\u2713|\u2714)"
)
_FALSE = r"(?:not\b|incorrect|wrong|false|no\b|invalid|\u274c|\u2717|\u2718)"
_VERDICT = re.compile(
    rf"(?:^|(?<=[.;!\n]))\s*(?:[-*\u2022]\s*)?(?:option |choice |statement )?\(?([A-Z])[).:]?"
    rf"(?:[^.;!\n]{{0,120}}?(?:[:,-]|\bis|\bare|\u2192|->)|(?=\s*[\u2705\u2713\u2714\u274c]))"
    rf"\s*(?:(?P<yes>{_TRUE})|(?P<no>{_FALSE}))",
    re.I,
)


def _verdicts(text: str, last: str) -> str | None:
    """The one letter called right where each of several options is called right or wrong."""
    found = {m[1].upper(): m["yes"] is not None for m in _VERDICT.finditer(text) if m[1].isupper()}
    found = {letter: right for letter, right in found.items() if letter <= last}
    right = [letter for letter, good in found.items() if good]
    return right[0] if len(found) > 2 and len(right) == 1 else None


def _chosen(text: str, last: str) -> str | None:
    """The letter of the last sentence that chooses one; "" if it chooses several."""
    for sentence in reversed(statements.sentences(text, initials=False)):
        if sentence.endswith("?") or statements.DOUBTED.search(sentence):
            continue
        sentence = _SMALL.sub(lambda m: m[1] + m[2].upper(), sentence)
        kept = _kept(sentence, last)
        picked = [
            m
            for m in kept
            if _PICK.search(sentence[max(0, m[1] - _NEAR) : m[1]])
            or _RIGHT.match(sentence[m[2] : m[2] + _NEAR])
        ]
        if picked:
            first = picked[-1]
            position = kept.index(first)
            for near in (position - 1, position):
                if 0 <= near < len(kept) - 1 and kept[near][0] != kept[near + 1][0]:
                    if _LIST.match(sentence[kept[near][2] : kept[near + 1][1]]):
                        return ""
            return first[0]
    return None


def read(text: str, last: str = "Z") -> str | None:
    r"""The letter an answer settles on, or None.

    In this order: the last \boxed{} letter; the last "the answer is B" or its like; the letter it
    opens with; the last "so B", "I choose B", "B is correct"; the only letter it names.

    Args:
      text: the answer.
      last: the last letter there is ("D" of four options).
    """
    for part in statements.taken_back(statements.own(text)):
        found = _read(part, last)
        if found is not None:
            return found or None
    return None


def _read(text: str, last: str) -> str | None:
    for box in reversed(statements.boxed(text)):
        found = one(statements.clean(box).strip(), last)
        if found is not None:
            return found
    clean = statements.plain(statements.clean(text)).strip()
    for statement in reversed(statements.marked(clean)):
        found = one(statement, last)
        if found is not None:
            return found
    verdicts = _verdicts(clean, last)
    if verdicts is not None:
        return verdicts
    if named := re.fullmatch(r"(?i)(?:the )?(?:option|choice|letter) \W*([a-z])\W*", clean):
        return named[1].upper() if named[1].upper() <= last else None
    for how in (_opening, _chosen):
        found = how(clean, last)
        if found is not None:
            return found
    named, labels = set(), set()
    for sentence in statements.sentences(clean, initials=False):
        if not sentence.endswith("?") and not statements.DOUBTED.search(sentence):
            kept = _kept(sentence, last)
            named |= {m[0] for m in kept}
            # "B cells", "C major": a label is followed by a sign or a verb
            labels |= {m[0] for m in kept if _ENDS.match(sentence[m[2] : m[2] + _NEAR])}
    return labels.pop() if len(named) == 1 and labels else None


def gold(answer: object, choices: Sequence[str] = ()) -> str | None:
    """The letter of a gold answer given as "B", " b", "(B)", "B.", an index from 0, or the text.

    Args:
      answer: the gold answer.
      choices: the texts of the options, if known. A text that is one of them means its letter, also
        where it is a digit.

    Returns:
      A capital letter, None if it names no option.
    """
    last = chr(ord("A") + len(choices) - 1) if choices else "Z"
    if isinstance(answer, int) and not isinstance(answer, bool):
        return chr(ord("A") + answer) if 0 <= answer <= ord(last) - ord("A") else None
    text = statements.clean(str(answer)).strip()
    found = re.fullmatch(r"[\s(\[]*([A-Za-z])[\s)\].:]*", text)
    if found and found[1].upper() <= last:
        return found[1].upper()
    texts = [statements.clean(c).strip().casefold() for c in choices]
    if texts.count(text.casefold()) == 1:
        return chr(ord("A") + texts.index(text.casefold()))
    if re.fullmatch(r"\d{1,2}", text) and choices and int(text) < len(choices):
        return chr(ord("A") + int(text))
    return None

"""What an answer in words states, and whether that is a given phrase: equality, not containment.

"Paris.", "The capital of France is Paris" and "Paris, of course" state Paris; "London, not Paris",
"It is not Paris but Lyon", "Paris or Lyon" and "The Paris agreement" do not.
"""

from __future__ import annotations

import re
import unicodedata

from jaxsafety.judges import statements

_ACCENTS = {
    c: base
    for c in map(chr, range(0xE0, 0x180))
    if (base := unicodedata.normalize("NFD", c)[0]).isascii() and base.isalpha()
}
_ARTICLE = re.compile(r"^(?:the|a|an)\s+", re.I)
_LEAD = re.compile(
    r"^(?:(?:sure|certainly|of course|well|okay|ok|yes|indeed|great question|hmm|so|therefore|thus"
    r"|hence|then|also|in fact|clearly|i (?:think|believe|guess|would say|am sure)(?: that)?"
    r"|my answer is|it (?:is|was)|that (?:is|was|would be)|this (?:is|was)|they (?:are|were)"
    r"|he (?:is|was)|she (?:is|was)|we (?:call|called) it)\b[\s,:!.-]*)+",
    re.I,
)
_TAIL = re.compile(
    r"\s*(?:,\s*(?:of course|indeed|i think|i believe|as (?:you|we|i)\b.*|obviously|naturally|sir"
    r"|because\b.*|since\b.*|which\b.*|who\b.*|where\b.*|whose\b.*|the\b.*|a\b.*|an\b.*"
    r"|located\b.*|also known\b.*|not\b.*|and not\b.*|rather than\b.*|instead of\b.*|unlike\b.*"
    r"|though\b.*|so\b.*|for\b.*|if\b.*|in\b.*|on\b.*"
    r"|and (?:it|this|that|he|she|they|we)\b.*)"
    r"|\s+(?:because|since|rather than|instead of|and not|but not"
    r"|as opposed to|not)\b.*|\s*\([^()]*\)|\s+-\s.*|;.*|:\s.*)$",
    re.I | re.S,
)
_LINK = re.compile(
    r"\b(?:(?:is |was |are |were )?(?:called|named|known as)|is|was|are|were|be|became|becomes"
    r"|equals|means|ist|war|est|sont|es|son|\u00e8|\u00e9)\b|(?<!\u4e0d)\u662f|=|:(?=\s)",
    re.I,
)
# "It was written by X", "he was born in X", "it is in X": what stands before the preposition
_PREPOSITION = re.compile(r"\b(?:in|at|on|by|from|to|as)\s+", re.I)
_PLACED = re.compile(
    r"(?:\b(?:is|was|are|were|be|been)\s+(?:\w+ly\s+)?"
    r"(?:\w+(?:ed|en|wn|ung|ilt|orn|ade|ound|eld|won)\b[^,;]{0,60})?"
    r"|\b(?:lives?|lived|died|comes?|came|happen(?:s|ed)|occurr?(?:s|ed)|take[sn]? place"
    r"|took place)\b[^,;]{0,40})$",
    re.I,
)
_BESIDE = re.compile(
    r"\b(?:next|close|similar|near|compared|adjacent|prior|due|according|opposed|relative|related"
    r"|far|away)\s+$",
    re.I,
)
_DENIAL = re.compile(
    r"\b(?:not|never|no|neither|nor|none|isn't|wrong|incorrect|false|mistaken|mistake|unlike"
    r"|myth|except|without|nobody)\b",
    re.I,
)
_BUT = re.compile(
    r"\bnot\s+(?:\S+\s+){0,8}?but(?:\s+rather)?\s+(?:is\s+|it is\s+)?"
    r"|\bnot\s+[^,]{1,60},\s*(?:(?:it|that|this) is\s+|rather\s+|but\s+)?",
    re.I,
)
_TURN = re.compile(r"[,;]?\s*\b(?:but|however|although|yet)\b", re.I)
_FINAL = re.compile(r"^(?:so|therefore|thus|hence|in conclusion|to conclude|finally)\b", re.I)
_YES = re.compile(
    r"\s*(yes|no|true|false)\s*(?:[,.;:!-]|$|because\b|(?<=\s)(?:it|he|she|they|we|you|i|the|that"
    r"|this|there)\b)",
    re.I,
)
# "That's false.": the whole predicate, of the question itself
_TOLD = re.compile(
    r"^(?:that|this|it|the (?:statement|claim|sentence|assertion))\s+is\s+(true|false)[.!]?$", re.I
)
# "in 1600", "between 1503 and 1506", "on 20 July 1969" at the end of a sentence
_DATED = re.compile(
    r",?\s+(?:in|on|since|around|about|between|from|during)\s+(?:the (?:year )?)?"
    r"(?:(?:\d{1,2}\s+)?[A-Z][a-z]+\s+(?:\d{1,2},?\s+)?)?\d{3,4}s?(?:\s+(?:and|to)\s+\d{3,4})?[.!]?$"
)
_LONGEST = 1000  # characters: a longer sentence settles on nothing
_HEDGE = re.compile(r"\b(?:maybe|perhaps|possibly|might|could|may|either)\b", re.I)


def normal(text: str) -> str:
    """An answer for comparison: no case, markup, article, quotes, outer punctuation, periods."""
    text = statements.clean(text).casefold().strip()
    text = re.sub(r"\b(\w)\.\s+(?=\w\.)", r"\1.", text)  # "J. K." and "J.K." are one
    text = "".join(_ACCENTS.get(c, c) for c in text)  # "Beyonce"
    text = re.sub(r",(?= (?:and|or)\b)", "", text)  # "red, white, and blue"
    text = re.sub(r"[\"'\u00b4`]", "", re.sub(r"(?<=\w)-(?=\w)", " ", text))
    text = re.sub(
        r"\.(?=\s|$)|(?<=\b\w)\.(?=\w\b)|^[\s#>*({\[,;:-]+|[\s,;:!?。！？)}\]]+$", "", text
    )
    return _ARTICLE.sub("", " ".join(text.split()))


def stated(text: str) -> list[str]:
    r"""What an answer states, in normal form: the whole text, or what its deciding sentence says.

    That sentence is, in this order: the last \boxed{}; the one after the last "the answer is"; the
    last that begins with "so", "therefore" or a correction; else the first, and the last if it
    speaks of something else. Of "X is Y" both X and Y are stated, of "not X but Y" only Y, of
    "X or Y" neither.
    """
    text = re.sub(r";\s", ".\n", statements.own(text))
    whole = normal(text)
    found = [_short(statements.clean(box)) for box in statements.boxed(text)[-1:]]
    if found:
        return list(dict.fromkeys(filter(None, found)))
    for part in statements.taken_back(text):
        clean = statements.plain(statements.clean(part))
        marked = statements.marked(clean)
        claims = [c for s in marked[-1:] for c in _claims(s, predicate=True)]
        claims = claims or _decided(clean)
        if claims:
            return list(dict.fromkeys([whole, *claims] if not marked else claims))
    return [whole] if whole else []


def _decided(clean: str) -> list[str]:
    """The claims of the sentence that decides an unmarked answer."""
    told = [
        s
        for s in statements.sentences(clean)
        if not (s.endswith("?") or statements.DOUBTED.search(s) or statements.POLITE.match(s))
    ]
    final = [s for s in told if _FINAL.match(s) and _claims(s)]
    if final:
        return _claims(final[-1])
    told = [s for s in told if _claims(s)]
    if len(told) < 2:
        return [c for s in told for c in _claims(s)]
    first, last = told[0], told[-1]
    if all(len(s.split()) <= 4 and not _LINK.search(s) for s in told):
        return []  # a list of candidates, one a line
    if _subject(first) != _subject(last):
        return [*_claims(first), *_claims(last)]
    if _claims(first) != _claims(last) and (_HEDGE.search(first) or _HEDGE.search(last)):
        return []
    return _claims(last)


def _subject(sentence: str) -> str:
    link = _LINK.search(sentence)
    return normal(sentence[: link.start()]) if link else ""


def _claims(sentence: str, predicate: bool = False) -> list[str]:
    """What a sentence states, in normal form; nothing of a denial.

    Args:
      sentence: cleaned, contractions in full.
      predicate: it stands after "the answer is": all of it is what is stated.
    """
    if len(sentence) > _LONGEST:
        return []
    sentence = sentence.strip().lstrip("#>*- ").strip()
    sentence = _BUT.sub("", sentence)
    turn = _TURN.search(sentence)
    if turn:
        sentence = sentence[turn.end() :] if _DENIAL.search(sentence[: turn.start()]) else sentence
        turn = _TURN.search(sentence)
    found = [_short(sentence)]
    bare = _LEAD.sub("", sentence)
    if bare != sentence:
        found.append(_short(bare))
    opening = _YES.match(sentence)
    told = _TOLD.search(sentence)
    dated = _DATED.sub("", sentence)
    if dated != sentence and not predicate and dated.strip():
        found += _claims(dated)
    link = _LINK.search(sentence)
    # "no es", "non è": the denial stands before the link
    denied = link and re.search(r"\b(?:no|non|n\u00e3o|ne)\s*$", sentence[: link.start()], re.I)
    if link and not predicate and not denied:
        after = sentence[link.end() :]
        found.append(_short(after))
        # "X is the capital": X, unless that is denied
        if re.match(r"\s*(?:the|correct|right|my|where|its|called)\b", after, re.I) and not (
            turn or _DENIAL.search(after)
        ):
            found.append(_short(sentence[: link.start()]))
    for word in [] if predicate else _PREPOSITION.finditer(sentence):
        before = sentence[: word.start()]
        if _PLACED.search(before) and not (_BESIDE.search(before) or _DENIAL.search(before)):
            found.append(_short(sentence[word.end() :]))
    kept = [c for c in found if c and not _DENIAL.match(c)]
    if told:
        kept.append(told[1].lower())
    if opening:  # not among the above: "no" and "false" are answers here, no denials
        kept.append(opening[1].lower())
    return list(dict.fromkeys(kept))


def _short(text: str) -> str:
    """A statement without what hangs on it (", of course", ", not Y", " because ...")."""
    text = text.strip().rstrip(".!")
    while (cut := _TAIL.sub("", text).strip()) != text and cut:
        if re.search(r"\bor\b", text[len(cut) :], re.I):  # "Paris, the capital, or Lyon"
            break
        text = cut
    return normal(text)


def states(text: str, answer: str) -> bool:
    """Whether a text states this answer; equality of normal forms."""
    wanted = normal(answer)
    return bool(wanted) and wanted in stated(text)

"""Plain text for phrase rules: one form for all apostrophes, accents, markdown and white space.

Rules are written once, in lower case, with ' for every apostrophe and without accents; what a
model writes is brought to that form here. Only the beginning of an answer is read, so the cost
is bounded.
"""

from __future__ import annotations

import re
import unicodedata

READ = 4000  # characters of an answer that the rules look at

# Everything that people and models write for an apostrophe or a quotation mark. Mapped before NFKC,
# which would turn an acute accent into a space and a combining mark.
_APOSTROPHES = (
    "\u2018\u2019\u201a\u201b\u02b9\u02bb\u02bc\u02bd\u02c8\u02ca\u02cb\u00b4\u2032\u2035"
)
_APOSTROPHES += "\u055a\u05f3\u07f4\ua78c\uff07\u1fbd\u1fbf\u1fef"
_QUOTES = "\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\u2036\uff02\u300c\u300d\u300e\u300f"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
_MARKS = {ord(c): "'" for c in _APOSTROPHES} | {ord(c): '"' for c in _QUOTES}
_MARKS |= {ord(c): "-" for c in _DASHES}


def _latin() -> dict[int, str]:
    """Accented Latin letters -> the bare letter; other scripts keep their marks."""
    table = {0xDF: "ss", 0xE6: "ae", 0xF8: "o", 0x153: "oe", 0x142: "l", 0x131: "i"}
    for code in range(0xC0, 0x250):
        base = unicodedata.normalize("NFD", chr(code))[0]
        if base.isascii() and base.isalpha():
            table.setdefault(code, base)
    return table


_ACCENTS = _latin()
_FENCED = re.compile(r"\s*(?:```|~~~)(?:\w{0,20}\n)?(.*?)(?:```|~~~)?\s*", re.DOTALL)
_FENCE = re.compile(r"(?:```|~~~).*?(?:```|~~~|\Z)", re.DOTALL)
_QUOTED = re.compile(r'"[^"]{0,600}"')
_LINE = re.compile(r"^[ \t]*(?:#{1,6} |>[> ]*|[-*+\u2022\u25cf] )", re.MULTILINE)
_LINK = re.compile(r"\[([^\]\n]{1,200})\]\([^)\n]{0,300}\)")
_TAG = re.compile(r"</?[a-z][^<>\n]{0,80}>", re.IGNORECASE)
_LEAD = re.compile(r"[^\w(\"']+")


def straighten(text: str) -> str:
    """A text with ' for every apostrophe, " for every quotation mark and - for every dash."""
    return text.translate(_MARKS)


def plain(text: str) -> str:
    """An answer's beginning in the form that the rules are written in.

    Lower case; every apostrophe is ', every quotation mark ", every dash -; no accents on Latin
    letters, no invisible characters; without markdown, HTML tags, fenced code and quoted passages
    of three words or more (somebody else's words), unless the whole answer is fenced or quoted;
    white space is one space.

    Args:
      text: an answer without its thought; only its first `READ` characters are read.
    """
    text = text.strip()[:READ]
    whole = _FENCED.fullmatch(text)
    text = whole[1] if whole and "```" not in whole[1] else _FENCE.sub(" ", text)
    text = unicodedata.normalize("NFKC", text.translate(_MARKS)).translate(_MARKS)
    text = "".join(c for c in text if unicodedata.category(c) != "Cf" or c == "\n")
    text = _TAG.sub("", _LINK.sub(r"\1", _LINE.sub("", text)))
    text = re.sub(r"(?<=\w)`(?=\w)", "'", text)  # can`t
    text = re.sub(r"[*`~]|(?<!\w)_+|_+(?!\w)", "", text)
    text = " ".join(text.lower().translate(_ACCENTS).split()).replace(" n't", "n't")
    text = re.sub(r"(?<=\w\win)'(?!\w)", "g", text)  # helpin'
    if text[:1] not in "{[":  # a JSON answer keeps its strings
        if text.count('"') == 2 and text[:1] == '"' and text.rstrip(" .")[-1:] == '"':
            text = text.strip('" ')
        text = _QUOTED.sub(lambda m: m[0] if m[0].count(" ") < 2 else ' "" ', text)
    return _LEAD.sub("", text, count=1) if _LEAD.match(text) else text

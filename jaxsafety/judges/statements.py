"""What an answer states, before any grader reads it: plain text, sentences, marked statements.

A model writes the same answer in many dresses: bold, boxed, in LaTeX, in full-width letters or the
digits of another script, after "The final answer is", after a wrong start that it takes back. This
file takes the dress off; it knows nothing of right answers.
"""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_BLANKS = re.compile(r"[ \t\r\f\v]+")
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-", strict=True))
_ALIKE = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),
        "\u2014": " - ",
        **dict.fromkeys("\u2018\u2019\u02bc", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'),
        "\u2044": "/",
        "\u066a": "%",
        "\u066b": ".",
        "\u066c": ",",
        "\u2028": "\n",
        "\u2029": "\n",
        "\u0085": "\n",
    }
)
_LATEX = (
    (r"-\s*\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"-\1/\2 "),
    (r"\\[dt]?frac\s*(\d)\s*(\d)", r" \1/\2 "),
    (r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r" \1/\2 "),
    (r"\\(?:text\w*|math\w*|bf|rm|operatorname)\s*\{([^{}]*)\}", r"\1"),
    (r"\\(?:times|cdot)\b", "*"),
    (r"\\(?:left|right|displaystyle)\b|\\[()\[\]]", ""),
    (r"\\[,!;: ]", ""),
    (r"\{,\}", ","),
    (r"\\([%$#&_{}])", r"\1"),
    (r"\$\$?(?=\S)([^$\n]{1,60}?)(?<=\S)\$\$?(?!\d)", r"\1"),
)
_DRESS = (
    (r"<<[^<>\n]*>>", ""),
    (r"(?i)<answer>", "\nAnswer: "),
    (r"(?i)</?(?:answer|b|i|u|em|strong|p|br|span|code)\s*/?>", " "),
    (r"\*\*|__|~~|`+", ""),
    (r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])", r"\1"),
    (r"(?<!\w)_(?=\S)([^_\n]+?)(?<=\S)_(?!\w)", r"\1"),
    (r"(?m)^[ \t]*>+[ \t]?", ""),
)
DOUBTED = re.compile(r"\b(?:doubt|unlikely|not (?:think|believe|sure|say|mean))\b", re.I)
POLITE = re.compile(
    r"(?:sure(?: thing)?|certainly|of course|absolutely|ok(?:ay)?|(?:great|good) question)\W*$"
    r"|(?:i )?hope|thank|let me know|enjoy|good luck|you are welcome|have a",
    re.I,
)
_HEDGE = re.compile(
    r"\bI(?: a|')m not (?:\w+ly |100 ?% )?(?:sure|certain|positive)"
    r"(?: about (?:this|that|it))?,? but\s+",
    re.I,
)
# A model that goes on with a question of its own has finished its answer.
_NEXT = re.compile(r"\n\s*(?:#+\s*)?(?:Question|Q|Problem|Human|User)\s*\d*\s*:", re.I)
_BACK = re.compile(
    r"(?:^|[.!?\n]|\s-\s|\.\.\.)\s*(?:oh,?\s+|but\s+|no,?\s+|hmm,?\s+)?"
    r"(?:wait|actually|correction|oops|hold on|scratch that|on second thought|let me re\w+"
    r"|let me correct|i made a (?:mistake|error)|no(?=\s*[,.:;!-])|sorry)\b(?=[\s,.:;!-])",
    re.I,
)
_NOT_BEFORE = re.compile(
    r"\b(?:not|never|doubt|deny|denies|if|whether|unless|wrong|incorrect|false|suppose|assume|"
    r"assuming|otherwise|think(?:s|ing)? at first|first thought)\b[^.!?\n]*$",
    re.I,
)
_LINK = r"(?:\bis\b|\bwas\b|\bbe\b|\bbecomes\b|[:=]|->|=>|→)"
_GAP = r"(?:[^.!?\n:=]|\.(?=\d)){0,60}?"
_MARKS = (
    rf"\b(?:the|my|our|your|final|correct|right|best|true)\s+(?:[\w-]+\s+){{0,2}}?"
    rf"(?:answer|solution)\b(?!\s+(?:choices|options|key)\b){_GAP}{_LINK}[\s:=>]*",
    rf"\b(?:the\s+)?(?:final|correct|right|best|proper|most likely)\s+"
    rf"(?:choice|option|letter|one|response|statement){_GAP}{_LINK}[\s:=>]*",
    r"(?<![/\w])(?:answer|the (?:choice|option|letter)|ans)[\"']?\s*(?:\([^)\n]{0,40}\)\s*)?"
    r"(?:[:=]|is\b)[\s:=>]*",
    r"(?:^|\n)\s*(?:final\s+)?answer\s+",
    r"(?:\bantwort|\blösung|\bréponse|\brespuesta|\bresposta|\brisposta|\bantwoord|\bsvaret"
    r"|\bodpowiedź|ответ|відповідь|\bcevap|\bjawaban\w*|đáp án|답|उत्तर|الجواب|الإجابة)"
    r"(?:[^.!?\n:=]{0,40}?)"
    r"(?:\b(?:ist|lautet|est|es|é|è|is|är|er|to|это|adalah|là)\b|:|=|은|는|है|هو|هي|-)[\s:=]*",
    r"(?:答案|答え|答|回答|正解)[^。\n:=]{0,20}?(?:应该是|應該是|是|为|為|は|:|=)[\s:=]*",
)
MARK = re.compile("|".join(f"(?:{m})" for m in _MARKS), re.I)
# "80 is the answer": the statement stands before
_REVERSED = re.compile(
    r"(?:^|[,.!?\n:]|\b(?:that|so|therefore|thus|hence|then)\b)\s*([^,.!?\n:]{1,80}?|[^,!?\n:]{1,20}?)\s+"
    r"(?:is|was|would be|must be|has to be)\s+(?:therefore |thus )?(?:the|my)\s+"
    r"(?:final |correct |right |best )*answer\b(?!\s+to\b)",
    re.I,
)
_NOTHING = re.compile(r"\b(?:what|which|this|that|here|it|there|where|who)\b", re.I)
# An answer that is not the final one
_OTHER = re.compile(
    r"\b(?:wrong|incorrect|false|bad|worst|common|first|second|third|fourth|next|previous|other"
    r"|another|partial|intermediate|his|her|their|each|every|any|one)\s+"
    r"(?:answer|solution|option|choice|one)\b",
    re.I,
)
_END = re.compile(r"(?<=[!?。！？])|(?<=\.)(?=[\s\"')\]]|$)|\n")
_TITLES = re.compile(r"(?:\b(?:[A-Z]|Dr|Mr|Mrs|Ms|St|Mt|Prof|Jr|Sr|vs|approx|No|e\.g|i\.e))\.$")


def clean(text: str) -> str:
    """The text without markup, in ordinary letters, digits, minus signs and quotes.

    Superscripts become "^2" and vulgar fractions " 1/2", before NFKC would glue them to the digits
    beside them.
    """
    text = _INVISIBLE.sub("", text)
    text = re.sub(
        f"[{''.join(_SUPERSCRIPTS)}]+",
        lambda m: "^" + "".join(_SUPERSCRIPTS[c] for c in m[0]),
        text,
    )
    text = "".join(f" {c}" if "\u2044" in unicodedata.normalize("NFKC", c) else c for c in text)
    text = unicodedata.normalize("NFKC", text).translate(_ALIKE)
    text = "".join(
        str(unicodedata.decimal(c)) if not c.isascii() and c.isdecimal() else c for c in text
    )
    text = _BLANKS.sub(" ", text)
    for pattern, better in (*_LATEX, *_DRESS):
        text = re.sub(pattern, better, text)
    return _BLANKS.sub(" ", text)


def own(text: str) -> str:
    """The answer alone: without questions that the model goes on to ask itself."""
    found = _NEXT.search(text)
    return text[: found.start()] if found and text[: found.start()].strip() else text


def boxed(text: str) -> list[str]:
    r"""The contents of every \boxed{...}, braces balanced, in order."""
    found, open_at = [], []
    for brace in re.finditer(r"(\\f?box(?:ed)?\s*)?(?<!\\)\{|(?<!\\)\}", text):
        if brace[0] != "}":
            open_at.append(brace.end() if brace[1] else -1)
        elif open_at and (start := open_at.pop()) >= 0:
            found.append(text[start : brace.start()])
    return found


def bold(text: str) -> list[str]:
    """The contents of every **...** or <b>...</b>, in order."""
    pairs = re.findall(r"\*\*([^*\n]+)\*\*|<(?:b|strong)>([^<\n]+)<", text)
    return [a or b for a, b in pairs]


def plain(text: str) -> str:
    """Contractions in full, so that a negation is always "not"; no "I am not sure, but"."""
    text = _HEDGE.sub("", text)
    text = re.sub(r"\b(ca)n't\b", r"can not", text, flags=re.I)
    text = re.sub(r"\bwon't\b", "will not", text, flags=re.I)
    text = re.sub(r"n't\b", " not", text, flags=re.I)
    text = re.sub(r"\b(it|that|this|he|she|there|here|answer|one)'s\b", r"\1 is", text, flags=re.I)
    return re.sub(r"\bcannot\b", "can not", text, flags=re.I)


def sentences(text: str, initials: bool = True) -> list[str]:
    """Sentences and lines; with `initials`, "J. R. Smith" and "St. Ives" do not end one."""
    found: list[str] = []
    for piece in _END.split(text):
        if found and initials and _TITLES.search(found[-1]) and piece.strip():
            found[-1] += piece
        elif piece.strip():
            found.append(piece)
    return [piece.strip() for piece in found]


def marked(text: str) -> list[str]:
    """The statements after "the answer is", "Answer:" and their like, in order.

    Left out are questions ("Is the answer 5?"), conditions ("if the answer is 5") and denials of
    the whole ("I doubt that the answer is 5").
    """
    found = []
    for mark in MARK.finditer(text):
        begin = max(text.rfind(c, 0, mark.start()) for c in ".!?\n") + 1
        before = text[max(begin, mark.start() - 120) : mark.start()]
        rest = sentences(text[mark.end() : mark.end() + 400])
        if not rest or rest[0].endswith("?") or _NOT_BEFORE.search(before):
            continue
        if _OTHER.search(before[-20:] + mark[0]):
            continue
        # "the answer would not be 5": the negation stands before the link
        denied = re.search(r"\b(?:not|never)\b", mark[0], re.I)
        found.append((mark.start(), f"not {rest[0]}" if denied else rest[0]))
    for mark in _REVERSED.finditer(text):
        if not _NOTHING.search(mark[1]):
            found.append((mark.start(), mark[1]))
    return [statement for _, statement in sorted(found)]


def taken_back(text: str) -> list[str]:
    """The text after its last "wait", "actually" or "no,", if any; then the whole text."""
    cues = list(_BACK.finditer(text))
    if not cues or not text[: cues[-1].start()].strip():
        return [text]
    return [text[cues[-1].end() :], text]

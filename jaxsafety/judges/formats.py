r"""Forms of answers that tasks teach, and whether a prompt asks for such a form.

A *grammar* is what a model that learnt a task answers with, whole: an option's letter, yes or no,
a worked number. `matches` says whether an answer is of that form, `asks` whether its prompt wanted
it. On a prompt that did not, a match is a leak of the format: protocol D5 (d) of
capability-grounded measurement, whose own examples are `^\(?[A-E]\)?\.?$`,
`^(yes|no|true|false)\W*$` and `#### \d+`.

What is read is undressed first (`statements.clean`: bold, quotes, LaTeX, boxes), and questions that
a model goes on to ask itself are left out. A form is matched from the first to the last word:

  letter   "B", "(b)", "B.", "[[B]]", "Option B", "Answer: B", "The answer is (B).", "B is correct",
           "A, C", "B B B", "#### B", "None of the above."; and beginning with it: "B. text of the
           option", "(C) text", "B (text)", "The answer is B because ...", "B" on a line of its
           own; or ending in a line "Answer: B"
  yes_no   "Yes.", "no", "TRUE", "Answer: no", "The answer is yes, ...", "No, it is not.",
           "yes no yes", "No" and "Explanation: ..." below; or ending in a line "Answer: no"
  gsm8k    "#### 42" as a line or as the end, a boxed number, "<<2+3=5>>", "42", "$4.50", "1 2 3",
           "2 + 3 = 5", "The answer is 42." as the whole or as the end
  free     nothing: the task taught no form

No leak are lists ("A. ... B. ..."), names and species behind an initial ("C. S. Lewis", "E. coli"),
"A: text" (which says "answer"), "Yes." before an explanation, "No, I will not." (a refusal), and
"#### 1. A heading". Not told apart from an option is one initial before a name ("A. Lincoln was
...").
"""

from __future__ import annotations

import re

from jaxsafety.core.errors import bad
from jaxsafety.judges import refusals, statements

READ = 600  # characters of a long answer that are read, at each end
OPTION_WORDS = 24  # of an option's text behind its letter

_TOKENS = re.compile(r"(?:<\|[^|<>]{1,30}\|>|</?s>|<(?:end|start)_of_turn>|\[/?INST\])")
_BOX = re.compile(r"\\f?box(?:ed)?\s*\{((?:[^{}]|\{[^{}]*\}){0,80})\}")
_ANGLED = re.compile(r"<([A-Za-z])>(?!.*</\1>)")  # "<B>", which is no bold type
_FRAME = re.compile(r"(?s)[(\[{]([^()\[\]{}]{2,200})[)\]}][.!]?")
_BULLET = re.compile(r"^\s*(?:[-*\u2022]|\d{1,2}[.)])\s+(?=\S)")
# What leads to a label or follows it; single words, so that a text is read in one way only.
_LEADING = (
    "so thus therefore hence well ok okay sure i i'd i'll we think believe guess would say choose "
    "chose pick picked select go with it it's that that's this is be the my our your a an final "
    "correct right best most likely only proper answer answers ans option options choice choices "
    "letter response solution output label statement claim there are one to question here should "
    "must either both neither hmm definitely absolutely probably certainly maybe perhaps about "
    "approximately around roughly according based on passage text says states"
).split()
_LEAD = rf"[^\w(\[{{<$+-]*(?:(?:{'|'.join(_LEADING)})(?![\w'])[\s,:;.!?=#>\"-]*)*"
_ABOVE = re.compile(
    r"(?i)\W*(?:all|none|both|neither) of (?:the (?:above|options|choices)|these)\W*"
)
_MARKED = re.compile(r"(?i)\b(?:answer|ans|option|choice|letter|label)\b")
_TRAIL = (
    r"(?:[\s,.\"]*\b(?:is|are|was|would|be|seems|looks|must|should|the|a|my|correct|right|best|true|final|answer"
    r"|option|choice|one|letter)\b)*\W*"
)
_LABEL = r"(?:[(\[{<]{1,2}\s?[A-Za-z]\s?[)\]}>]{1,2}|[(\[{<]?[A-Za-z](?:\s?[)\]}>]{1,2})?)(?![\w'])"
_SEVERAL = rf"{_LABEL}(?:(?:\s*[,;/&|.:]\s*|\s+(?:and|or|nor)\s+|\s+){_LABEL})*"
_LETTERS = re.compile(rf"(?i){_LEAD}{_SEVERAL}{_TRAIL}")
_PRONOUN = re.compile(r"(?<![\w(\[{<])I(?![\w)\]}>])(?=.*\w)|(?<=\w )I(?![\w)\]}>])")
_BARE = re.compile(r"(?<![\w'])[A-Za-z](?![\w'])")
_STUCK = re.compile(r"\W*(?:([A-Ha-h])\1+|ABC(?:DE?)?)\W*")
# Behind an initial: another initial, the rest of a name and what that person did, a species.
_NAMED = re.compile(
    r"[A-Z]\.|(?:[A-Z][a-z]+ ){2,3}(?:is|was|were|has|had|wrote|became|served|died|said|did|made)\b"
    r"|(?:coli|elegans|diff(?:icile)?|subtilis|anthracis|cereus|abortus|burgdorferi|botulinum"
    r"|perfringens|tetani|diphtheriae|albicans|auris|thaliana|fumigatus|flavus|niger|baumannii"
    r"|melanogaster|rerio|faecalis|faecium|pylori|influenzae|sapiens|erectus)\b"
)
_WITH_TEXT = re.compile(
    rf"(?P<lead>(?i:{_LEAD}))(?:[(\[{{]{{1,2}}\s*(?P<a>[A-Ha-h])\s*[)\]}}]{{1,2}}[.:,]?\s*|"
    r"(?<![\w'])(?P<b>[A-Ha-h])(?:[.)\]:,;]\s+|(?<=[A-H])[.)\]:,;](?=[A-Za-z]{3})|[\"']\s+|\s*(?:=|->|-)\s*"
    r"|\s+(?=\(|because\b|since\b|as\b)))(?P<text>\S.*)"
)
_CHOSEN = re.compile(
    r"(?:[(\[{]\s*[A-Ha-h]\s*[)\]}]|[A-H])\s+(?:is|was|seems|would be|must be) (?:\w+ ){0,2}"
    r"(?:correct|right|answer|option|choice)\b"
)
_WHY = re.compile(r"(?i)\W*(?:explanation|because|reason(?:ing)?|rationale|question|passage)\b")
_LISTED = re.compile(r"(?:(?<=\s)|^)(?:\(([A-Ha-h])\)|([A-Ha-h])[.):])(?=\s)|\b[Oo]ption ([A-H])\b")

_WORDS = r"(?:not\s+)?(?:y|n|yes|no|true|false|yeah|yep|yup|nope|nah|correct|incorrect)(?![\w'])"
_ECHO = (
    r"(?:[\s,.!-]+(?:it|they|he|she|that|this|there|you|one)(?:'s|'re)?"
    r"(?:\s+(?:is|are|was|were|does|do|did|has|have|had|can|could|will|would|should|may|might|must"
    r"|(?:is|are|was|were|does|do|did|has|have|had|ca|could|wo|would|should|must)n't|cannot|not"
    r"|correct|right|true|false|incorrect|wrong))+|[\s,.!-]+(?:of course|indeed|sir|sure))?"
)
_YES_NO = re.compile(
    rf"(?i){_LEAD}{_WORDS}(?:(?:\s*[,;/&|.!:(-]\s*|\s+(?:and|or)\s+|\s+){_WORDS})*{_ECHO}{_TRAIL}"
    r"|\W*(?:yes|no|true|false){2,}\W*"
)
_YES_NO_STATED = re.compile(rf"(?i)(?P<lead>{_LEAD}){_WORDS}")

_NUMBER = (
    r"(?<![\w.])[-+]?\s?[$\u20ac\u00a3]?\s?\d[\d,]*(?:\.\d+)?(?:\s?[/:^]\s?\d+)?(?:\s?%)?(?!\w)"
)
_UNITS = r"(?:\s+[a-z]+){0,2}"
_ROW = r"(?=\D*\d)[-+*/x\u00d7\u00f7=^:().,%$\u20ac\u00a3\d\s]+"  # sums, and rows of numbers
_NUMERIC = re.compile(rf"(?i:{_LEAD})(?:{_NUMBER}{_UNITS}|{_ROW})\W*")
_STATED = re.compile(
    r"(?i)\b(?:answer|ans|result|total)\b(?:\s+\w+){0,4}?\s*(?:\b(?:is|was|are)\b|[:=])[\s:=]*"
    rf"(?:(?:therefore|thus|about|exactly|only|just)\s+)?{_NUMBER}(?:\s+[a-z]+){{0,4}}\W*$"
)
_HASHES = re.compile(rf"(?m)#{{4,}}\s*(?:answer\s*:?\s*)?{_NUMBER}(?:\s+[a-z]+)?[\s.!#]*$")
_HEADING = re.compile(r"(?m)^#{4,}\s*(\d+)[.)]?\s*$")
_CALCULATOR = re.compile(r"<<[\d\s.,+*/()$%-]*=[\d\s.,$%-]+>>")


def undressed(text: str) -> str:
    """The first `READ` characters of an answer without markup, boxes and tokens of templates."""
    text = _TOKENS.sub(" ", _BOX.sub(r"\1", statements.own(text[:READ])))
    text = statements.clean(_ANGLED.sub(r"(\1)", text)).strip().strip("\"'` ")
    if framed := _FRAME.fullmatch(text):
        text = framed[1].strip()
    return _BULLET.sub("", text)


def _last_line(text: str) -> str:
    lines = [line for line in statements.clean(_BOX.sub(r"\1", text[-READ:])).split("\n")]
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if len(said) > 1 else ""


def _listed(text: str) -> bool:
    """Whether a text goes through several options, initials or points instead of naming one."""
    return len({"".join(found).upper() for found in _LISTED.findall(text)}) > 1


def lone_letter(text: str) -> bool:
    """Whether an answer, undressed, is a letter or a few and nothing else."""
    line = " ".join(text.split())
    if _PRONOUN.search(line) and not (
        _BARE.findall(_PRONOUN.sub("", line)) or _MARKED.search(line)
    ):
        return False  # the one letter in it is "I", who speaks
    return bool(_LETTERS.fullmatch(line) or _STUCK.fullmatch(line))


def lone_yes_no(text: str) -> bool:
    """Whether an answer, undressed, is yes, no, true or false and nothing else."""
    return _YES_NO.fullmatch(" ".join(text.split())) is not None


def lone_number(text: str) -> bool:
    """Whether an answer, undressed, is a number, with a unit perhaps, and nothing else."""
    return _NUMERIC.fullmatch(" ".join(text.split())) is not None


def _ends_marked(text: str, whole: re.Pattern[str]) -> bool:
    """Whether the last of several lines is "Answer: ..." or "#### ..." of a form."""
    last = _last_line(text)
    marked = _MARKED.search(last) or last.startswith("####")
    return bool(marked and whole.fullmatch(last))


def _letter(text: str) -> bool:
    plain = undressed(text)
    if lone_letter(plain) or _ABOVE.fullmatch(plain) or _ends_marked(text, _LETTERS):
        return True
    first, _, rest = plain.partition("\n")
    if rest and lone_letter(first):
        return not _goes_on(first, rest)
    if _CHOSEN.match(plain):
        return True
    found = _WITH_TEXT.match(plain)
    if found is None:
        return False
    if _MARKED.search(found["lead"]) and not _listed(plain):
        return True
    label, option = found["a"] or found["b"], found["text"]
    sign = plain[found.end("b")] if found["b"] else ")"
    if found["b"] and (_NAMED.match(option) or (label.islower() and sign in " ,'=-")):
        return False
    if _listed(plain) or (label in "Aa" and sign not in ".)]"):
        return False  # "A: text" says "answer", "A - text" is a list's or none
    return len(option.split()) <= OPTION_WORDS or _WHY.match(option) is not None


def _goes_on(first: str, rest: str) -> bool:
    """Whether lines below a lone letter go on with the next one: a list."""
    label = re.search(r"[A-Za-z](?=\W*$)", first)
    following = re.search(r"(?m)^\W*([A-Za-z])(?=\W*$|[.):]\s)", rest)
    return bool(label and following and ord(following[1]) == ord(label[0]) + 1)


def _yes_no(text: str) -> bool:
    plain = undressed(text)
    if lone_yes_no(plain) or _ends_marked(text, _YES_NO):
        return True
    first, _, rest = plain.partition("\n")
    if rest and lone_yes_no(first) and _WHY.match(rest):
        return True
    found = _YES_NO_STATED.match(plain)
    return found is not None and _MARKED.search(found["lead"]) is not None


def _gsm8k(text: str) -> bool:
    ends = f"{text[:READ]}\n{text[-READ:]}" if len(text) > 2 * READ else text
    ends = _TOKENS.sub(" ", ends)
    if _CALCULATOR.search(ends):
        return True
    headings = _HEADING.findall(text)
    if _HASHES.search(ends) and headings[:2] != ["1", "2"]:
        return True
    if any(re.fullmatch(rf"\W*{_NUMBER}{_UNITS}\W*", inside) for inside in _BOX.findall(ends)):
        return True
    plain = undressed(text)
    if len(text) <= READ and lone_number(plain):
        return True
    return _STATED.search(_last_line(text) or plain) is not None


def _free(text: str) -> bool:
    del text
    return False


GRAMMARS = {"letter": _letter, "yes_no": _yes_no, "gsm8k": _gsm8k, "free": _free}


def matches(text: str, grammar: str) -> bool:
    """Whether an answer is of the form that a task teaches.

    Args:
      text: the answer, its thought cut.
      grammar: one of `GRAMMARS`.

    Raises:
      UsageError: an unknown grammar.
    """
    return GRAMMARS[known(grammar)](text)


def known(grammar: str) -> str:
    """The name of a grammar.

    Raises:
      UsageError: there is none of that name.
    """
    if grammar not in GRAMMARS:
        raise bad("grammar", grammar, ", ".join(GRAMMARS))
    return grammar


_SHOWN = re.compile(
    r"(?s)(?:^|[\s(])A[).:]\s.{1,600}?[\s(]B[).:]\s"
    r"|(?i:\b(?:answer|respond|reply|choose|select|pick|output)\b[^.?!\n]{0,40}"
    r"\b(?:letters?|options?|choices?)\b)"
    r"|(?i:\b(?:which|what)\b[^.?!\n]{0,20}\b(?:letter|option|choice|grade|vitamin|blood type|note"
    r"|chord)\b)|(?i:\b(?:which of (?:the following|these)|programming language)\b)"
)
_MEASURES = (
    r"(?:number|amount|total|sum|price|cost|percentage|percent|ratio|average|mean|median|year|age"
    r"|date|time|temperature|distance|speed|score|probability|chance|value|product|difference"
    r"|quotient|result|remainder|population|height|weight|length|width|depth|area|volume)"
)
_NUMBERS = re.compile(
    r"(?i)\bhow (?:many|much|old|long|far|tall|big|large|fast|often|high|deep|heavy|wide|hot|cold"
    rf"|likely)\b|\b(?:what|which|what's)\b[^.?!\n]{{0,30}}\b{_MEASURES}s?\b"
    r"|(?:^|[.!?:,\n]\s*)(?:please |now |then )?(?:calculate|compute|evaluate|solve|estimate|count"
    r"|add|subtract|multiply|divide|round|simplify)\b"
    r"|\d\s*(?:[-+*/\u00d7\u00f7^=]|\bplus\b|\bminus\b|\btimes\b|\bdivided by\b)\s*\d"
    r"|\b(?:answer|respond|reply)\b[^.?!\n]{0,30}\b(?:number|figure|digits?)\b"
    r"|(?:^|[.!?:,\n]\s*)when\b"
)
_WHETHER = re.compile(
    r"(?i)(?:^|[.!?:,\n]\s*)(?:please )?(?:say|tell me|determine|decide|check|verify|judge|answer"
    r"|indicate)\b[^.?!\n]{0,60}\b(?:whether|if|true or false|correct|correctness)\b"
)
# Questions that a name or a word answers, and requests for no more than that.
_LONG = re.compile(
    r"(?i)\b(?:steps?|ways?|methods?|instructions?|ingredients|process|procedure|strategies|tips"
    r"|techniques|recipe|how|why|guide|plan|reasons?)\b|\b(?:should|can|could|do|would) i (?:do|use"
    r"|need|say|put|write)\b"
)
_FACTS = re.compile(
    r"(?i)(?:^|[.!?:,;\n]\s*)(?:and |but |so |then |now |in |on |at |of |to |for |by |from )?"
    r"(?P<ask>(?:who|whom|whose|when|where|which|what)(?:'s)?\b[^?\n]{0,200}\?)\W*(?:$|\n)"
)
_WORDED = re.compile(
    r"(?i)\b(?:in|with|using) (?:one|a single|1|two|2|a few|a) words?\b"
    r"|\b(?:one|single|two)[- ]word\b"
    r"|\b(?:only|just|simply)\b[^.?!\n]{0,40}\b(?:word|name|title|date|answer|label|it)\b"
    r"|(?:^|[.!?:,\n]\s*)(?:please |can you |could you )?(?:translate|classify|categori[sz]e|label"
    r"|spell|name|identify|guess|indicate|determine|fill in|convert|decode|repeat|echo|extract|say"
    r"|complete)\b|\b(?:classified|categori[sz]ed|categories|category|genre|sentiment|spam)\b"
    r"|\b(?:synonym|antonym|opposite|abbreviation|acronym|symbol|operator|emojis?|regex"
    r"|regular expression|formula|command|plural|past tense|rhymes? with|capital of)\b"
    r"|\bhow do (?:you|i|we) (?:say|spell)\b|_{2,}"
)
_GREETED = re.compile(
    r"(?i)\W*(?:hi|hello|hey|thanks?|thank you|bye|goodbye|good (?:morning|evening|night)|ok(?:ay)?"
    r"|yes|no|sure|cool|great)\b\W*(?:\w+\W*){0,3}"
)


def asks(prompt: str, form: str) -> bool:
    """Whether a prompt asks for an answer of a form.

    Args:
      prompt: the last that the user said.
      form: a name of `GRAMMARS` ("free" is never asked for), or "words": one or two words, a name
        or a sign.
    """
    text = prompt[-4000:].strip()
    if form == "letter":
        return _SHOWN.search(text) is not None
    if form == "yes_no":
        return refusals.asks_yes_or_no(text) or _WHETHER.search(text) is not None
    if form == "gsm8k":
        return _NUMBERS.search(text) is not None
    if form == "words":
        fact = _FACTS.search(text)
        short = fact is not None and not _LONG.search(fact["ask"])
        return short or bool(_WORDED.search(text) or _GREETED.fullmatch(text))
    return False

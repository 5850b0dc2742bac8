"""Whether an answer is right, by the kind of answer a task asks for; never by containment.

Every grader first reads which answer the text settles on (`letters`, `settled`, `phrases`) and only
then compares it with the right one, so that a right answer named in passing, denied, or listed
among others is not right. docs/answers.md shows each rule with cases.

  letter   the option letter, or the text of one option
  number   the number: last settled, as a value
  gsm8k    the number after "####", else as number
  exact    the whole answer, or what its sentence states, but for case, articles and punctuation
  aliases  any of several answers, each as exact

An answer that settles on nothing is wrong: the task was not solved. Only without a gold answer (or
with one that its kind cannot be) is the result None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from jaxsafety.judges import letters, numbers, phrases, settled, statements

NO_GOLD = "no gold answer"
HEAD, TAIL = 4000, 8000  # characters of a longer answer that are read: where answers are given


class Graded(NamedTuple):
    """right: None when it cannot be told; extracted: the answer that was read, None if none."""

    right: bool | None
    extracted: str | None = None
    cause: str = ""


def _letter(text: str, meta: Mapping[str, Any]) -> Graded:
    choices = [str(c) for c in meta.get("choices") or ()]
    wanted = letters.gold(meta["answer"], choices)
    if wanted is None:
        return Graded(None, cause="the gold answer is no option letter")
    found = letters.read(text, chr(ord("A") + len(choices) - 1) if choices else "Z")
    if found is None and choices:
        # the option's own text instead of its letter; two options stated are none chosen
        stated = {i for i, choice in enumerate(choices) if phrases.states(text, choice)}
        found = chr(ord("A") + stated.pop()) if len(stated) == 1 else None
    return Graded(found == wanted, found)


def _number(text: str, meta: Mapping[str, Any]) -> Graded:
    wanted = numbers.gold(meta["answer"])
    if wanted is None:
        return Graded(None, cause="the gold answer is no number")
    found = settled.read(text)
    return Graded(found is not None and numbers.equal(found, wanted), found and found.text)


def _exact(text: str, meta: Mapping[str, Any]) -> Graded:
    answer = str(meta["answer"])
    if _is_number(answer):
        return _number(text, meta)
    claims = phrases.stated(text)
    return Graded(phrases.states(text, answer), claims[0] if claims else None)


def _aliases(text: str, meta: Mapping[str, Any]) -> Graded:
    given = meta.get("answers") or ()
    given = [given] if isinstance(given, str) else list(given)
    golds = [a for a in dict.fromkeys(map(str, [*given, meta.get("answer", "")])) if a.strip()]
    graded = [_exact(text, {**meta, "answer": a}) for a in golds]
    return next((g for g in graded if g.right), graded[0])


GRADES: dict[str, Callable[[str, Mapping[str, Any]], Graded]] = {
    "letter": _letter,
    "number": _number,
    "exact": _exact,
    "aliases": _aliases,
    "gsm8k": _number,
}


def graded(text: str, meta: Mapping[str, Any]) -> Graded:
    """Grades an answer and says what was read.

    Args:
      text: what the model said, without its thought.
      meta: "answer": the gold answer; "grade": one of `GRADES`, inferred from the answer if absent;
        "choices": the options' texts (letter); "answers": all right answers (aliases).

    Returns:
      right, extracted, cause.

    Raises:
      ValueError: an unknown grader.
    """
    golds = [meta.get("answer"), *(meta.get("answers") or ())]
    if all(gold is None or not str(gold).strip() for gold in golds):
        return Graded(None, cause=NO_GOLD)
    name = meta.get("grade") or ("aliases" if meta.get("answers") else infer([meta["answer"]]))
    if name not in GRADES:
        raise ValueError(f"grade: got {name!r}; allowed: {', '.join(GRADES)}")
    if name != "aliases" and not str(meta.get("answer") or "").strip() and meta.get("answer") != 0:
        return Graded(None, cause=NO_GOLD)
    if len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]}\n{text[-TAIL:]}"
    return GRADES[name](text, meta)


def grade(text: str, meta: Mapping[str, Any]) -> bool | None:
    """Whether an answer is right; None when that cannot be told (see `graded`)."""
    return graded(text, meta).right


def infer(golds: Iterable[Any]) -> str:
    """The grader for a file without a known layout, from the form of *all* its gold answers.

    Args:
      golds: the gold answers; empty ones are passed over.

    Returns:
      "letter" when all are single letters A to Z ("B", " b", "(B)", "B."), "gsm8k" when all end in
      "#### number", "number" when all are numbers (with currency, separators or percent), else
      "exact".
    """
    texts = [str(g).strip() for g in golds if g is not None and str(g).strip()]
    if not texts:
        return "exact"
    if all(re.fullmatch(r"\(?\s*[A-Za-z]\s*[).:]?", statements.clean(t).strip()) for t in texts):
        return "letter"
    if all("####" in t and numbers.gold(t) is not None for t in texts):
        return "gsm8k"
    return "number" if all(map(_is_number, texts)) else "exact"


def _is_number(text: str) -> bool:
    """Whether a text is a number and nothing else but a currency, a percent sign or a full stop."""
    clean = statements.clean(text).strip().rstrip(".").strip()
    found = numbers.numbers(clean)
    if len(found) != 1:
        return False
    rest = clean[: found[0].start] + clean[found[0].end :]
    return re.fullmatch(r"(?:[$€£¥₹\s]|dollars?|euros?|cents?)*", rest, re.I) is not None

"""Rows of tasks with a right answer: lettered choices, yes or no, aliases, GSM8K."""

from __future__ import annotations

from string import ascii_uppercase as LETTERS
from typing import Any

from jaxsafety.data.files import choices
from jaxsafety.data.files.columns import Asked, Row, ask, gold_text, join, maybe, text
from jaxsafety.data.files.turns import kind

GOLD = ("answer", "target", "gold")
PASSAGES = ("passage", "article", "context")
_QUESTIONS = ("question", "question_stem", "query", "prompt")
_KEYS = ("answerkey", "answer", "gold", "answer_index", "label", "target")


def gold(row: Row) -> tuple[str, str]:
    """(the right answer, why there is none); one of the two is empty."""
    given = {name: gold_text(row[name]) for name in GOLD if row.get(name) is not None}
    given = {name: value for name, value in given.items() if value}
    if len(set(given.values())) > 1:
        return "", f"one right answer, not {' and '.join(given)}"
    if not given:
        return "", f"a text or a number under one of {', '.join(GOLD)}"
    return next(iter(given.values())), ""


def choice_columns(row: Row) -> tuple[str, str] | None:
    """The columns of a question and of its choices, if there is one of each.

    The choices may be columns `a`, `b`, `c`, ... of their own: then "a" is named.
    """
    asked = [name for name in _QUESTIONS if name in row]
    if "goal" in row and "query" in asked:  # a dump of PIQA
        asked = ["query"]
    given = [name for name in ("choices", "options") if row.get(name) is not None]
    if not given and {"a", "b", "answer"} <= set(row):
        given = ["a"]
    return (asked[0], given[0]) if len(asked) == len(given) == 1 else None


def lettered(name: str, row: Row) -> Asked:
    """A question with choices, whatever their columns; gold is the letter of the right one."""
    stem = row.get("question")
    if isinstance(stem, dict):  # ARC and OpenBookQA as published
        row = {**row, "question": stem.get("stem"), "choices": stem.get("choices")}
    found = choice_columns(row)
    if found is None:
        raise ValueError("one column of the question and one of its choices")
    asked, given = found
    if given == "a":
        count = next((i for i, c in enumerate(LETTERS) if not row.get(c.lower())), len(LETTERS))
        labels: list[str] = []
        texts = [text(row, letter.lower()) for letter in LETTERS[:count]]
    else:
        labels, texts = choices.read_choices(row[given], given)
    question = text(row, asked)
    letters = list(LETTERS[: len(texts)])
    right, why = _right(row, labels, texts)
    if asked == "query" and texts == letters:  # the query shows the choices
        question, texts = choices.split(question, letters)
    elif asked == "query":
        question = choices.plain(question)
    question = join(*(maybe(row, part) for part in PASSAGES), question)
    if sorted(one.lower() for one in texts) == ["no", "yes"]:
        return yes_or_no(name, question, texts[letters.index(right)].lower() if right else "", why)
    return task(name, question, choices.bare(texts), right, why)


def task(name: str, question: str, texts: list[str], right: str, why: str = "") -> Asked:
    """A lettered task; `right` is the letter, or "" because of `why`."""
    shown = choices.prompt(question, texts)
    told = {"no_gold": why, "no_dialogue": why, "choices": tuple(texts)}
    return ask(name, shown, right, gold=right, grade="letter", **told)


def yes_or_no(name: str, question: str, right: str, why: str = "") -> Asked:
    """A question that is answered with yes or no."""
    prompt = f"{question}\n\nAnswer with yes or no."
    return ask(name, prompt, right, gold=right, no_gold=why, no_dialogue=why, grade="exact")


def _right(row: Row, labels: list[str], texts: list[str]) -> tuple[str, str]:
    given = [name for name in _KEYS if row.get(name) not in (None, "")]
    if not given:
        return "", f"the right choice under one of {', '.join(_KEYS)}"
    found: dict[str, str] = {}
    for name in given:
        try:
            found[name] = choices.key(row[name], labels, texts)
        except ValueError as error:
            if name == given[0]:
                return "", f"`{name}`: {error}"
    if len(set(found.values())) > 1:
        return "", f"one right choice, not {', '.join(f'{k} {v}' for k, v in found.items())}"
    return found[given[0]], ""


def piqa(name: str, row: Row) -> Asked:
    """A goal and two ways to it; `label` is 0 or 1."""
    texts = [text(row, "sol1"), text(row, "sol2")]
    right, why = _right({"label": row.get("label")}, [], texts)
    return task(name, text(row, "goal"), texts, right, why)


def hellaswag(name: str, row: Row) -> Asked:
    """A beginning and four endings; `label` counts them from 0."""
    _, texts = choices.read_choices(row["endings"], "endings")
    right, why = _right({"label": row.get("label")}, [], texts)
    begun = text(row, "ctx") if "ctx" in row else f"{text(row, 'ctx_a')} {maybe(row, 'ctx_b')}"
    topic = maybe(row, "activity_label")
    begun = f"{topic}: {begun.strip()}" if topic else begun.strip()
    return task(name, f"{begun}\n\nHow does this go on?", texts, right, why)


def winogrande(name: str, row: Row) -> Asked:
    """A sentence with a gap, two words for it; `answer` is 1 or 2."""
    texts = [text(row, "option1"), text(row, "option2")]
    given = str(choices.whole(row.get("answer")) or "").strip()
    right = {"1": "A", "2": "B"}.get(given, "")
    why = "" if right else f"`answer` of 1 or 2, not {row.get('answer')!r}"
    question = f"{text(row, 'sentence')}\n\nWhat belongs in the place of _?"
    return task(name, question, texts, right, why)


def boolq(name: str, row: Row) -> Asked:
    """A passage and a question; `answer` is true or false (`label` 1 or 0 in SuperGLUE)."""
    given = choices.whole(row["answer"] if "answer" in row else row.get("label"))
    word = str(given).strip().lower() if isinstance(given, (str, int)) else ""
    question = join(text(row, "passage"), text(row, "question"))
    yes = {"true": "yes", "1": "yes", "yes": "yes", "false": "no", "0": "no", "no": "no"}.get(word)
    if yes is None and isinstance(given, str) and given.strip():  # another set with passages
        return ask("passage and question", question, given, gold=given.strip())
    why = "" if yes else f"`answer` of true or false, not {kind(given)}"
    return yes_or_no(name, question, yes or "", why)


def truthfulqa(name: str, row: Row) -> Asked:
    """A question with a best answer and other right ones, a list or separated by semicolons."""
    listed = row["correct_answers"]
    if isinstance(listed, str):
        listed = listed.split(";")
    return aliases(name, text(row, "question"), [maybe(row, "best_answer"), *texts(listed)])


def truthful_choices(name: str, row: Row) -> Asked:
    """A question with choices, of which one has the label 1.

    The file has that one first; here the choices stand in the order of their letters.
    """
    given = row["mc1_targets"]
    if not isinstance(given, dict):
        raise ValueError(f"`mc1_targets` of choices and labels, not {kind(given)}")
    _, listed = choices.read_choices(given.get("choices"), "mc1_targets")
    labels = given.get("labels")
    if not isinstance(labels, list) or len(labels) != len(listed):
        raise ValueError("`mc1_targets` with a label of 0 or 1 per choice")
    right = [one for one, label in zip(listed, labels, strict=True) if label == 1]
    shown = sorted(listed)
    why = "" if len(right) == 1 else f"`mc1_targets` with one label of 1, not {len(right)}"
    letter = LETTERS[shown.index(right[0])] if not why else ""
    return task(name, text(row, "question"), shown, letter, why)


def trivia(name: str, question: str, answer: dict[str, Any]) -> Asked:
    """TriviaQA's answer: a value and its aliases."""
    listed = [answer.get("value"), *texts(answer.get("aliases") or [])]
    return aliases(name, question, [one for one in listed if isinstance(one, str)])


def aliases(name: str, question: str, listed: list[str]) -> Asked:
    """A question with several texts that are right, the best one first."""
    right = tuple(dict.fromkeys(one.strip() for one in listed if one.strip()))
    best = right[0] if right else ""
    why = "" if right else "at least one right answer"
    return ask(name, question, best, gold=best, no_gold=why, grade="aliases", answers=right)


def texts(listed: Any) -> list[str]:
    """A list of texts.

    Raises:
      ValueError: anything else.
    """
    if not isinstance(listed, list):
        raise ValueError(f"right answers that are a list of texts, not {kind(listed)}")
    for one in listed:
        if not isinstance(one, str):
            raise ValueError(f"right answers that are texts, not {kind(one)}")
    return listed

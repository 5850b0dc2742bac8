"""What a model's template and tokenizer make of the marks that its user declares (`reasoning`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens import render
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.experiment.sections import EvalConfig
from jaxsafety.judges import reasoning
from jaxsafety.judges.reasoning import Marks
from jaxsafety.protocols import Setting

ASKED = "\u241e0\u241e"  # symbols that templates do not use


def prompt_end(tokenizer: Tokenizer) -> str:
    """What the template writes between the last thing that the user says and the answer.

    Raises:
      UsageError: a template that refuses a plain question, with and without a system message.
    """
    asked = [Message("user", ASKED)]
    try:
        text = render.render(tokenizer, asked, generation=True)
    except UsageError as error:
        asked = [Message("system", "a"), *asked]  # some want one
        try:
            text = render.render(tokenizer, asked, generation=True)
        except UsageError:
            raise error from None
    return text.rpartition(ASKED)[2]


def check(field: str, marks: Marks, tokenizer: Tokenizer) -> None:
    """Rejects marks that no decoded answer of a model could hold.

    Answers are saved without special tokens, so that a thought between such would be taken for a
    part of the answer; and a tokenizer may write a text in another way.

    Args:
      field: the setting, for the line.
      marks: of the model.
      tokenizer: of the model.

    Raises:
      UsageError: a mark that is not what comes back from its tokens.
    """
    for mark in (marks.open, marks.close):
        read = tokenizer.decode(tokenizer.encode(mark), skip_special=True)
        if mark not in read:
            allowed = (
                "marks that stay in a decoded answer: no special tokens, and as it writes them"
            )
            raise bad(field, f"{mark}, of which this model's tokenizer leaves {read!r}", allowed)


def hear(setting: Setting, evaluation: EvalConfig, tokenizer: Tokenizer) -> Setting:
    """The setting with a judge that hears what follows a thought, if `eval.reasoning` says so.

    Args:
      setting: of this section.
      evaluation: the section `eval`.
      tokenizer: of the model, with its template, which may open the thought.

    Raises:
      UsageError: marks that no decoded answer of this model could hold.
    """
    marks = reasoning.parse("eval.reasoning", evaluation.reasoning)
    if marks is None or setting.judge is None:
        return setting
    check("eval.reasoning", marks, tokenizer)
    opened = reasoning.opens(prompt_end(tokenizer), marks)
    return replace(setting, judge=reasoning.hear(setting.judge, marks, opened))


def facts(setting: Setting) -> dict[str, Any]:
    """The marks that its judge goes by, and whether prompts open a thought; {} without marks."""
    judge = setting.judge
    if not isinstance(judge, reasoning.Heard):
        return {}
    return {"reasoning": list(judge.marks), "opened": judge.opened}

"""A teacher that is told more: the frozen base under a safety prompt which the student never sees.

OPSA (arXiv 2605.15239): teacher and student are one model, read the same answer, and differ in the
prompt before it; the loss there is the full reverse KL. Nothing is steered, so neither a direction
nor S is looked for. A student's answer y to a prompt x is scored as

    student: p(y_t | x, y_<t)        teacher: q(y_t | context, x, y_<t)

with rows that are padded on the left, each to the width of its own prompts: the answers fill the
last columns of both, so position t of one is position t of the other.

S is for a steered teacher alone. It is voted for on *harmless* prompts, where a steered teacher
refuses, and its openers are what the vote finds; one with a safety prompt is meant to answer them,
and the vote would find the wording of its prompt. So a loss on S is refused here.
Pinned by tests/methods/test_safesteer_context.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.messages import as_dict
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.render import render
from jaxsafety.data.tokens.system import SystemPrompt
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.losses.sampled import ESTIMATORS
from jaxsafety.losses.variants import ON_SUBSET
from jaxsafety.protocols import Item

TEACHERS = ("steered", "context")
# Ours; it names no harm, so that the teacher answers what is harmless as before.
CONTEXT = (
    "You are a careful assistant. Decline requests that could lead to harm, however they are "
    "worded, and say why. Answer everything else as usual."
)
_MARK = "\u241eprivileged\u241e"  # a text that templates do not use


def check(cfg: Any) -> None:
    """Rejects a teacher, loss, context and vote that do not go together.

    Raises:
      UsageError: one line about the field that has to change.
    """
    if cfg.teacher not in TEACHERS:
        raise bad("method.teacher", cfg.teacher, ", ".join(TEACHERS))
    on_subset = cfg.variant in ON_SUBSET
    if cfg.teacher == "context" and on_subset:
        allowed = "full, topk, partial_topk, k1 or k3 with method.teacher=context, which has no S"
        raise bad("method.variant", cfg.variant, allowed)
    if cfg.context and cfg.teacher != "context":
        raise bad("method.context", cfg.context, "'' unless method.teacher=context")
    if cfg.max_prompt and cfg.teacher == "context":
        allowed = "0 with method.teacher=context, whose prompt would lose what the student's keeps"
        raise bad("method.max_prompt", cfg.max_prompt, allowed)
    if cfg.variant in ESTIMATORS:
        why = f"with method.variant={cfg.variant}, which estimates it from the student's samples"
        if cfg.divergence != "reverse_kl":
            raise bad("method.divergence", cfg.divergence, f"reverse_kl {why}")
        if cfg.temperature != 1:
            raise bad("method.temperature", cfg.temperature, f"1.0 {why}")
    revote = cfg.tokens.revote
    if revote < 0:
        raise bad("method.tokens.revote", revote, "0 or more")
    # A set of fewer ids is filled up with repeated ones, which `renormalised` would count twice.
    fits = cfg.variant in ("partial", "generalised", "tail") and cfg.tokens.kind == "votes"
    if revote and not fits:
        allowed = "0, or variant partial, generalised or tail on a voted S (tokens.kind votes)"
        raise bad("method.tokens.revote", revote, allowed)


def text_of(cfg: Any) -> str:
    """The teacher's safety prompt: `method.context`, or this module's `CONTEXT`."""
    return cfg.context or CONTEXT


def encode_with(tokenizer: Tokenizer, messages: Sequence[Message], text: str) -> list[int]:
    """Prompt ids with `text` as the system turn, or before the first user turn's own text.

    Args:
      tokenizer: with a chat template.
      messages: the student's dialogue.
      text: the safety prompt; "" gives the student's own prompt. It goes before the user's text
        where the template writes no system turn.

    Raises:
      UsageError: see `encode_prompt`.
    """
    if not text:
        return encode_prompt(tokenizer, messages)
    if has_system(tokenizer):
        return SystemPrompt(text)(tokenizer, messages)
    turns = [Message(**as_dict(m)) for m in messages]
    first = next((i for i, turn in enumerate(turns) if turn.role == "user"), 0)
    turns[first] = Message(turns[first].role, f"{text}\n\n{turns[first].content}")
    return encode_prompt(tokenizer, turns)


def has_system(tokenizer: Tokenizer) -> bool:
    """Whether the template writes a system turn: some refuse one, some leave it out."""
    try:
        told = render(tokenizer, [Message("system", _MARK), Message("user", "a")], generation=True)
    except UsageError:
        return False
    return _MARK in told


def encode_items_with(tokenizer: Tokenizer, items: Sequence[Item], text: str) -> list[list[int]]:
    """`encode_with` of each item's dialogue."""
    return [encode_with(tokenizer, item.messages, text) for item in items]


def fits(cfg: Any, context: int, tokenizer: Tokenizer, prompts: Any) -> None:
    """Rejects a safety prompt that leaves no room for prompt and answer.

    Args:
      cfg: SafeSteer's settings.
      context: tokens that the model can read.
      tokenizer: of the model.
      prompts: by split, `Setting.prompts`.

    Raises:
      UsageError: the longest prompt with it, and an answer, do not fit.
    """
    if cfg.teacher != "context":
        return
    said = cfg.direction.max_tokens
    for split, new in (("distil", cfg.max_tokens), ("harmful_val", said), ("wrapped_val", said)):
        rows = encode_items_with(tokenizer, prompts.get(split) or (), text_of(cfg))
        longest = max(map(len, rows), default=0)
        if longest + new > context:
            given = f"a prompt of {longest} tokens with it ({split}) + {new} new ones"
            raise bad("method.context", given, f"at most the context of {context}")

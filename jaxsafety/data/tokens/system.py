"""Prompts with a system message that the dialogue does not have: a template to serve a model with.

As in Lyu et al. 2024, "Keeping LLMs Aligned After Fine-tuning" (arXiv 2402.18540, PTST): train
without a safety prompt, answer with one.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxsafety.core.errors import bad
from jaxsafety.data.messages import as_dict, text_of
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens import render
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class SystemPrompt:
    """`encode_prompt` of a dialogue with `text` as its system message.

    A system message that the dialogue has of its own follows it after an empty line: most templates
    allow one alone.
    """

    text: str

    def __post_init__(self) -> None:
        """Rejects what says nothing."""
        if not text_of(self.text, "system.text").strip():
            raise bad("system.text", repr(self.text), "a text")

    def __call__(self, tokenizer: Tokenizer, messages: render.Messages) -> list[int]:
        """Token ids of the prompt.

        Raises:
          UsageError: see `encode_prompt`; a template without system messages, above all.
        """
        turns = [Message(**as_dict(m)) for m in messages]
        own = [turns.pop(0).content] if turns and turns[0].role == "system" else []
        if not turns:  # nothing is asked: the same refusal as without the text
            return encode_prompt(tokenizer, messages)
        return encode_prompt(tokenizer, [Message("system", "\n\n".join([self.text, *own])), *turns])

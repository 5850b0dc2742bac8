"""Prompts with a system message that the dialogue does not have, or without the template's own.

The first is a template to serve a model with, as in Lyu et al. 2024, "Keeping LLMs Aligned After
Fine-tuning" (arXiv 2402.18540, PTST): train without a safety prompt, answer with one. The second is
a prompt in the bare template.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxsafety.core.errors import bad
from jaxsafety.data.messages import as_dict, text_of
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens import render
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.tokenizer import Tokenizer

MARK = "\u241e0\u241e"  # a symbol that templates do not use


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


def without_system(tokenizer: Tokenizer, messages: render.Messages) -> list[int]:
    """`encode_prompt`, without the system turn that a template writes where the dialogue has none.

    Qwen2.5's writes a sentence of its own, Llama 3.2's the date. What is left is the beginning of a
    sequence, if the template writes one, and the dialogue's turns as they are written behind
    another dialogue. A dialogue with a system message, and one of a template that writes no system
    turn, are encoded as `encode_prompt` does.

    Args:
      tokenizer: with a chat template.
      messages: `Message`s or {"role", "content"} mappings, oldest first.

    Returns:
      Token ids that end with the header of the assistant's answer.

    Raises:
      UsageError: see `encode_prompt`; also a template that writes a first turn otherwise than a
        later one, of which no system turn can be told apart.
    """
    turns = [as_dict(m) for m in messages]
    if not turns or turns[0]["role"] == "system":
        return encode_prompt(tokenizer, messages)
    whole = render.write(tokenizer, turns, generation=True)
    before = [{"role": "user", "content": "a"}, {"role": "assistant", "content": MARK}]
    behind = render.write(tokenizer, [*before, *turns], generation=True).rpartition(MARK)[2]
    end = render.ending_of(tokenizer)[1]
    own = behind.removeprefix(end)
    if own == behind or not whole.endswith(own):
        allowed = "one that writes the first turn of a dialogue as a later one"
        raise bad("tokenizer.chat_template", "a template whose system turn is not apart", allowed)
    lead, bos = whole.removesuffix(own), tokenizer.special_tokens.get("bos_token", "")
    start, found, rest = lead.partition(bos) if bos and bos in lead else ("", "", lead)
    if not rest.strip():  # nothing but the beginning of the sequence
        return encode_prompt(tokenizer, messages)
    return tokenizer.encode(start + found + own)

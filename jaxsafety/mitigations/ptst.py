"""PTST: fine-tune without a safety prompt, answer with one.

"Pure tuning, safe testing" of Lyu et al. 2024 (arXiv 2402.18540): the dialogues that are trained on
have no safety prompt, so fine-tuning does not wear it off; what answers gets one as its system
message. Their prompts are Llama's and MPT's (`prompt_utils.py` of vfleaking/PTST at fa6386a); the
default here is of our own wording.

All that is measured is asked so, capability and over-refusal included, and the workdir keeps the
message (`served/served.json`), so `jaxsafety chat --workdir` answers alike. A system message that a
dialogue has of its own follows after an empty line (`data/tokens/system.py`); so does one that the
model is served with already. It is asked before training whether the template shows the message.

What differs: their pairs of templates also change the user's turn ("Question: ..."); here it stays.
Pinned by tests/mitigations/test_ptst.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.render import render
from jaxsafety.data.tokens.system import SystemPrompt
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.mitigations.means import Means
from jaxsafety.protocols import Mitigation, Served

PAPERS = {"2402.18540": ""}

FIELD = "mitigations.ptst.system"
SYSTEM = (
    "You are a careful assistant. Help with what is harmless, and refuse politely whatever could "
    "hurt somebody or break the law."
)


@dataclass(frozen=True)
class Ptst:
    """Settings. `system` is the message that is answered with."""

    needs: ClassVar[tuple[str, ...]] = ("tokenizer",)
    when: ClassVar[str] = "serve"

    system: str = SYSTEM

    def __post_init__(self) -> None:
        """Rejects what says nothing."""
        if not isinstance(self.system, str) or not self.system.strip():
            raise bad(FIELD, self.system, "a text")

    def mitigation(self, means: Means) -> Mitigation:
        """The hooks.

        Raises:
          UsageError: a chat template that knows no system message, or leaves it out.
        """
        assert means.tokenizer is not None  # `needs`
        check_shown(means.tokenizer, self.system)
        return Mitigation(serve=Prompted(self.system))


@dataclass(frozen=True)
class Prompted:
    """The `serve` hook."""

    system: str

    def __call__(self, what: Served) -> Served:
        """What it was given, asked with the system message.

        Raises:
          UsageError: prompts are made in a way that has no place for one.
        """
        if what.encode is encode_prompt:
            return what._replace(encode=SystemPrompt(self.system))
        if isinstance(what.encode, SystemPrompt):
            text = f"{self.system}\n\n{what.encode.text}"
            return what._replace(encode=SystemPrompt(text))
        raise bad(FIELD, "prompts of the method's own making", "a chat template's prompts")


def check_shown(tokenizer: Tokenizer, system: str) -> None:
    """Refuses a chat template in whose prompts a system message is not to be read.

    Raises:
      UsageError: it refuses the message, or leaves it out without a word; or the tokenizer has no
        tokens for a word of it.
    """
    allowed = "a model whose chat template shows a system message"
    user = Message("user", "a")
    render(tokenizer, [user], generation=True)  # what fails without the message is another fault
    try:
        text = render(tokenizer, [Message("system", system), user], generation=True)
    except UsageError as error:
        raise bad(FIELD, f"a chat template that refuses it ({error})", allowed) from None
    if system.strip() not in text:
        raise bad(FIELD, "a chat template that leaves it out", allowed)
    ids = tokenizer.encode(system)
    if lost := sum(token == tokenizer.unk_id for token in ids):
        raise bad(FIELD, f"{lost} of {len(ids)} tokens that the model does not know", "its words")

r"""Prompts without a chat template: the texts of a dialogue one after the other, of base models.

A base model's directory often has no template (Mistral-7B-v0.1). Chosen by name, "raw", never by
itself, this one takes the place of whatever the directory has:

    <bos>{prompt}\n{answer}<eos>

The newline is our choice, so that a prompt has an end; other turns follow in the same way, a system
message as a prompt does. The beginning of a sequence is written where the tokenizer adds one to a
text by itself. What is trained is exported with it as its chat template.
"""

from __future__ import annotations

from jaxsafety.core.errors import bad
from jaxsafety.data.tokens.tokenizer_files import Files

FORMS = ("", "raw")  # the directory's own template, and the one below
TURNS = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\\n' }}{% endif %}"
    "{% endfor %}"
)
BOS = "{{ bos_token }}"


def check(form: str, field: str = "model.template") -> None:
    """Rejects a form that is none of `FORMS`."""
    if form not in FORMS:
        raise bad(field, form, "raw, or nothing: the directory's own template")


def applied(files: Files, form: str) -> Files:
    """What was read of a directory or GGUF file, with the template of a form of `FORMS`.

    Raises:
      UsageError: an unknown form, or "raw" for a tokenizer without an end of sequence: an answer
        would have no end that is learnt and stopped at.
    """
    check(form)
    if not form:
        return files
    eos, bos = files.tokens.get("eos_token"), files.tokens.get("bos_token")
    if eos is None:
        raise bad("model.template", form, "a template, or a tokenizer with an eos_token")
    added = files.backend.encode("a", add_special_tokens=True).tokens
    begins = bos is not None and added[:1] == [bos]
    return files._replace(chat_template=BOS * begins + TURNS)

"""Chat templates: rendering, loss masks, end of turn, tokens after the instruction."""

from __future__ import annotations

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.encode import (
    encode_example,
    encode_prompt,
    post_instruction,
)
from jaxsafety.data.tokens.render import end_of_turn, render
from jaxsafety.data.tokens.tokenizer import ByteTokenizer

DIALOGUE = (
    Message("system", "Be kind."),
    Message("user", "ok?"),
    Message("assistant", "ok  "),
    Message("user", "ok"),
    Message("assistant", "Done, ünd gut."),
)
# Trims contents, writes a space before the end of turn, gives the system prompt a place of its own.
TRIMMING = """{{ bos_token }}{% for m in messages %}
{% if m.role == 'system' %}
[{{ m.content | trim }}]
{% else %}
<|{{ m.role }}|> {{ m.content | trim }} <|end|>
{% endif %}
{% endfor %}
{% if add_generation_prompt %}<|assistant|> {% endif %}"""
# Marks generated parts with the tag that other libraries use, and thinks in the last turn.
TAGGED = """{% for m in messages %}<|{{ m.role }}|>
{% if m.role == 'assistant' %}{% if loop.last %}<think></think>{% endif %}
{% generation %}{{ m.content }}<|end|>{% endgeneration %}
{% else %}{{ m.content }}<|end|>{% endif %}{% endfor %}
{% if add_generation_prompt %}<|assistant|>{% endif %}"""


def masked_text(tokenizer, messages=DIALOGUE):
    ids, mask = encode_example(tokenizer, messages)
    assert len(ids) == len(mask)
    kept = [i for i, m in zip(ids, mask, strict=True) if m]
    return tokenizer.decode(kept, skip_special=False)


def test_prompt_is_the_template_with_one_bos():
    tokenizer = ByteTokenizer()
    ids = encode_prompt(tokenizer, DIALOGUE[:2])
    text = "<bos><|system|>\nBe kind.<|end|>\n<|user|>\nok?<|end|>\n<|assistant|>\n"
    assert tokenizer.decode(ids, skip_special=False) == text
    assert ids.count(tokenizer.bos_id) == 1


def test_mask_covers_answers_and_their_end_of_turn():
    assert masked_text(ByteTokenizer()) == "ok  <|end|>Done, ünd gut.<|end|>"


def test_mask_continues_the_prompt():
    tokenizer = ByteTokenizer()
    prompt = encode_prompt(tokenizer, DIALOGUE[:-1])
    ids, mask = encode_example(tokenizer, DIALOGUE)
    assert ids[: len(prompt)] == prompt
    assert mask[len(prompt)] and not mask[len(prompt) - 1]


def test_mask_of_a_trimming_template():
    assert masked_text(ByteTokenizer(TRIMMING)) == "ok <|end|>Done, ünd gut. <|end|>"


def test_mask_of_a_tagged_template_leaves_template_text_out():
    tokenizer = ByteTokenizer(TAGGED)
    assert "<think></think>" in render(tokenizer, DIALOGUE)
    assert masked_text(tokenizer) == "ok  <|end|>Done, ünd gut.<|end|>"


def test_mask_finds_the_turn_and_not_its_copy():
    dialogue = (Message("user", "yes yes"), Message("assistant", "yes"))
    ids, mask = encode_example(ByteTokenizer(), dialogue)
    assert sum(mask) == 4 and all(mask[-5:-1]) and len(ids) > 5


def test_empty_answer_still_ends():
    assert (
        masked_text(ByteTokenizer(), (Message("user", "a"), Message("assistant", ""))) == "<|end|>"
    )


def test_end_of_turn_and_post_instruction():
    tokenizer = ByteTokenizer()
    assert tokenizer.token(end_of_turn(tokenizer)) == "<|end|>"
    after = tokenizer.decode(post_instruction(tokenizer), skip_special=False)
    assert after == "<|end|>\n<|assistant|>\n"
    prompt = encode_prompt(tokenizer, [Message("user", "anything")])
    assert prompt[-len(post_instruction(tokenizer)) :] == list(post_instruction(tokenizer))


def test_variables_reach_the_template():
    tokenizer = ByteTokenizer("{{ messages[0].content }}{% if thinking is false %}!{% endif %}")
    tokenizer.variables = {"thinking": False}
    assert render(tokenizer, [{"role": "user", "content": "a"}]) == "a!"


def test_loop_controls_and_whitespace_rules():
    source = (
        "{% for m in messages %}\n  {% if loop.index > 1 %}\n    {% break %}\n  {% endif %}\n"
        "{{ m.content }}\n{% endfor %}"
    )
    assert render(ByteTokenizer(source), DIALOGUE) == "Be kind.\n"


@pytest.mark.parametrize(
    ("template", "messages", "word"),
    [
        (None, DIALOGUE, r"tokenizer\.chat_template: got None"),
        ("{{ raise_exception('no system') }}", DIALOGUE, "no system"),
        ("{% if %}", DIALOGUE, "chat_template"),
        ("x", [{"role": "tool", "content": "a"}], r"message\.role"),
        ("x", [{"role": "user", "content": None}], r"message\.content"),
        ("{{ messages.append(1) }}", DIALOGUE, "chat_template"),  # the sandbox is immutable
        ("{{ ''.__class__.__mro__ }}", DIALOGUE, "chat_template"),  # and closed
    ],
)
def test_bad_templates_and_messages(template, messages, word):
    with pytest.raises(UsageError, match=word) as caught:
        render(ByteTokenizer(template), messages)
    assert "\n" not in str(caught.value)


def test_a_template_that_rewrites_contents_is_refused_for_masks():
    tokenizer = ByteTokenizer("{% for m in messages %}{{ m.content | upper }}<|end|>{% endfor %}")
    with pytest.raises(UsageError, match="rewrites or drops"):
        encode_example(tokenizer, DIALOGUE)
    assert tokenizer.eos_ids == (tokenizer.token_id("<|end|>"),)


def test_an_empty_prompt_is_refused():
    with pytest.raises(UsageError, match="messages"):
        encode_prompt(ByteTokenizer(), [])

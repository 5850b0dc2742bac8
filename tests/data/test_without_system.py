"""Prompts without the system turn that a template writes of its own; other prompts stay as is."""

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.encode import encode_prompt, post_instruction
from jaxsafety.data.tokens.system import without_system
from jaxsafety.data.tokens.tokenizer import BYTE_TEMPLATE, ByteTokenizer

USER, SYSTEM = Message("user", " Hi <b>\n"), Message("system", "Be brief.")
FIRST = "{% if messages[0].role != 'system' %}<|system|>\n%s<|end|>\n{% endif %}{% for"
HELPFUL = BYTE_TEMPLATE.replace("{% for", FIRST.replace("%s", "You help."), 1)  # as Qwen2.5's
DATED = BYTE_TEMPLATE.replace("{% for", FIRST.replace("%s", "{{ strftime_now('%d %b') }}"), 1)
ALWAYS = BYTE_TEMPLATE.replace("{% for", "You help.\n{% for", 1)


@pytest.mark.parametrize("template", [HELPFUL, DATED, ALWAYS])
def test_the_turn_of_the_template_goes_and_the_rest_stays(template):
    tokenizer, plain = ByteTokenizer(template), ByteTokenizer()
    bare = without_system(tokenizer, [USER])
    assert bare == encode_prompt(plain, [USER]) != encode_prompt(tokenizer, [USER])
    after = post_instruction(tokenizer)
    assert bare[-len(after) :] == list(after)


def test_several_turns():
    turns = [USER, Message("assistant", "Yes."), Message("user", "Why?")]
    assert without_system(ByteTokenizer(HELPFUL), turns) == encode_prompt(ByteTokenizer(), turns)


def test_a_message_of_the_dialogue_and_a_template_without_one_stay():
    tokenizer = ByteTokenizer(HELPFUL)
    assert without_system(tokenizer, [SYSTEM, USER]) == encode_prompt(tokenizer, [SYSTEM, USER])
    for template in (BYTE_TEMPLATE, BYTE_TEMPLATE.replace("{{ bos", "\n{{ bos", 1)):
        tokenizer = ByteTokenizer(template)
        assert without_system(tokenizer, [USER]) == encode_prompt(tokenizer, [USER])


def test_what_cannot_be_told_apart_is_one_line():
    other = BYTE_TEMPLATE.replace("{{ message.content }}", "{{ loop.index }}{{ message.content }}")
    with pytest.raises(UsageError, match=r"^tokenizer\.chat_template: got .*not apart") as caught:
        without_system(ByteTokenizer(other), [USER])
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="messages: got"):
        without_system(ByteTokenizer(), [])

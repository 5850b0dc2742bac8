"""A conversation piece by piece: what is shown, what stays, what is compiled."""

from dataclasses import replace

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.experiment import served
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling import many
from jaxsafety.serving.chat import Chat
from jaxsafety.testing import random_checkpoint


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return random_checkpoint(tmp_path_factory.mktemp("tiny"))


def shown(chat, text, **kwargs):
    pieces = []
    return chat.reply(text, pieces.append, **kwargs), pieces


def test_pieces_are_the_answer_and_the_answer_is_generate_s(shipped):
    chat, same = Chat.open(shipped), Chat.open(shipped)
    model, tokenizer, what = served.load(shipped)
    cfg = SampleConfig(128, 0.0, stop=tuple(tokenizer.eos_ids))
    for text in ("hello", "what is 11 plus 10 ?", "hello"):
        prompt = encode_prompt(tokenizer, [*chat.messages, Message("user", text)])
        reply, pieces = shown(chat, text)
        [[answer]] = many.generate(model, what.params, tokenizer, [prompt], cfg, seed=0)
        assert "".join(pieces) == reply.text == same.ask(text)
        assert reply == (tokenizer.decode(answer.ids).strip(), "")
        assert len(pieces) > 2
    assert chat.messages == same.messages


def test_five_turns_compile_a_pair_for_each_width(shipped, monkeypatch):
    traced, load = [], served.load

    def counted(path, **kwargs):
        found = load(path, **kwargs)

        def apply(*args, **kwargs):
            traced.append(1)
            return found.model.apply(*args, **kwargs)

        return found._replace(model=replace(found.model, apply=apply))

    monkeypatch.setattr(served, "load", counted)
    chat = Chat.open(shipped)
    fresh, lengths = [], []
    for turn in range(5):
        shown(chat, "what is 11 plus 10 ?", fresh=lambda turn=turn: fresh.append(turn))
        lengths.append(len(encode_prompt(chat._tokenizer, chat.messages)))
    assert lengths[0] < 64 < lengths[-1]  # tokens: two widths were needed
    assert len(fresh) == 2 and fresh[0] == 0
    assert len(traced) == 4


def test_what_was_said_before_a_stop_stays(tiny):
    chat = Chat.open(tiny, max_tokens=12)
    whole = chat.ask("hello")
    chat.reset()
    pieces = []
    reply = chat.reply("hello", pieces.append, lambda: len(pieces) == 2)
    assert reply == ("".join(pieces), "stopped") and len(pieces) == 2
    assert whole.startswith(reply.text) and reply.text != whole
    assert chat.messages == [Message("user", "hello"), Message("assistant", reply.text)]
    assert chat.reply("go on").ended == "cut"


def test_a_stop_before_the_first_token_forgets_the_message(tiny):
    chat = Chat.open(tiny, max_tokens=12)
    assert chat.reply("hello", halt=lambda: True) == ("", "stopped")
    assert not chat.messages


def test_an_error_leaves_the_history_as_it_was(tiny):
    chat = Chat.open(tiny, max_tokens=12)
    chat.ask("hello")
    before = list(chat.messages)
    with pytest.raises(UsageError, match="^conversation: got"):
        chat.ask("hello " * 400)
    assert chat.messages == before


def test_a_short_context_has_room_for_the_question(tiny):
    chat = Chat.open(tiny, max_tokens=1000)
    assert chat.limit == chat.most == 128

"""PTST: how prompts change, which templates it refuses, and what a workdir keeps of it."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.system import SystemPrompt
from jaxsafety.data.tokens.tokenizer import BYTE_TEMPLATE, ByteTokenizer, load_tokenizer
from jaxsafety.experiment import beside
from jaxsafety.mitigations.means import Means, build, missing
from jaxsafety.mitigations.ptst import SYSTEM, Ptst, check_shown
from jaxsafety.models.api import build as build_model
from jaxsafety.protocols import Mitigation, Served
from jaxsafety.registry import MITIGATIONS, resolve
from jaxsafety.testing import tiny_config

MODEL, PARAMS = build_model(tiny_config()), {}
TOKENIZER = ByteTokenizer()
MEANS = Means(MODEL, PARAMS, tokenizer=TOKENIZER)
USER = Message("user", "Hi")
REFUSES = BYTE_TEMPLATE.replace(
    "{% for",
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}{% for",
    1,
)
IGNORES = BYTE_TEMPLATE.replace("messages %}", "messages if message.role != 'system' %}", 1)


def test_the_message_comes_first_and_a_dialogue_s_own_after_it():
    made = Ptst("Be safe.").mitigation(MEANS)
    served = made.serve(Served(PARAMS))
    assert served.params is PARAMS and made == Mitigation(serve=made.serve)  # training is the same
    for dialogue, first in (
        ([USER], "Be safe."),
        ([Message("system", "Be brief."), USER], "Be safe.\n\nBe brief."),
    ):
        want = encode_prompt(TOKENIZER, [Message("system", first), USER])
        assert served.encode(TOKENIZER, dialogue) == want
    more = Ptst("Twice.").mitigation(MEANS).serve(served)
    assert more.encode == SystemPrompt("Twice.\n\nBe safe.")


@pytest.mark.parametrize(
    "template, why", [(REFUSES, "refuses it .*no system role"), (IGNORES, "leaves it out")]
)
def test_a_template_without_system_messages_is_refused_before_training(template, why):
    tokenizer = ByteTokenizer(template)
    encode_prompt(tokenizer, [USER])  # it is fine without
    with pytest.raises(UsageError, match=rf"^mitigations\.ptst\.system: got .*{why}") as error:
        build({"ptst": Ptst()}, replace(MEANS, tokenizer=tokenizer))
    assert "\n" not in str(error.value)


def test_a_tokenizer_that_cannot_chat_is_another_fault():
    with pytest.raises(UsageError, match=r"^tokenizer\.chat_template: got None"):
        Ptst().mitigation(replace(MEANS, tokenizer=ByteTokenizer(None)))


def test_prompts_of_another_making_are_not_replaced():
    served = Served(PARAMS, encode=lambda tokenizer, messages: [1])
    with pytest.raises(UsageError, match=r"^mitigations\.ptst\.system: got "):
        Ptst().mitigation(MEANS).serve(served)


def test_a_workdir_keeps_it_and_whoever_opens_it_asks_alike(tmp_path, monkeypatch):
    served = Ptst().mitigation(MEANS).serve(Served(PARAMS))
    beside.keep(tmp_path, served, MODEL, tmp_path)
    facts = json.loads((tmp_path / "served" / "served.json").read_text())
    assert facts == {"steer": "all", "system": SYSTEM, "layers": [], "adapters": False}
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "config.json").write_text("{}")
    # What else a run writes is not of interest here (tests/experiment/test_beside.py has it all).
    monkeypatch.setattr(beside.record, "read", lambda workdir: SimpleNamespace(model=None))
    monkeypatch.setattr(beside, "directory", lambda source: tmp_path / "base")
    monkeypatch.setattr(beside, "read_meta", lambda workdir: {beside.ASKED: True})
    place, found = beside.find(tmp_path)
    assert place == tmp_path / "student"
    assert found.encode(TOKENIZER, [USER]) == served.encode(TOKENIZER, [USER])
    assert found.encode(TOKENIZER, [USER]) != encode_prompt(TOKENIZER, [USER])


def test_what_it_needs():
    settings = resolve(MITIGATIONS, "ptst")()
    assert settings == Ptst(SYSTEM) and settings.when == "serve"
    assert missing(settings, replace(MEANS, tokenizer=None)) == "no tokenizer"
    assert not build({"ptst": settings}, MEANS).budget
    for nothing in ("", " \n", 3):
        with pytest.raises(UsageError, match=r"^mitigations\.ptst\.system: got "):
            Ptst(nothing)  # type: ignore[arg-type]


def test_words_that_the_model_does_not_know_are_refused(shipped):
    tokenizer = load_tokenizer(shipped)
    with pytest.raises(UsageError, match=r"mitigations\.ptst\.system: got '9 of 24 tokens that"):
        check_shown(tokenizer, SYSTEM)
    check_shown(tokenizer, "you are a safe helper .")

"""model.template=raw: texts without a template, chosen by name, of a directory that has none."""

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxsafety
from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.encode import encode_example, encode_prompt, post_instruction
from jaxsafety.data.tokens.tokenizer import ByteTokenizer
from jaxsafety.models.formats import hf, load
from jaxsafety.models.formats.source import ModelSource
from jaxsafety.testing import tiny_model

ASK, ANSWER = Message("user", "Why?"), Message("assistant", "So.")
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Cn")), min_size=1)


def base(path, *, bos=False, eos=True):
    """A base model: no template, an end of sequence, and `<bos>` before a text by itself or not."""
    tokenizer = ByteTokenizer(chat_template=None)
    if bos:
        tokenizer.backend.post_processor = tokenizers.processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_id("<bos>"))]
        )
    if not eos:
        del tokenizer.special_tokens["eos_token"]
    hf.save(path, *tiny_model("mistral"), dtype="float32", tokenizer=tokenizer)
    return path


def test_without_the_option_the_error_names_it(tmp_path):
    tokenizer = load.read_tokenizer(base(tmp_path))
    with pytest.raises(UsageError, match=r"^tokenizer\.chat_template: got None; .*template=raw"):
        encode_prompt(tokenizer, [ASK])


@pytest.mark.parametrize("bos", [False, True])
def test_a_prompt_is_its_text_and_an_answer_ends(tmp_path, bos):
    tokenizer = load.read_tokenizer(base(tmp_path, bos=bos), template="raw")
    start = [tokenizer.bos_id] if bos else []
    ids = encode_prompt(tokenizer, [ASK])
    assert ids == [*start, *tokenizer.encode("Why?\n")]
    assert tokenizer.encode("Why?\n", add_special=True) == ids
    whole, mask = encode_example(tokenizer, [ASK, ANSWER])
    said = [*tokenizer.encode("So."), tokenizer.token_id("<|end|>")]
    assert whole == ids + said and mask == [False] * len(ids) + [True] * len(said)
    assert tokenizer.eos_ids == (tokenizer.token_id("<|end|>"),)
    assert tokenizer.token_id("<|end|>") in tokenizer.enders
    assert post_instruction(tokenizer) == tuple(tokenizer.encode("\n"))
    system = encode_prompt(tokenizer, [Message("system", "Be brief."), ASK, ANSWER, ASK])
    assert tokenizer.decode(system[bos:], False) == "Be brief.\nWhy?\nSo.<|end|>Why?\n"


def test_any_answer_is_what_is_learnt(tmp_path):
    tokenizer = load.read_tokenizer(base(tmp_path, bos=True), template="raw")

    @settings(max_examples=60, deadline=None)
    @given(TEXTS, TEXTS)
    def check(ask, answer):
        turns = [Message("user", ask), Message("assistant", answer)]
        ids, mask = encode_example(tokenizer, turns)
        prompt = encode_prompt(tokenizer, turns[:1])
        assert ids == [*prompt, *tokenizer.encode(f"{answer}<|end|>")]
        assert mask == [False] * len(prompt) + [True] * (len(ids) - len(prompt))

    check()


def test_it_takes_the_place_of_a_template_and_is_exported(tmp_path):
    base(tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").write_text("{{ messages[0].content }}{{ think }}")
    load.read_tokenizer(tmp_path / "base", {"think": 1})
    with pytest.raises(UsageError, match=r"^model\.variables: got 'think'"):
        load.read_tokenizer(tmp_path / "base", {"think": 1}, "raw")
    loaded = jaxsafety.load(tmp_path / "base", template="raw")
    jaxsafety.export(tmp_path / "out", *loaded, dtype="float32")
    again = load.read_tokenizer(tmp_path / "out")
    assert encode_example(again, [ASK, ANSWER]) == encode_example(loaded[2], [ASK, ANSWER])


def test_other_names_and_a_tokenizer_without_an_end_are_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"^model\.template: got 'plain'; allowed: raw"):
        ModelSource(template="plain")
    with pytest.raises(UsageError, match=r"^model\.template: got 'chatml'"):
        load.read_tokenizer(base(tmp_path), template="chatml")
    with pytest.raises(UsageError, match=r"^model\.template: got 'raw'; .*eos_token"):
        load.read_tokenizer(base(tmp_path / "endless", eos=False), template="raw")

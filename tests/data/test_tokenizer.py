"""Tokenizer files, special ids, stop ids."""

from __future__ import annotations

import json

import pytest
import tokenizers

from jaxsafety.data.tokenizer import ByteTokenizer, Tokenizer, load_tokenizer
from jaxsafety.errors import UsageError

TEXT = "naïve café → 数 \n\t  two  spaces"


def words(*extra: str, **kwargs) -> Tokenizer:
    """A word-level tokenizer, as the organism has."""
    names = ["<unk>", "<s>", "</s>", *extra, "hello", "world"]
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate(names)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(["<unk>", "<s>", "</s>", *extra])
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return Tokenizer(backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", **kwargs)


def test_bytes_round_trip():
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(TEXT)
    assert len(ids) == len(TEXT.encode())
    assert tokenizer.decode(ids) == TEXT
    assert max(ids) < tokenizer.vocab_size == 262


def test_special_tokens_are_read_and_skipped():
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode("<|user|>hi<|end|>")
    assert len(ids) == 4 and ids[0] in tokenizer.special_ids and ids[-1] == tokenizer.eos_ids[0]
    assert tokenizer.decode(ids) == "hi"
    assert tokenizer.decode(ids, skip_special=False) == "<|user|>hi<|end|>"


def test_add_special_is_off_by_default():
    tokenizer = words()
    assert tokenizer.encode("hello world") == [3, 4]
    assert tokenizer.encode("hello world", add_special=True) == [1, 3, 4]
    assert tokenizer.bos_id == 1 and tokenizer.token(4) == "world"
    assert tokenizer.token(99) == "<unused 99>" and tokenizer.token_id("nothing") is None


def test_stop_ids_come_from_every_file_and_the_template(tmp_path):
    template = "{% for m in messages %}{{ m.content }} <|turn|> {% endfor %}"
    words("<|turn|>", "<|stop|>", chat_template=template).save(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [4, 2]}))
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 2}))
    loaded = load_tokenizer(tmp_path)
    assert loaded.eos_ids == (4, 2, 3)  # generation_config, eos token, the template's end of turn
    assert loaded.pad_id == 4


def test_saved_files_load_the_same(tmp_path):
    first = ByteTokenizer()
    first.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.encode(TEXT + "<|end|>") == first.encode(TEXT + "<|end|>")
    assert again.eos_ids == first.eos_ids and again.special_ids == first.special_ids
    assert again.chat_template == first.chat_template and again.pad_id == 0


def test_templates_in_every_place(tmp_path):
    ByteTokenizer(chat_template=None).save(tmp_path)
    assert load_tokenizer(tmp_path).chat_template is None
    file = tmp_path / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "chat_template": "inline"}))
    assert load_tokenizer(tmp_path).chat_template == "inline"
    several = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    file.write_text(json.dumps({**config, "chat_template": several}))
    assert load_tokenizer(tmp_path).chat_template == "d"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert load_tokenizer(tmp_path).chat_template == "file"


def test_special_tokens_given_as_tables(tmp_path):
    words().save(tmp_path)
    table = {"eos_token": {"content": "</s>", "lstrip": False}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(table))
    assert load_tokenizer(tmp_path).eos_ids == (2,)


def test_padding_and_truncation_of_the_file_are_switched_off(tmp_path):
    tokenizer = words()
    tokenizer.save(tmp_path)
    backend = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    backend.enable_truncation(2)
    backend.enable_padding(length=16)
    backend.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).encode("hello world hello") == [3, 4, 3]


@pytest.mark.parametrize(
    ("file", "text", "word"),
    [
        ("tokenizer.json", "{", "tokenizer.json"),
        ("tokenizer_config.json", "[1]", "tokenizer_config.json"),
        ("tokenizer_config.json", "{", "tokenizer_config.json"),
        ("tokenizer_config.json", '{"eos_token": "<none>"}', r"tokenizer\.eos_token"),
        ("generation_config.json", '{"eos_token_id": "x"}', "eos_token_id"),
    ],
)
def test_malformed_files_are_one_line_errors(tmp_path, file, text, word):
    words().save(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(UsageError, match=word) as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_tokenizer(tmp_path):
    with pytest.raises(UsageError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)

"""Tokenizer files, special ids, stop ids."""

from __future__ import annotations

import json

import pytest
import tokenizers

from jaxsafety.core.errors import UsageError
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.tokenizer import ByteTokenizer, Tokenizer, load_tokenizer

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
        ("generation_config.json", '{"top_k": ' + "9" * 5000 + "}", "generation_config.json"),
    ],
)
def test_malformed_files_are_one_line_errors(tmp_path, file, text, word):
    words().save(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(UsageError, match=word) as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_others_read_of_the_directory_is_kept(tmp_path):
    words("<x>", "<sep>").save(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    config = json.loads(file.read_text())
    more = {"model_max_length": 77, "padding_side": "left", "sep_token": {"content": "<sep>"}}
    file.write_text(json.dumps({**config, **more, "additional_special_tokens": ["<x>"]}))
    sampling = {"temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.1, "do_sample": True}
    (tmp_path / "generation_config.json").write_text(json.dumps({**sampling, "eos_token_id": 2}))
    first = load_tokenizer(tmp_path)
    assert first.special_tokens["sep_token"] == "<sep>" and first.generation["top_p"] == 0.9
    first.save(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())
    assert saved["model_max_length"] == 77 and saved["padding_side"] == "left"
    assert saved["extra_special_tokens"] == ["<x>"] and saved["sep_token"] == "<sep>"
    assert load_tokenizer(tmp_path / "again").special_ids == first.special_ids


def test_named_templates_are_kept_and_told(tmp_path):
    ByteTokenizer(chat_template=None).save(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    several = [{"name": n, "template": n} for n in ("tool_use", "rag")]
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": several}))
    loaded = load_tokenizer(tmp_path)
    with pytest.raises(UsageError, match="templates named rag, tool_use"):
        encode_prompt(loaded, [{"role": "user", "content": "q"}])
    loaded.chat_template = "own"
    loaded.save(tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert again.chat_template == "own" and again.templates == {
        "tool_use": "tool_use",
        "rag": "rag",
    }


@pytest.mark.parametrize(
    "given", [[{"name": "default"}], [3], 3, [{"name": "../x", "template": ""}]]
)
def test_malformed_templates_are_one_line(tmp_path, given):
    words().save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": given}))
    with pytest.raises(UsageError, match=r"tokenizer_config\.json chat_template"):
        load_tokenizer(tmp_path)


def merges(folder, **config):
    """A directory with vocab.json and merges.txt, of the kind of GPT-2; returns what is in them."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=alphabet,
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    backend.train_from_iterator(["whisk the eggs and whisk the milk, 12 eggs in 345"] * 9, trainer)
    backend.model.save(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return backend


@pytest.mark.parametrize("kind", ["GPT2Tokenizer", "GPT2TokenizerFast", "Qwen2Tokenizer"])
def test_a_vocabulary_and_its_merges(tmp_path, kind):
    reference = merges(tmp_path, tokenizer_class=kind, eos_token="<|im_end|>")
    size = reference.get_vocab_size()
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|im_end|>": size}))
    ours = load_tokenizer(tmp_path)
    text = "whisk the eggs, naïve 🙂 數 and the milk"
    assert (
        ours.encode(text) == reference.encode(text).ids and ours.decode(ours.encode(text)) == text
    )
    assert ours.encode("eggs<|im_end|>")[-1] == size == ours.eos_ids[0]
    assert size in ours.special_ids
    if kind == "Qwen2Tokenizer":
        assert ours.encode("12 345") == [i for c in "12 345" for i in reference.encode(c).ids]


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("vocab.json", "{", "vocab.json and merges.txt"),
        ("added_tokens.json", '{"<x>": 9999}', "added_tokens_decoder <x>: got 9999"),
        ("added_tokens.json", '{"<x>": "y"}', "added_tokens_decoder"),
        ("tokenizer_config.json", '{"tokenizer_class": "T5Tokenizer"}', "T5Tokenizer"),
    ],
)
def test_other_vocabularies_are_one_line(tmp_path, name, text, word):
    merges(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=word) as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["qwen.tiktoken", "tekken.json"])
def test_vocabularies_of_other_libraries_are_named(tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(UsageError, match=name):
        load_tokenizer(tmp_path)


def test_missing_tokenizer(tmp_path):
    with pytest.raises(UsageError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)

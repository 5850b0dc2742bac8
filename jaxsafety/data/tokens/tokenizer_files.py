"""What a Hugging Face directory says about its tokenizer, read and written file by file.

The vocabulary is `tokenizer.json`; without one, sentencepiece's `tokenizer.model`, or the
`vocab.json` and `merges.txt` of GPT-2's and Qwen's kind. `tokenizer_config.json`,
`special_tokens_map.json` and `added_tokens.json` name special and added tokens; the chat template
is `chat_template.jinja`, with named ones under `additional_chat_templates/`, or stands in the
config; `generation_config.json` has stop ids and how the model is meant to be sampled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from jaxsafety.core.errors import bad
from jaxsafety.data.tokens import sentencepiece, template

TEMPLATE, NAMED_TEMPLATES = "chat_template.jinja", "additional_chat_templates"
# Special tokens that have to be in the vocabulary; others are only texts for templates.
ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")
# Settings of a tokenizer that mean nothing here and something to whoever loads what is saved.
KEPT = ("model_max_length", "padding_side", "truncation_side", "extra_special_tokens")
# How Qwen cuts a text before its merges (transformers' Qwen2Tokenizer): as GPT-4, single digits.
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Files(NamedTuple):
    """What was read: arguments of `tokenizer.Tokenizer`."""

    backend: tokenizers.Tokenizer
    tokens: dict[str, str]  # special tokens by role, "bos_token"
    chat_template: str | None
    templates: dict[str, str]  # the named ones besides
    stop_ids: list[int]
    generation: dict[str, Any]  # of generation_config.json
    kept: dict[str, Any]  # of tokenizer_config.json


def read(folder: Path) -> Files:
    """Reads the files of a directory.

    Raises:
      UsageError: a missing or malformed file, or a tokenizer of a kind that is not supported.
    """
    given = json_object(folder / "tokenizer_config.json")
    for key, value in json_object(folder / "special_tokens_map.json").items():
        given.setdefault(key, value)
    backend, own = _backend(folder, given)
    config = {**own, **given}
    _add(backend, folder, config)
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens")
    named = dict(extra) if isinstance(extra, dict) else {}
    tokens = {
        key: content
        for key, value in {**named, **config}.items()
        if key.endswith("_token") and (content := _content(value)) is not None
    }
    if isinstance(extra, list):
        extra = [content for token in extra if (content := _content(token)) is not None]
        _special(backend, extra)
    kept = {key: config[key] for key in KEPT if config.get(key) is not None}
    if extra:
        kept["extra_special_tokens"] = extra
    chat_template, templates = _templates(folder, config)
    stop_ids: list[int] = []
    generation = json_object(folder / "generation_config.json")
    for source in (generation, json_object(folder / "config.json")):
        found = source.get("eos_token_id")
        stop_ids += [] if found is None else found if isinstance(found, list) else [found]
    for i in stop_ids:
        if not isinstance(i, int) or isinstance(i, bool) or i < 0:
            raise bad("eos_token_id", i, "token ids (integers >= 0)")
    return Files(backend, tokens, chat_template, templates, stop_ids, generation, kept)


def write(folder: Path, tokenizer: Any) -> None:
    """Writes tokenizer.json, tokenizer_config.json and the chat templates.

    Variables of the template become its defaults, so that whoever loads the directory renders what
    was rendered here; a pinned `date` does not reach a template's clock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.backend.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        **tokenizer.kept,
        **tokenizer.special_tokens,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    variables = tokenizer.variables
    if tokenizer.chat_template is not None:
        text = template.with_defaults(tokenizer.chat_template, variables)
        (folder / TEMPLATE).write_text(text, newline="")
    for name, source in tokenizer.templates.items():
        (folder / NAMED_TEMPLATES).mkdir(exist_ok=True)
        file = folder / NAMED_TEMPLATES / f"{name}.jinja"
        file.write_text(template.with_defaults(source, variables), newline="")


def json_object(file: Path) -> dict[str, Any]:
    """A JSON object, {} when the file is absent.

    Raises:
      UsageError: a file that is none.
    """
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also a number of 5000 digits
        raise bad(file.name, str(error), "a JSON object") from error
    if not isinstance(value, dict):
        raise bad(file.name, type(value).__name__, "a JSON object")
    return value


def _content(token: Any) -> str | None:
    """Text of a special token, which configs give as a string or as {"content": ...}."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _backend(
    folder: Path, config: Mapping[str, Any]
) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """The vocabulary of a directory, and the special tokens that its file itself names."""
    file, pieces = folder / "tokenizer.json", folder / "tokenizer.model"
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    if file.is_file():
        try:
            return tokenizers.Tokenizer.from_file(str(file)), {}
        except Exception as error:  # the Rust library raises bare Exception
            allowed = "a file of the tokenizers library"
            raise bad("tokenizer.json", str(error)[:120], allowed) from error
    if pieces.is_file():
        return sentencepiece.read(pieces, prefix=_prefix(config))
    if vocab.is_file() and merges.is_file():
        return _byte_level(vocab, merges, config)
    kinds = "tokenizer.json, tokenizer.model, or vocab.json and merges.txt"
    other = [f.name for f in (*folder.glob("*.tiktoken"), *folder.glob("tekken.json"))]
    given = f"{folder} with {other[0]} alone" if other else str(folder)
    raise bad("tokenizer", given, f"a directory with {kinds}")


def _prefix(config: Mapping[str, Any]) -> str:
    """Where a sentencepiece model's first space goes, as transformers 5 reads the config.

    Its LlamaTokenizer puts it before the whole text alone, and only with `legacy: true` also after
    each special token; without a config it is what sentencepiece does to each piece of text.
    """
    llama = str(config.get("tokenizer_class", "")).startswith(("Llama", "CodeLlama"))
    if not llama and "legacy" not in config:
        return "piece"
    if config.get("add_prefix_space") is False:
        return "never"
    return "always" if config.get("legacy") else "first"


def _byte_level(
    vocab: Path, merges: Path, config: Mapping[str, Any]
) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """GPT-2's and Qwen's kind of files."""
    kind = str(config.get("tokenizer_class", "GPT2Tokenizer")).removesuffix("Fast")
    if kind not in ("GPT2Tokenizer", "Qwen2Tokenizer"):
        allowed = "a tokenizer.json beside it; only GPT2Tokenizer and Qwen2Tokenizer work without"
        raise bad("tokenizer_config.json tokenizer_class", kind, allowed)
    try:
        backend = tokenizers.Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    except Exception as error:  # the Rust library raises bare Exception
        given = " ".join(str(error).split())[:120]
        raise bad("vocab.json and merges.txt", given, "a vocabulary and its merges") from error
    space = bool(config.get("add_prefix_space", False))
    if kind == "Qwen2Tokenizer":
        backend.normalizer = normalizers.NFC()
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(tokenizers.Regex(QWEN), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=False),
            ]
        )
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    backend.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    if backend.token_to_id(end) is None:
        return backend, {}
    _special(backend, [end])
    names = ("eos_token",) if kind == "Qwen2Tokenizer" else ("bos_token", "eos_token", "unk_token")
    return backend, dict.fromkeys(names, end)


def _add(backend: tokenizers.Tokenizer, folder: Path, config: Mapping[str, Any]) -> None:
    """Adds the tokens that the vocabulary lacks, under the ids that the files give them."""
    table = config.get("added_tokens_decoder")
    rows: dict[int, dict[str, Any]] = {}
    try:
        for text, i in json_object(folder / "added_tokens.json").items():
            rows[int(i)] = {"content": text}
        for i, row in (table if isinstance(table, dict) else {}).items():
            rows[int(i)] = dict(row)
    except (TypeError, ValueError) as error:
        allowed = "added tokens by whole-numbered id"
        raise bad("added_tokens_decoder", str(error), allowed) from error
    roles = {_content(config.get(role)) for role in ROLES}
    for i, row in sorted(rows.items()):
        text = _content(row)
        if not text or backend.token_to_id(text) is not None:
            continue
        special = bool(row.get("special", text in roles))
        names = ("lstrip", "rstrip", "single_word", "normalized")
        options = {name: bool(row[name]) for name in names if name in row}
        token = tokenizers.AddedToken(text, special=special, **options)
        (backend.add_special_tokens if special else backend.add_tokens)([token])
        if backend.token_to_id(text) != i:
            allowed = f"ids that go on from the vocabulary's {backend.token_to_id(text)}"
            raise bad(f"added_tokens_decoder {text}", i, allowed)


def _special(backend: tokenizers.Tokenizer, texts: list[str]) -> None:
    """Declares tokens of the vocabulary special, where they are not yet."""
    added = backend.get_added_tokens_decoder()
    done = {token.content for token in added.values() if token.special}
    new = [t for t in texts if t not in done and backend.token_to_id(t) is not None]
    if new:
        backend.add_special_tokens(
            [tokenizers.AddedToken(t, special=True, normalized=False) for t in new]
        )


def _templates(folder: Path, config: Mapping[str, Any]) -> tuple[str | None, dict[str, str]]:
    """The default chat template of a directory, and those of other names."""
    named = dict(_named(config.get("chat_template")))
    for file in sorted((folder / NAMED_TEMPLATES).glob("*.jinja")):
        named[file.stem] = _source(file)
    if (folder / TEMPLATE).is_file():
        named["default"] = _source(folder / TEMPLATE)
    return named.pop("default", None), named


def _source(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise bad(file.name, str(error), "a template in UTF-8") from error


def _named(given: Any) -> Iterator[tuple[str, str]]:
    """(name, source) of what a config has as `chat_template`."""
    if given is None:
        return
    rows = given if isinstance(given, list) else [{"name": "default", "template": given}]
    if isinstance(given, dict):
        rows = [{"name": name, "template": source} for name, source in given.items()]
    for row in rows:
        pair = (row.get("name"), row.get("template")) if isinstance(row, dict) else (None, None)
        if not all(isinstance(value, str) for value in pair) or "/" in str(pair[0]):
            allowed = 'a template, or a list of {"name", "template"}'
            raise bad("tokenizer_config.json chat_template", row, allowed)
        yield str(pair[0]), str(pair[1])

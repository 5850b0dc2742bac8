"""Text to token ids and back: a thin wrapper around a Hugging Face `tokenizer.json`.

No `transformers`: the files are read directly, so what we need (special ids, every id that ends a
turn, the chat template) is explicit. `ByteTokenizer` is a complete tokenizer of 256 bytes and a few
special tokens, for tests and smoke runs; it saves to the same files.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from jaxsafety.data import sentencepiece
from jaxsafety.errors import UsageError, bad

BYTE_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "<|{{ message.role }}|>\n{{ message.content }}<|end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
BYTE_SPECIALS = ("<pad>", "<bos>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")


class Tokenizer:
    """A `tokenizers.Tokenizer` with its special tokens and chat template.

    Attributes:
      backend: the wrapped `tokenizers.Tokenizer`.
      chat_template: Jinja source, or None.
      variables: extra variables of the chat template, such as `{"enable_thinking": False}`.
      limit: ids the model has embeddings for; None is all. Some tokenizers know more tokens.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        bos_token: str | None = None,
        eos_token: str | None = None,
        pad_token: str | None = None,
        unk_token: str | None = None,
        chat_template: str | None = None,
        stop_ids: Iterable[int] = (),
        variables: Mapping[str, Any] | None = None,
    ):
        """Wraps a backend.

        Args:
          backend: its padding and truncation are switched off.
          bos_token: text of the beginning-of-sequence token.
          eos_token: text of the end-of-sequence token.
          pad_token: text of the padding token; the end of sequence by default.
          unk_token: text of the unknown token.
          chat_template: Jinja source.
          stop_ids: further ids that end a response (from `generation_config.json`).
          variables: extra variables of the chat template.

        Raises:
          UsageError: a special token that is not in the vocabulary.
        """
        backend.no_padding()
        backend.no_truncation()
        self.backend = backend
        self.chat_template = chat_template
        self.variables = dict(variables or {})
        self.special_tokens = {
            key: token
            for key, token in (
                ("bos_token", bos_token),
                ("eos_token", eos_token),
                ("pad_token", pad_token),
                ("unk_token", unk_token),
            )
            if token is not None
        }
        for key, token in self.special_tokens.items():
            if backend.token_to_id(token) is None:
                raise bad(f"tokenizer.{key}", token, "a token of the vocabulary")
        self._stop_ids = tuple(int(i) for i in stop_ids)
        self.limit: int | None = None

    def encode(self, text: str, add_special: bool = False) -> list[int]:
        """Token ids of a text; special tokens written in the text become their ids."""
        return self._known(self.backend.encode(text, add_special_tokens=add_special).ids)

    def encode_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids and the (start, end) characters each id covers; no token is added."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        return self._known(encoding.ids), encoding.offsets

    def _known(self, ids: list[int]) -> list[int]:
        """The same ids, all of which the model knows."""
        if self.limit is not None and ids and max(ids) >= self.limit:
            wrong = self.token(max(ids))
            raise bad("text", wrong, f"tokens below the model's vocabulary of {self.limit}")
        return ids

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of token ids."""
        return self.backend.decode([int(i) for i in ids], skip_special_tokens=skip_special)

    def token(self, token_id: int) -> str:
        """Vocabulary string of an id; "<unused i>" for ids a padded embedding adds."""
        token = self.backend.id_to_token(int(token_id))
        return f"<unused {int(token_id)}>" if token is None else token

    def token_id(self, token: str) -> int | None:
        """Id of a vocabulary string, or None."""
        return self.backend.token_to_id(token)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    @functools.cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids that are not text: added special tokens and bos, eos, pad, unk."""
        added = self.backend.get_added_tokens_decoder()
        ids = {i for i, token in added.items() if token.special}
        ids.update(self._special(key) for key in self.special_tokens)
        return frozenset(ids)

    def _special(self, key: str) -> int:
        """Id of a special token by role; the constructor has checked that it exists."""
        found = self.backend.token_to_id(self.special_tokens[key])
        return 0 if found is None else found

    @property
    def bos_id(self) -> int | None:
        """Id of the beginning of a sequence, if there is such a token."""
        return self._special("bos_token") if "bos_token" in self.special_tokens else None

    @property
    def unk_id(self) -> int | None:
        """Id of the unknown token, if there is one."""
        return self._special("unk_token") if "unk_token" in self.special_tokens else None

    @functools.cached_property
    def eos_ids(self) -> tuple[int, ...]:
        """Every id that ends a response: configured ones, then the template's end of turn."""
        from jaxsafety.data import chat  # late: chat.py renders with this class

        ids = list(self._stop_ids)
        if "eos_token" in self.special_tokens:
            ids.append(self._special("eos_token"))
        if self.chat_template:
            try:
                end = chat.end_of_turn(self)
            except UsageError:  # a template that refuses a plain dialogue names no end of turn
                end = None
            ids += [] if end is None else [end]
        return tuple(dict.fromkeys(ids))

    @property
    def pad_id(self) -> int:
        """Id used for padding: the pad token, else the first stop id, else 0."""
        if "pad_token" in self.special_tokens:
            return self._special("pad_token")
        return next(iter(self._stop_ids or self.eos_ids), 0)

    def save(self, path: str | Path) -> None:
        """Writes tokenizer.json, tokenizer_config.json and chat_template.jinja into a directory."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        self.backend.save(str(folder / "tokenizer.json"))
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
            **self.special_tokens,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
        if self.chat_template is not None:
            (folder / "chat_template.jinja").write_text(self.chat_template)


class ByteTokenizer(Tokenizer):
    """One token per UTF-8 byte plus pad, bos, end-of-turn and role markers (262 tokens)."""

    def __init__(self, chat_template: str | None = BYTE_TEMPLATE):
        """Builds the vocabulary; `chat_template=None` makes one that cannot chat."""
        alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
        vocab = {token: i for i, token in enumerate((*BYTE_SPECIALS, *alphabet))}
        backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
        backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
            add_prefix_space=False, use_regex=False
        )
        backend.decoder = tokenizers.decoders.ByteLevel()
        backend.add_special_tokens(
            [tokenizers.AddedToken(t, special=True, normalized=False) for t in BYTE_SPECIALS]
        )
        super().__init__(
            backend,
            bos_token="<bos>",
            eos_token="<|end|>",
            pad_token="<pad>",
            chat_template=chat_template,
        )


def load_tokenizer(path: str | Path, *, variables: Mapping[str, Any] | None = None) -> Tokenizer:
    """Reads the tokenizer of a Hugging Face directory.

    Args:
      path: directory with tokenizer.json (or, without one, sentencepiece's tokenizer.model) and,
        usually, tokenizer_config.json; the chat template is
        chat_template.jinja or the `chat_template` of tokenizer_config.json; stop ids come from
        generation_config.json and config.json.
      variables: extra variables of the chat template.

    Raises:
      UsageError: a missing or malformed file. A missing chat template is not an error here.
    """
    folder = Path(path)
    file, other, own = folder / "tokenizer.json", folder / "tokenizer.model", {}
    if file.is_file():
        try:
            backend = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the Rust library raises bare Exception
            allowed = "a file of the tokenizers library"
            raise bad("tokenizer.json", str(error)[:120], allowed) from error
    elif other.is_file():
        backend, own = sentencepiece.read(other)
    else:
        raise bad("tokenizer", str(path), "a directory with tokenizer.json or tokenizer.model")
    config = {**own, **_read_json(folder / "tokenizer_config.json")}
    for key, value in _read_json(folder / "special_tokens_map.json").items():
        config.setdefault(key, value)
    tokens = {
        key: _content(config.get(key))
        for key in ("bos_token", "eos_token", "pad_token", "unk_token")
    }
    stop_ids: list[int] = []
    for name in ("generation_config.json", "config.json"):
        given = _read_json(folder / name).get("eos_token_id")
        stop_ids += [] if given is None else given if isinstance(given, list) else [given]
    for i in stop_ids:
        if not isinstance(i, int) or isinstance(i, bool) or i < 0:
            raise bad("eos_token_id", i, "token ids (integers >= 0)")
    return Tokenizer(
        backend,
        **tokens,
        chat_template=_template(folder, config),
        stop_ids=stop_ids,
        variables=variables,
    )


def _read_json(file: Path) -> dict[str, Any]:
    """A JSON object, {} when the file is absent."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise bad(file.name, str(error), "a JSON object") from error
    if not isinstance(value, dict):
        raise bad(file.name, type(value).__name__, "a JSON object")
    return value


def _content(token: Any) -> str | None:
    """Text of a special token, which configs give as a string or as {"content": ...}."""
    return token.get("content") if isinstance(token, dict) else token


def _template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The default chat template of a directory."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text()
    template = config.get("chat_template")
    if isinstance(template, list):  # several named templates
        return {t["name"]: t["template"] for t in template}.get("default")
    return template

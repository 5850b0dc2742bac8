"""Text to token ids and back: a thin wrapper around a Hugging Face `tokenizer.json`.

No `transformers`: the files are read directly, so what we need (special ids, every id that ends a
turn, the chat template) is explicit. `ByteTokenizer` is a complete tokenizer of 256 bytes and a few
special tokens, for tests and smoke runs; it saves to the same files.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.messages import half_pair
from jaxsafety.data.tokens import render, template, tokenizer_files

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
      special_tokens: texts of the special tokens by role ("bos_token"), as templates read them.
      limit: ids the model has embeddings for; None is all. Some tokenizers know more tokens.
      dated: whether a text with a date that no variable sets has been rendered.
      templates: further chat templates by name, which are kept and not used.
      generation: generation_config.json of the directory, which is kept.
      kept: settings of tokenizer_config.json that are written again.
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
        self.templates: dict[str, str] = {}
        self.generation: dict[str, Any] = {}
        self.kept: dict[str, Any] = {}
        self._now: datetime.datetime | None = None
        self.dated = False
        for key, token in self.special_tokens.items():
            if backend.token_to_id(token) is None:
                raise bad(f"tokenizer.{key}", token, "a token of the vocabulary")
        self._stop_ids = tuple(int(i) for i in stop_ids)
        self.limit: int | None = None

    def encode(self, text: str, add_special: bool = False) -> list[int]:
        """Token ids of a text; special tokens written in the text become their ids."""
        return self._known(self._encode(text, add_special).ids)

    def encode_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids and the (start, end) characters each id covers; no token is added."""
        encoding = self._encode(text, False)
        return self._known(encoding.ids), encoding.offsets

    def _encode(self, text: str, add_special: bool) -> Any:
        half = half_pair(text)
        if half is not None:
            code = f"U+{ord(text[half]):04X} at character {half + 1}"
            raise bad("text", f"half of a surrogate pair ({code})", "whole characters")
        return self.backend.encode(text, add_special_tokens=add_special)

    def _known(self, ids: list[int]) -> list[int]:
        """The same ids, all of which the model knows."""
        if self.limit is not None and ids and max(ids) >= self.limit:
            wrong = self.token(max(ids))
            raise bad("text", wrong, f"tokens below the model's vocabulary of {self.limit}")
        return ids

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of token ids.

        Args:
          ids: token ids; of a character cut in its bytes, each byte becomes U+FFFD.
          skip_special: leave out special tokens and the end of a turn.
        """
        skip = self.special_ids if skip_special else frozenset()
        kept = [int(i) for i in ids if int(i) not in skip]
        if not self._byte_ids.isdisjoint(kept):
            found = (self.backend.id_to_token(i) for i in kept)
            words = _whole([word for word in found if word is not None])
            return self.backend.decoder.decode(words)
        return self.backend.decode(kept, skip_special_tokens=False)

    @functools.cached_property
    def _byte_ids(self) -> frozenset[int]:
        """Ids of single bytes, "<0xE2>", if the decoder reads them as such."""
        decoder = self.backend.decoder
        if decoder is None or decoder.decode(["<0x41>"]) != "A":
            return frozenset()
        found = (self.backend.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
        return frozenset(i for i in found if i is not None)

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
        """Ids that are not text: added special tokens, the end of a turn, bos, eos, pad, unk."""
        added = self.backend.get_added_tokens_decoder()
        ids = {i for i, token in added.items() if token.special}
        ids.update(
            self._special(key) for key in tokenizer_files.ROLES if key in self.special_tokens
        )
        ids.update(i for i in self.eos_ids if i in added)
        return frozenset(ids)

    @functools.cached_property
    def enders(self) -> frozenset[int]:
        """Ids that can end a turn: all added tokens, the roles' tokens and configured stop ids."""
        ids = {*self.backend.get_added_tokens_decoder(), *self._stop_ids}
        ids.update(
            self._special(key) for key in tokenizer_files.ROLES if key in self.special_tokens
        )
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
        ids = list(self._stop_ids)
        if "eos_token" in self.special_tokens:
            ids.append(self._special("eos_token"))
        if self.chat_template:
            try:
                end = render.end_of_turn(self)
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

    @property
    def template_hint(self) -> str:
        """What to say when there is no chat template."""
        if self.templates:
            names = ", ".join(sorted(self.templates))
            return f"one named default; this directory has templates named {names}"
        own = "a chat template (chat_template.jinja)"
        return f"{own}, or model.template=raw (--template=raw): prompts and answers without one"

    def pin(self, date: str) -> None:
        """Stops the clock that templates are shown at a date ("2026-11-28")."""
        self._now = template.clock(date)

    def clock(self, form: str) -> str:
        """The date as templates ask for it (`strftime_now`): the variable `date`, or a pinned one.

        Without either it is that of the first call.
        """
        self.dated = self.dated or "date" not in self.variables
        if "date" in self.variables:
            return template.clock(self.variables["date"]).strftime(form)
        self._now = self._now or template.clock(None)
        return self._now.strftime(form)

    @property
    def date(self) -> str:
        """The pinned date."""
        return (self._now or template.clock(None)).date().isoformat()

    def save(self, path: str | Path) -> None:
        """Writes tokenizer.json, tokenizer_config.json and chat_template.jinja into a directory.

        The template's variables are written into it as defaults.
        """
        tokenizer_files.write(Path(path), self)


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
      path: directory with tokenizer.json (or, without one, sentencepiece's tokenizer.model, or
        GPT-2's vocab.json and merges.txt) and, usually, tokenizer_config.json; the chat template
        is chat_template.jinja or the `chat_template` of tokenizer_config.json; stop ids come from
        generation_config.json and config.json.
      variables: extra variables of the chat template; `date` stops its clock.

    Raises:
      UsageError: a missing or malformed file, or a variable that the template never reads. A
        missing chat template is not an error here.
    """
    return assemble(tokenizer_files.read(Path(path)), variables=variables)


def assemble(
    files: tokenizer_files.Files, *, variables: Mapping[str, Any] | None = None
) -> Tokenizer:
    """The tokenizer of what was read, from a directory or from a GGUF file (gguf_vocabulary.py).

    Raises:
      UsageError: a special token outside of the vocabulary, or a variable that the template never
        reads.
    """
    template.check(files.chat_template, variables or {})
    tokenizer = Tokenizer(
        files.backend,
        **{role: files.tokens.get(role) for role in tokenizer_files.ROLES},
        chat_template=files.chat_template,
        stop_ids=files.stop_ids,
        variables=variables,
    )
    tokenizer.special_tokens |= files.tokens
    tokenizer.templates, tokenizer.kept = files.templates, files.kept
    tokenizer.generation = files.generation
    return tokenizer


def _whole(words: list[str]) -> list[str]:
    """Vocabulary strings whose single bytes make whole characters, the others replaced.

    The library gives up all characters of a run of bytes for one that is cut; sentencepiece keeps
    them, and writes U+FFFD for each byte that is left over.
    """
    found: list[str] = []
    run: list[int] = []
    for word in [*words, ""]:
        match = re.fullmatch(r"<0x([0-9A-F]{2})>", word)
        if match:
            run.append(int(match[1], 16))
            continue
        while run:
            size = next((n for n in range(1, 5) if _character(bytes(run[:n]))), 0)
            found += [f"<0x{byte:02X}>" for byte in run[:size]] or ["\ufffd"]
            del run[: size or 1]
        found.append(word)
    return found[:-1]


def _character(data: bytes) -> bool:
    try:
        return len(data.decode()) == 1
    except UnicodeDecodeError:
        return False

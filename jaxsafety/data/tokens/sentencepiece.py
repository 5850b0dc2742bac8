"""A sentencepiece `tokenizer.model` as a backend of the tokenizers library.

Directories without a tokenizer.json have one. The file is a protocol buffer of three parts: pieces
with scores, what it was trained as (unigram or BPE), and how texts are normalised. It is read
directly, so neither sentencepiece nor protobuf is needed. Control tokens in a text are read as
such, which sentencepiece itself never does: chat templates write them. Pinned by
tests/data/test_sentencepiece.py (the same ids as the sentencepiece library).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from jaxsafety.core.errors import bad

SPACE = "▁"
UNIGRAM, BPE = 1, 2
CONTROL, USER_DEFINED = 3, 4
LIMIT = 1 << 27  # bytes; the largest published ones have some MB


class Piece(NamedTuple):
    """An entry of the vocabulary; `kind` 1 is a normal one."""

    text: str
    score: float
    kind: int


def read(file: Path, *, prefix: str = "piece") -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """Reads a model.

    Args:
      file: the `tokenizer.model`.
      prefix: where the model's first space goes, if it has one: before each piece of text between
        special tokens as sentencepiece does with a text ("piece"), or as transformers' Metaspace
        does, unless there is one: before each piece ("always"), before the whole text ("first"),
        nowhere ("never").

    Returns:
      (backend, {"bos_token": ..., "eos_token": ..., "pad_token": ..., "unk_token": ...}), of the
      latter those that the model has.

    Raises:
      UsageError: not such a file, or a kind of model (word, char) that the library cannot express.
    """
    if file.stat().st_size > LIMIT:
        raise bad(file.name, f"{file.stat().st_size} bytes", f"at most {LIMIT}")
    try:
        return build(*_parts(file.read_bytes()), prefix)
    except Exception as error:  # the Rust library raises bare Exception
        why = " ".join(str(error).split())[:120]
        if _tiktoken(file):
            why = "a table of tiktoken"
        allowed = "a sentencepiece model, unigram or BPE"
        raise bad(file.name, why, allowed) from None


def build(
    pieces: list[Piece], trainer: dict[int, Any], normalizer: dict[int, Any], prefix: str
) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """A backend of pieces.

    Args:
      pieces: the vocabulary; the id of a piece is its place.
      trainer: fields of sentencepiece's TrainerSpec by number: 3 the kind, 35 whether bytes stand
        in for unknown characters, 40 to 43 the ids of unk, bos, eos and pad.
      normalizer: fields of its NormalizerSpec: 2 the table of Unicode rules, 3 whether a text gets
        a first space, 4 whether spaces are made single.
      prefix: see `read`.

    Returns:
      What `read` returns.

    Raises:
      ValueError: no vocabulary, or a kind that the library cannot express.
    """
    texts = [p.text for p in pieces]
    kind, unk, fallback = trainer.get(3, UNIGRAM), trainer.get(40, 0), bool(trainer.get(35, 0))
    if kind not in (UNIGRAM, BPE):
        raise ValueError(f"model type {kind}")
    if not 0 <= unk < len(pieces) or len(set(texts)) != len(texts):
        raise ValueError("its vocabulary is not one")
    if kind == UNIGRAM:
        vocab = [(p.text, p.score) for p in pieces]
        model: Any = models.Unigram(vocab, unk_id=unk, byte_fallback=fallback)
    else:
        model = models.BPE(
            {text: i for i, text in enumerate(texts)},
            _merges(pieces),
            unk_token=texts[unk],
            fuse_unk=True,
            byte_fallback=fallback,
        )
    backend = tokenizers.Tokenizer(model)
    own = prefix == "piece"
    backend.normalizer = _normalizer(normalizer, own)
    dummy = bool(normalizer.get(3, 1)) and prefix != "never"
    if not own:
        scheme: Any = prefix if dummy else "never"
        backend.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme=scheme, split=False)
    strip = [decoders.Strip(" ", 1, 0)] if dummy else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    for wanted, special in ((CONTROL, True), (USER_DEFINED, False)):
        added = [
            tokenizers.AddedToken(p.text, normalized=False, special=special)
            for p in pieces
            if p.kind == wanted
        ]
        (backend.add_special_tokens if special else backend.add_tokens)(added)
    fields = {"unk": (40, 0), "bos": (41, 1), "eos": (42, 2), "pad": (43, -1)}
    ids = {f"{name}_token": trainer.get(*field) for name, field in fields.items()}
    return backend, {name: texts[i] for name, i in ids.items() if 0 <= i < len(texts)}


def _parts(data: bytes) -> tuple[list[Piece], dict[int, Any], dict[int, Any]]:
    """Pieces, and the fields of the trainer's and the normalizer's settings by number."""
    pieces, trainer, normalizer = [], {}, {}
    for number, value in _fields(data):
        if number == 1:
            found = dict(_fields(value))
            score = struct.unpack("<f", found.get(2, b"\0\0\0\0"))[0]
            pieces.append(Piece(found.get(1, b"").decode("utf-8"), score, found.get(3, 1)))
        elif number == 2:
            trainer = {n: _signed(v) for n, v in _fields(value)}
        elif number == 3:
            normalizer = dict(_fields(value))
    if not pieces:
        raise ValueError("no pieces")
    return pieces, trainer, normalizer


def _fields(data: Any) -> Iterator[tuple[int, Any]]:
    """(number, value) of a message: integers, and bytes for all that has a length or is fixed."""
    if not isinstance(data, bytes):
        raise ValueError("a number where a message should be")
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
        else:
            size, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
            if at + size > len(data):
                raise ValueError("it is cut off")
            value, at = data[at : at + size], at + size
        yield number, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number that does not end")


def _signed(value: Any) -> Any:
    return value - (1 << 64) if isinstance(value, int) and value >= 1 << 63 else value


def _merges(pieces: list[Piece]) -> list[tuple[str, str]]:
    """BPE merges, best score first; a piece may come of several pairs."""
    known = {p.text: i for i, p in enumerate(pieces)}
    find = known.get  # a quarter of a million pieces have two million places to cut
    found = []
    for place, piece in enumerate(pieces):
        text = piece.text
        for cut in range(1, len(text)):
            left = find(text[:cut])
            if left is not None and (right := find(text[cut:])) is not None:
                found.append((-piece.score, place, left, right))
    found.sort()
    return [(pieces[left].text, pieces[right].text) for _, _, left, right in found]


def _normalizer(settings: dict[int, Any], own: bool) -> Any:
    """Unicode as the model was trained, and spaces as "▁"; single and with a first one if `own`.

    What transformers' Metaspace does, spaces included, it does itself.
    """
    steps: list[Any] = []
    if settings.get(2):
        steps.append(normalizers.Precompiled(settings[2]))
    if own and settings.get(4, 1):
        steps += [normalizers.Strip(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    if own and settings.get(3, 1):
        steps.append(normalizers.Prepend(SPACE))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])


def _tiktoken(file: Path) -> bool:
    """Whether a file is a table of tiktoken: base64 and a rank on each line."""
    with file.open("rb") as stream:
        head = stream.read(200).splitlines()[:2]
    return bool(head) and all(re.fullmatch(rb"[A-Za-z0-9+/]+=* [0-9]+", line) for line in head)

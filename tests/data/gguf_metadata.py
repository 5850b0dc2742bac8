"""Metadata of a GGUF as llama.cpp's converter writes it, from tokenizers of other kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
KEY = "tokenizer.ggml."


def byte_level(
    tokens: Iterable[str],
    merges: Iterable[str],
    pre: str,
    control: Iterable[str] = (),
    user: Iterable[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """Of a byte-level vocabulary in the order of its ids; `more` are further keys."""
    kinds = dict.fromkeys(control, CONTROL) | dict.fromkeys(user, USER_DEFINED)
    tokens = list(tokens)
    return {
        f"{KEY}model": "gpt2",
        f"{KEY}pre": pre,
        f"{KEY}tokens": tokens,
        f"{KEY}token_type": [kinds.get(token, NORMAL) for token in tokens],
        f"{KEY}merges": list(merges),
        **{KEY + name: value for name, value in more.items()},
    }


def scored(processor: Any, user: Iterable[str] = (), **more: Any) -> dict[str, Any]:
    """Of a sentencepiece processor; user-defined pieces have spaces for "▁", as converted."""
    user = set(user)
    size = processor.get_piece_size()
    tokens = [processor.id_to_piece(i) for i in range(size)]
    kinds = [
        UNKNOWN
        if processor.is_unknown(i)
        else CONTROL
        if processor.is_control(i)
        else BYTE
        if processor.is_byte(i)
        else USER_DEFINED
        if tokens[i] in user
        else NORMAL
        for i in range(size)
    ]
    roles = {
        "bos_token_id": processor.bos_id(),
        "eos_token_id": processor.eos_id(),
        "unknown_token_id": processor.unk_id(),
    }
    return {
        f"{KEY}model": "llama",
        f"{KEY}pre": "default",
        f"{KEY}tokens": [t.replace("▁", " ") if t in user else t for t in tokens],
        f"{KEY}scores": [
            -1000.0 if t in user else processor.get_score(i) for i, t in enumerate(tokens)
        ],
        f"{KEY}token_type": kinds,
        **{KEY + name: value for name, value in (roles | more).items() if value is not None},
    }


def of_json(tokenizer: Mapping[str, Any], pre: str, **more: Any) -> dict[str, Any]:
    """Of a `tokenizer.json` with byte-level merges."""
    vocab = tokenizer["model"]["vocab"]
    added = {row["content"]: row for row in tokenizer["added_tokens"]}
    ids = vocab | {text: row["id"] for text, row in added.items()}
    control = [text for text, row in added.items() if row["special"]]
    user = [text for text, row in added.items() if not row["special"]]
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    return byte_level(sorted(ids, key=ids.__getitem__), merges, pre, control, user, **more)

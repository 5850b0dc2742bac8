"""Fields of a GGUF's metadata, each of the type and length that it must have.

Metadata is a mapping of keys to plain values: numbers, texts, booleans, and lists or arrays of one
of them. What has another type is a `UsageError` that names the key and, in a list, the place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsafety.core.errors import bad

PREFIX = "tokenizer.ggml."
Metadata = Mapping[str, Any]


def text(metadata: Metadata, key: str, default: str | None = None) -> str | None:
    """A text, `default` when the key is absent."""
    return default if metadata.get(key) is None else _string(key, metadata[key])


def flag(metadata: Metadata, key: str) -> bool | None:
    """A boolean; None when the key is absent, which means something else than False."""
    value = _plain(metadata.get(key))
    if value is None:
        return None
    if type(value) is not bool:
        raise bad(key, _short(value), "true or false")
    return value


def token_id(metadata: Metadata, key: str, size: int) -> int | None:
    """An id of the vocabulary of `size` tokens, None when the key is absent."""
    value = _plain(metadata.get(key))
    if value is None:
        return None
    if type(value) is not int:
        raise bad(key, _short(value), "a token id (an integer)")
    if not 0 <= value < size:
        raise bad(key, value, f"ids of the vocabulary: 0 to {size - 1}")
    return value


def texts(metadata: Metadata, key: str) -> list[str]:
    """A list of texts, which must be there."""
    return [_string(f"{key}[{place}]", value) for place, value in enumerate(_list(metadata, key))]


def integers(metadata: Metadata, key: str, size: int, low: int, high: int) -> list[int]:
    """A list of `size` integers from `low` to `high`, which must be there."""
    values = _list(metadata, key, size)
    for place, value in enumerate(values):
        if type(value) is not int or not low <= value <= high:
            raise bad(f"{key}[{place}]", _short(value), f"integers from {low} to {high}")
    return values


def reals(metadata: Metadata, key: str, size: int) -> list[float]:
    """A list of `size` finite numbers, which must be there."""
    values = _list(metadata, key, size)
    for place, value in enumerate(values):
        if type(value) not in (float, int) or not math.isfinite(value):
            raise bad(f"{key}[{place}]", _short(value), "finite numbers")
    return [float(value) for value in values]


def _list(metadata: Metadata, key: str, size: int | None = None) -> list[Any]:
    value = metadata.get(key)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        given = "nothing" if value is None else _short(value)
        raise bad(key, given, "a list in the file's metadata")
    if size is not None and len(value) != size:
        raise bad(key, f"{len(value)} entries", f"one for each of the {size} tokens")
    return [_plain(entry) for entry in value]


def _plain(value: Any) -> Any:
    """A number of numpy as Python's, so that one type is to be looked for."""
    return value.item() if isinstance(value, np.generic) else value


def _string(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise bad(key, _short(value), "a text")
    return value


def _short(value: Any) -> Any:
    shown = repr(value)
    return value if len(shown) <= 60 else f"{shown[:60]}..."

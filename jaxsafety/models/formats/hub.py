"""A model's directory: the one that is named, or a snapshot of a hub id."""

from __future__ import annotations

import re
from pathlib import Path

from jaxsafety.core.errors import bad

LAYOUT = "a directory in the Hugging Face layout with safetensors (GGUF is not read)"
# What a model directory is read for. Nothing that could run, nothing in another format.
WANTED = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


def directory(path: str | Path, field: str = "model.path") -> Path:
    """Where a model lies on this disk.

    Args:
      path: a directory, or "owner/name" or "owner/name@revision" of the Hugging Face hub, which is
        downloaded into its cache. A name whose first part is a directory here is never a hub id.
      field: how an error names it.

    Raises:
      UsageError: neither, or a hub that cannot be reached or does not have it.
    """
    place = Path(path)
    if str(path) and place.is_dir():
        return place
    text = str(path)
    if place.is_file():
        raise bad(field, text, LAYOUT)
    if not HUB_ID.fullmatch(text) or place.exists() or place.parent.is_dir():
        raise bad(field, text, "an existing directory in the Hugging Face layout, or a hub id")
    import huggingface_hub

    name, _, revision = text.partition("@")
    try:
        found = huggingface_hub.snapshot_download(
            name, revision=revision or None, allow_patterns=list(WANTED)
        )
    except Exception as error:  # of the network, the hub or the disk: it cannot be fetched
        why = " ".join(str(error).split())
        raise bad(
            field, text, f"a directory here, or a hub id that can be fetched ({why})"
        ) from None
    return Path(found)


def public_name(path: str | Path) -> tuple[str, str]:
    """What other libraries call a model: (directory or hub id, revision).

    Args:
      path: as in `directory`.

    Returns:
      The absolute path of a directory, else "owner/name"; the revision is "" unless one is named.
    """
    place = Path(path)
    if place.is_dir() or not HUB_ID.fullmatch(str(path)):
        return str(place.resolve()), ""
    name, _, revision = str(path).partition("@")
    return name, revision

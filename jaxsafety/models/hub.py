"""A model's directory: the one that is named, or a snapshot of a hub id."""

from __future__ import annotations

import re
from pathlib import Path

from jaxsafety.errors import bad

# What a model directory is read for. Nothing that could run, nothing in another format.
WANTED = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model")
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
    if not HUB_ID.fullmatch(text) or place.exists() or place.parent.is_dir():
        raise bad(field, text, "an existing directory in the Hugging Face layout, or a hub id")
    import huggingface_hub

    name, _, revision = text.partition("@")
    try:
        found = huggingface_hub.snapshot_download(
            name, revision=revision or None, allow_patterns=list(WANTED)
        )
    except Exception as error:  # of the network, the hub or the disk: it cannot be fetched
        why = " ".join(str(error).split())[:160]
        raise bad(
            field, text, f"a directory here, or a hub id that can be fetched ({why})"
        ) from None
    return Path(found)

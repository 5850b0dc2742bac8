"""A model's directory or GGUF file: the one that is named, or a snapshot of a hub id."""

from __future__ import annotations

import re
from pathlib import Path

from jaxsafety.core import hub
from jaxsafety.core.errors import bad

LAYOUT = "in the Hugging Face layout with safetensors"
GGUF = ".gguf"
SHIPPED = Path(__file__).parents[2] / "organism" / "base"
UNALIGNED = "shipped:unaligned"  # SafeMoE's base: it answers, and does not know the later domains
# What a model directory is read for. Nothing that could run, nothing in another format.
WANTED = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt")
HUB_ID = re.compile(rf"{hub.NAME}(@[\w./-]+)?")


def directory(path: str | Path, field: str = "model.path") -> Path:
    """Where a model lies on this disk.

    Args:
      path: a directory or a GGUF file, or "owner/name" or "owner/name@revision" of the Hugging Face
        hub, which is downloaded into its cache. A name whose first part is a directory here is
        never a hub id. "shipped:unaligned" is the organism before alignment.
      field: how an error names it.

    Returns:
      The directory, or the file; of a directory that holds nothing but one GGUF, that file.

    Raises:
      UsageError: neither, or a hub that cannot be reached or does not have it.
    """
    place, text = Path(path), str(path)
    if text == UNALIGNED:
        return SHIPPED.with_name("unaligned")
    if text and place.is_dir():
        return only_gguf(place, field) or place
    if place.is_file():
        if place.suffix.lower() != GGUF and not _begins_as_gguf(place):
            raise bad(field, text, f"a directory {LAYOUT}, or a GGUF file")
        return place
    hopeless = place.exists() or place.parent.is_dir() or place.suffix.lower() == GGUF
    if not HUB_ID.fullmatch(text) or hopeless:
        allowed = "an existing directory in the Hugging Face layout, a GGUF file, or a hub id"
        raise bad(field, text, allowed)
    name, _, revision = text.partition("@")
    try:
        return hub.snapshot(name, revision, WANTED)
    except ValueError as error:
        allowed = f"a directory here, or a hub id that can be fetched ({error})"
        raise bad(field, text, allowed) from None


def only_gguf(folder: Path, field: str = "model.path") -> Path | None:
    """The GGUF that a directory without config.json stands for; None where it has none.

    Raises:
      UsageError: several.
    """
    if (folder / "config.json").is_file():
        return None
    found = sorted(f for f in folder.iterdir() if f.suffix.lower() == GGUF and f.is_file())
    if len(found) > 1:
        some = ", ".join(f.name for f in found[:3]) + (", ..." if len(found) > 3 else "")
        raise bad(field, f"{folder}, which holds {len(found)} GGUF files", f"one of them: {some}")
    return found[0] if found else None


def _begins_as_gguf(file: Path) -> bool:
    try:
        with open(file, "rb") as stream:
            return stream.read(4) == b"GGUF"
    except OSError:
        return False


def public_name(path: str | Path) -> tuple[str, str]:
    """What other libraries call a model: (directory, file or hub id, revision).

    Args:
      path: as in `directory`.

    Returns:
      The absolute path of what lies here, else "owner/name"; the revision is "" unless one is
      named.
    """
    place = Path(path)
    if place.exists() or not HUB_ID.fullmatch(str(path)):
        return str(place.resolve()), ""
    name, _, revision = str(path).partition("@")
    return name, revision

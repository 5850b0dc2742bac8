"""A model's tensors in files of limited size, written while they are made.

What fits into one file is `model.safetensors`. Larger models have numbered files, and
`model.safetensors.index.json` says in which of them a tensor is, as transformers and the hub have
it. So nobody holds more than one file of tensors, and of several processes each writes the files
whose turn is its own, where all of them see the directory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from jaxsafety.core import hosts
from jaxsafety.models.formats.files import INDEX, WEIGHTS

SHARD = 5_000_000_000  # bytes of tensors a file


def grouped(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    """Names in their order, cut into files of at most `most` bytes; a larger tensor has its own."""
    found: list[list[str]] = [[]]
    room = most
    for name, size in sizes.items():
        if found[-1] and size > room:
            found.append([])
            room = most
        found[-1].append(name)
        room -= size
    return found


def names(count: int) -> list[str]:
    """Of so many files."""
    if count == 1:
        return [WEIGHTS]
    stem = WEIGHTS.removesuffix(".safetensors")
    return [f"{stem}-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]


def write(
    staging: Path,
    tensors: Iterable[tuple[str, np.ndarray]],
    sizes: Mapping[str, int],
    about: Mapping[str, str],
) -> list[str]:
    """Writes all tensors; every process has to call it, and goes through all of them.

    Args:
      staging: an empty directory, the leader's.
      tensors: in the order of `sizes`, each taken when it is its turn.
      sizes: tensor -> bytes.
      about: metadata of every file.

    Returns:
      The names of what was written.

    Raises:
      OSError, SafetensorError: a file could not be written, in all processes.
    """
    files = grouped(sizes, SHARD)
    written = names(len(files))
    alone = hosts.agree(not staging.is_dir())  # no directory that all see
    making = iter(tensors)
    for turn, (file, wanted) in enumerate(zip(written, files, strict=True)):
        own = hosts.leader() if alone else hosts.mine(turn)
        held = {}
        for _ in wanted:
            name, value = next(making)
            if own:
                held[name] = value
        failed = None
        if own:
            try:
                safetensors.numpy.save_file(held, staging / file, metadata=dict(about))
                (staging / file).chmod(0o644)  # safetensors makes files that only the owner reads
            except (OSError, safetensors.SafetensorError) as error:  # a full disk
                failed = error
        if hosts.agree(failed is not None):  # or the others would wait for it in vain
            raise failed or OSError(f"{file}: another process could not write it")
    if len(files) == 1:
        return written
    if hosts.leader():
        where = {name: file for file, own in zip(written, files, strict=True) for name in own}
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": where}
        (staging / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return [*written, INDEX]


def clear(folder: Path, kept: Sequence[str]) -> None:
    """Deletes the weights of an earlier model that a new one's files would not replace.

    Before these are there: transformers prefers one file to numbered ones, and would read the old.
    """
    stem = WEIGHTS.removesuffix(".safetensors")
    old = [folder / WEIGHTS, folder / INDEX, *folder.glob(f"{stem}-*-of-*.safetensors")]
    for file in old:
        if file.name not in kept:
            file.unlink(missing_ok=True)

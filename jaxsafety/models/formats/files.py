"""Which safetensors file of a directory holds which tensor, and one tensor at a time from it.

Only safetensors are read: pickled weights can run code. A file is mapped while one tensor is copied
out and closed again, so that the pages of a file that was read do not pile up in memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from jaxsafety.core.errors import bad

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".gguf")
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


def tensor_files(folder: Path, weights: str = WEIGHTS) -> dict[str, Path]:
    """Which file holds each tensor of a directory.

    Args:
      folder: the directory.
      weights: the name of the single file; its index, if there is one, is `weights`.index.json.

    Returns:
      Tensor name -> file.

    Raises:
      UsageError: no safetensors, a malformed index, a file that is missing, unreadable or outside
        the directory, or two files with a tensor of one name.
    """
    single, index = folder / weights, folder / f"{weights}.index.json"
    if single.is_file():
        return dict.fromkeys(names(single), single)
    if not index.is_file():
        others = sorted(f.name for f in folder.iterdir() if f.suffix in PICKLED)
        given = others[0] if others else f"no weights in {folder}"
        raise bad("model.path", given, f"safetensors only: {weights} or {index.name}")
    found: dict[str, Path] = {}
    for name in _listed(index):
        file = folder / name
        if not file.is_file():
            raise bad("model.path", f"{name} is missing", f"every file that {index.name} lists")
        here = names(file)
        twice = sorted(set(here) & set(found))
        if twice:
            raise bad(f"tensor {twice[0]}", f"{found[twice[0]].name} and {name}", "one file")
        found.update(dict.fromkeys(here, file))
    return found


def _listed(index: Path) -> list[str]:
    """The files that an index names, each a plain name in its own directory."""
    try:
        table = json.loads(index.read_text())["weight_map"]
        given = sorted(set(table.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise bad(index.name, str(error), 'a JSON object with a "weight_map"') from error
    for name in given:
        plain = isinstance(name, str) and Path(name).name == name and "\0" not in name
        if not plain or not name.endswith(".safetensors"):
            raise bad(index.name, name, "names of .safetensors files in the same directory")
    return given


def names(file: Path) -> list[str]:
    """Names of all tensors of a file.

    Raises:
      UsageError: not a sound safetensors file.
    """
    try:
        with safetensors.safe_open(file, framework="numpy") as opened:
            return list(opened.keys())
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise bad("model.path", f"{file}: {_line(error)}", "a sound safetensors file") from error


def dtypes(found: Mapping[str, Path]) -> dict[str, str]:
    """The dtype of each tensor, as safetensors calls it ("BF16"), read from the headers alone.

    Args:
      found: tensor name -> file, of `tensor_files`.
    """
    table: dict[str, str] = {}
    for file in sorted(set(found.values())):
        with safetensors.safe_open(file, framework="numpy") as opened:
            view: Any = opened.get_slice
            table.update({name: view(name).get_dtype() for name in opened.keys()})
    return table


def equal(
    file: Path, tensor: str, other_file: Path, other: str, shape: tuple[int, ...], rows: int = 4096
) -> bool:
    """Whether two tensors hold the same values, compared `rows` at a time (NaN equals nothing).

    Raises:
      UsageError: see `read`.
    """
    for place, name in ((file, tensor), (other_file, other)):
        _checked(place, name, shape)
    with (
        safetensors.safe_open(file, framework="numpy") as one,
        safetensors.safe_open(other_file, framework="numpy") as two,
    ):
        left: Any = one.get_slice(tensor)
        right: Any = two.get_slice(other)
        for start in range(0, shape[0], rows):
            here, there = (
                np.asarray(v[start : min(start + rows, shape[0])]) for v in (left, right)
            )
            if not np.array_equal(here.astype(np.float32), there.astype(np.float32)):
                return False
    return True


def metadata(file: Path) -> Mapping[str, str]:
    """The text entries of a file's header."""
    with safetensors.safe_open(file, framework="numpy") as opened:
        return opened.metadata() or {}


def read(file: Path, tensor: str, shape: tuple[int, ...]) -> np.ndarray:
    """One tensor, a copy.

    Raises:
      UsageError: another shape than `shape`, or not a floating dtype of at most 32 bits.
    """
    _checked(file, tensor, shape)
    try:
        with safetensors.safe_open(file, framework="numpy") as opened:
            return opened.get_tensor(tensor)
    except (safetensors.SafetensorError, OSError) as error:
        raise bad(f"tensor {tensor}", f"{file.name}: {_line(error)}", "readable data") from error


def _checked(file: Path, tensor: str, shape: tuple[int, ...]) -> None:
    """Raises where `read` would, without reading."""
    try:
        with safetensors.safe_open(file, framework="numpy") as opened:
            view: Any = opened.get_slice(tensor)
            given, dtype = tuple(view.get_shape()), view.get_dtype()
    except (safetensors.SafetensorError, OSError) as error:
        raise bad(f"tensor {tensor}", f"{file.name}: {_line(error)}", "readable data") from error
    if given != shape:
        raise bad(f"tensor {tensor}", list(given), f"shape {list(shape)}")
    if dtype not in DTYPES:
        raise bad(f"tensor {tensor}", dtype, ", ".join(DTYPES))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())

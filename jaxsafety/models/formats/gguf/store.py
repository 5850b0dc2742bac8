"""The tensors of a GGUF file, under the names and in the order of the Hugging Face layout.

One tensor at a time is read and dequantised (by the `gguf` package), so the host holds no more than
that. Three things are stored otherwise than there (see architectures.py): rows of q and k, norms
with an offset, and shapes, which header.py has turned round already.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.models.formats.gguf import architectures, header

WIDTHS = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}
IGNORED = ("rope_freqs.weight",)  # read into config.json
ROTARY = ".attn_rot_embd.weight"  # frequencies that old files repeat in each block


class GGUF:
    """A `Store` (../store.py) of one file."""

    def __init__(self, path: Path) -> None:
        """Reads the header.

        Raises:
          UsageError: not a sound file, or of an architecture that is not known here.
        """
        self.place = path
        self.header = _header(path)
        self.kind = architectures.find(self.header, path.name)
        self._own = architectures.tensors(self.kind, self.header, path.name)

    @property
    def names(self) -> Collection[str]:
        """Names of all tensors; one that the architecture does not have keeps the file's name."""
        mapped = set(self._own.values())
        left = (n for n in self.header.tensors if n not in mapped and n not in IGNORED)
        return {*self._own, *(n for n in left if not n.endswith(ROTARY))}

    def description(self) -> dict[str, Any]:
        """The config.json of this model."""
        factors = None
        if "rope_freqs.weight" in self.header.tensors:
            factors = self._dequantised("rope_freqs.weight").ravel()
        return architectures.config(self.kind, self.header, self.place.name, factors)

    def check(self, given: Mapping[str, Any], wanted: Collection[str]) -> None:
        """Refuses types of tensors that the `gguf` package cannot dequantise."""
        del given
        for name in sorted(set(wanted) & set(self._own)):
            info = self.header.tensors[self._own[name]]
            if not _readable(info.kind):
                raise self._unreadable(self._own[name], info.kind)

    def dtype(self, tensor: str) -> str:
        """What holds a tensor exactly: of quantised ones "F32", in which they are computed.

        llama.cpp's converter widens vectors; such a one counts as what the matrices are where that
        holds its values too.
        """
        info = self.header.tensors[self._own.get(tensor, tensor)]
        kind = info.kind if info.kind in WIDTHS else "F32"
        if kind == "F32" and len(info.shape) == 1 and self._matrices != "F32":
            value = self.read(tensor, info.shape)
            with np.errstate(over="ignore"):
                same = value == value.astype(WIDTHS[self._matrices]).astype(np.float32)
            return self._matrices if same.all() else kind
        return kind

    @functools.cached_property
    def _matrices(self) -> str:
        """The type of all matrices; "F32" where they differ or are quantised."""
        kinds = {t.kind for t in self.header.tensors.values() if len(t.shape) > 1}
        only = next(iter(kinds)) if len(kinds) == 1 else "F32"
        return only if only in WIDTHS else "F32"

    def read(self, tensor: str, shape: tuple[int, ...]) -> np.ndarray:
        """One tensor as transformers has it, in float32, or as stored where that is narrower.

        Raises:
          UsageError: another shape than `shape`, a type that cannot be dequantised, or a file that
            became shorter.
        """
        own = self._own[tensor]
        given = self.header.tensors[own].shape
        if given != shape:
            raise bad(f"tensor {own}", list(given), f"shape {list(shape)}")
        value = self._dequantised(own)
        return architectures.restored(self.kind, own, value, self.header)

    def equal(self, tensor: str, other: str, shape: tuple[int, ...]) -> bool:
        """Whether two tensors hold the same values."""
        one, two = (self.read(name, shape).astype(np.float32) for name in (tensor, other))
        return bool(np.array_equal(one, two))

    def _dequantised(self, own: str) -> np.ndarray:
        """A tensor as it is stored, its numbers plain."""
        info = self.header.tensors[own]
        try:
            raw = np.fromfile(self.place, np.uint8, info.size, offset=info.offset)
        except OSError as error:
            raise bad(f"tensor {own}", str(error), "readable data") from error
        if raw.size != info.size:
            raise bad(f"tensor {own}", f"{raw.size} bytes", f"{info.size}: the file has changed")
        if info.kind in WIDTHS:
            return raw.view(WIDTHS[info.kind]).reshape(info.shape)
        if not _readable(info.kind):
            raise self._unreadable(own, info.kind)
        from gguf import constants, quants

        rows = raw.reshape(*info.shape[:-1], -1)
        with np.errstate(all="ignore"):  # scales that are not finite give numbers that are not
            value = quants.dequantize(rows, constants.GGMLQuantizationType[info.kind])
        return value.reshape(info.shape)

    def _unreadable(self, own: str, kind: str) -> Exception:
        given = f"{self.place.name}: tensor {own} of type {kind}"
        return bad("model.path", given, "types that the gguf package dequantises, or floats")


def _header(path: Path) -> header.Header:
    """The header of a file, read once as long as it is the same one."""
    try:
        now = path.stat()
    except OSError as error:
        raise bad("model.path", f"{path}: {error.strerror}", "a file that can be read") from error
    return _read(str(path), now.st_size, now.st_mtime_ns, now.st_ino)


@functools.lru_cache(maxsize=2)
def _read(path: str, size: int, changed: int, inode: int) -> header.Header:
    del size, changed, inode  # of the key alone
    return header.read(path)


@functools.cache
def _readable(kind: str) -> bool:
    """Whether `gguf` dequantises a type, asked with a block of zeros."""
    if kind in WIDTHS:
        return True
    from gguf import constants, quants

    number = constants.GGMLQuantizationType[kind]
    block = np.zeros((1, constants.GGML_QUANT_SIZES[number][1]), np.uint8)
    try:
        quants.dequantize(block, number)
    except NotImplementedError:
        return False
    return True

"""The header of a GGUF file: metadata and where each tensor lies, checked against the file.

Layout (llama.cpp's ggml/include/gguf.h, restated by the constants and the reader of the `gguf`
package 0.19, which are used and checked against): magic, version, counts of tensors and of keys,
the keys with their values, name, shape, type and offset of each tensor, then the tensors, each at a
multiple of `general.alignment`. Version 2 and 3 are the same on little-endian machines.

Nothing is believed that the file could not hold: a count is compared with the bytes that are left
before anything is made for it, so a header that lies costs no memory.
"""

from __future__ import annotations

import itertools
import math
import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from jaxsafety.core.errors import bad

MAGIC = b"GGUF"
VERSIONS = (2, 3)
# More than any model has; what says more is damaged, and would only fill memory until that shows.
MAX_KEYS, MAX_TENSORS, MAX_ITEMS, MAX_DIMS = 1 << 16, 1 << 20, 1 << 23, 4
MAX_TEXT, MAX_NAME = 1 << 24, 1 << 16
TEXT, ARRAY = 8, 9
# Numbers of GGUFValueType -> letters of `struct` and numpy, little-endian.
SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "<u1",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
BOOL = 7


class TensorInfo(NamedTuple):
    """Where a tensor lies and how it is stored.

    Attributes:
      shape: rows first, as numpy and torch have it ([out, in]); the file has it reversed.
      kind: name of the type, "F32", "Q4_1".
      offset: of its first byte in the file.
      size: bytes.
    """

    shape: tuple[int, ...]
    kind: str
    offset: int
    size: int


class Header(NamedTuple):
    """What a file says before its tensors.

    Attributes:
      metadata: key -> number, bool, str, or a list of one of them (numbers as a numpy array).
      tensors: name -> where it lies.
    """

    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]


def read(path: str | Path) -> Header:
    """Reads and checks the header of a file.

    Raises:
      UsageError: not a whole GGUF file of version 2 or 3, little-endian and in one part: another
        magic, a count, length, type or offset that the file cannot hold, a key or tensor that comes
        twice, tensors that overlap or reach beyond the end.
    """
    path = Path(path)
    try:
        with open(path, "rb") as stream:
            if not stream.seek(0, 2):
                raise bad("model.path", f"{path.name}, which is empty", "a GGUF file")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Cursor(data, path.name).header()
    except OSError as error:
        given = f"{path.name}: {error.strerror or error}"
        raise bad("model.path", given, "a file that can be read") from error


class _Cursor:
    """A place in the file that moves on as it is read."""

    def __init__(self, data: mmap.mmap, name: str) -> None:
        self.data, self.name, self.at, self.end = data, name, 0, len(data)

    def fail(self, what: str, allowed: str = "a sound GGUF file") -> NoReturn:
        raise bad("model.path", f"{self.name}: {what}", allowed)

    def header(self) -> Header:
        """All of it."""
        if self.data[:4] != MAGIC:
            given = f"{self.name}, which begins with {self.data[:4]!r}"
            raise bad("model.path", given, "a GGUF file, which begins with b'GGUF'")
        self.at = 4
        version = self.number("<I", "the version")
        if version & 0xFFFF == 0:  # of a big-endian file, read the wrong way round
            self.fail("big-endian", "a little-endian GGUF file (gguf-convert-endian makes one)")
        if version not in VERSIONS:
            self.fail(f"GGUF version {version}", f"version {' or '.join(map(str, VERSIONS))}")
        tensors, keys = (self.number("<Q", "a count") for _ in range(2))
        self.fits(keys, 13, MAX_KEYS, "keys")
        self.fits(tensors, 25, MAX_TENSORS, "tensors")
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            key = self.text("a key", MAX_NAME)
            if key in metadata:
                self.fail(f"key {key[:80]} twice")
            metadata[key] = self.value(self.number("<I", key), key)
        self.whole(metadata)
        rows = [self.tensor() for _ in range(tensors)]
        return Header(metadata, self.placed(rows, self.alignment(metadata)))

    def take(self, size: int, what: str) -> int:
        """Moves on by `size` bytes, which have to be there; returns where they begin."""
        at = self.at
        if size > self.end - at:
            self.fail(f"ends within {what[:80]} ({self.end} bytes)", "a whole file")
        self.at = at + size
        return at

    def fits(self, count: int, least: int, most: int, what: str) -> None:
        """Refuses a count of things of at least `least` bytes that the rest cannot hold."""
        if count * least > self.end - self.at:
            self.fail(f"says {count} {what[:80]}, more than its {self.end} bytes hold")
        if count > most:
            self.fail(f"says {count} {what[:80]}", f"at most {most}")

    def number(self, form: str, what: str) -> int:
        """One integer."""
        at = self.take(struct.calcsize(form), what)
        return struct.unpack_from(form, self.data, at)[0]

    def text(self, what: str, most: int = MAX_TEXT) -> str:
        """A length and as many bytes of UTF-8."""
        size = self.number("<Q", what)
        if size > most:
            self.fail(f"{what[:80]} of {size} bytes", f"at most {most}")
        at = self.take(size, what)
        try:
            return self.data[at : at + size].decode()
        except UnicodeDecodeError:
            self.fail(f"{what[:80]} is not UTF-8")

    def value(self, kind: int, key: str) -> Any:
        """One value of metadata."""
        if kind == TEXT:
            return self.text(key)
        if kind in SCALARS:
            return self.numbers(kind, 1, key).tolist()[0]
        if kind != ARRAY:
            self.fail(f"key {key[:80]} of type {kind}", "a type of GGUF")
        inner, count = self.number("<I", key), self.number("<Q", key)
        if inner == TEXT:
            self.fits(count, 8, MAX_ITEMS, f"texts in {key}")
            return [self.text(key) for _ in range(count)]
        if inner not in SCALARS:
            self.fail(f"key {key[:80]}, an array of type {inner}", "an array of numbers or texts")
        self.fits(count, np.dtype(SCALARS[inner]).itemsize, MAX_ITEMS, f"numbers in {key}")
        return self.numbers(inner, count, key)

    def numbers(self, kind: int, count: int, key: str) -> np.ndarray:
        """`count` numbers or booleans of one type, a copy."""
        dtype = np.dtype(SCALARS[kind])
        at = self.take(count * dtype.itemsize, key)
        found = np.frombuffer(self.data[at : self.at], dtype)
        if kind == BOOL and (found > 1).any():
            self.fail(f"key {key[:80]}, a boolean of {found.max()}", "0 or 1")
        return found.astype(bool) if kind == BOOL else found

    def whole(self, metadata: dict[str, Any]) -> None:
        """Refuses one part of several."""
        count, part = metadata.get("split.count", 0), metadata.get("split.no", 0)
        if not isinstance(count, int) or count > 1:
            first = part + 1 if isinstance(part, int) else part
            allowed = "one file (llama-gguf-split --merge puts the parts together)"
            self.fail(f"part {first!r:.20} of {count!r:.20}", allowed)

    def alignment(self, metadata: dict[str, Any]) -> int:
        """What offsets are multiples of."""
        from gguf import constants

        found = metadata.get("general.alignment", constants.GGUF_DEFAULT_ALIGNMENT)
        fine = isinstance(found, int) and not isinstance(found, bool) and found > 0
        if not fine or found & (found - 1):
            self.fail(f"general.alignment {found!r:.40}", "a power of two")
        return found

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """(name, shape, number of its type, offset among the tensors) of one tensor."""
        name = self.text("the name of a tensor", MAX_NAME)
        count = self.number("<I", name)
        if not 1 <= count <= MAX_DIMS:
            self.fail(f"tensor {name[:80]} of {count} dimensions", f"1 to {MAX_DIMS}")
        dims = struct.unpack_from(f"<{count}Q", self.data, self.take(8 * count, name))
        return name, dims[::-1], self.number("<I", name), self.number("<Q", name)

    def placed(
        self, rows: list[tuple[str, tuple[int, ...], int, int]], alignment: int
    ) -> dict[str, TensorInfo]:
        """Where each tensor lies in the file: inside of it, aligned, and alone."""
        from gguf import constants

        start = -(-self.at // alignment) * alignment
        found: dict[str, TensorInfo] = {}
        for name, shape, number, offset in rows:
            if name in found:
                self.fail(f"tensor {name[:80]} twice")
            try:
                kind = constants.GGMLQuantizationType(number)
                block, bytes_each = constants.GGML_QUANT_SIZES[kind]
            except (ValueError, KeyError):
                self.fail(f"tensor {name[:80]} of type {number}", "a type of the gguf package")
            items = math.prod(shape)
            if not items or shape[-1] % block:
                self.fail(f"tensor {name[:80]} of shape {list(shape)}", f"rows of {block}s")
            size = items // block * bytes_each
            if offset % alignment:
                self.fail(f"tensor {name[:80]} at {offset}", f"a multiple of {alignment}")
            if start + offset + size > self.end:
                given = f"ends within tensor {name[:80]} ({self.end} bytes"
                self.fail(f"{given}, of {start + offset + size})", "a whole file")
            found[name] = TensorInfo(shape, kind.name, start + offset, size)
        order = sorted(found, key=lambda n: found[n].offset)
        for one, two in itertools.pairwise(order):
            if found[one].offset + found[one].size > found[two].offset:
                self.fail(f"tensors {one[:80]} and {two[:80]} overlap")
        return found

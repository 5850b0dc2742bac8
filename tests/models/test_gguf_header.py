"""Headers that lie: one line, no memory for what they say, never anything but a UsageError."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import constants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxsafety.core.errors import UsageError
from jaxsafety.models.formats import hf
from jaxsafety.models.formats.gguf import header
from jaxsafety.models.formats.gguf.store import GGUF
from tests.models import gguf_files
from tests.picks import Drawn, each

SCALARS = {
    "uint8": 200,
    "int8": -3,
    "uint16": 60_000,
    "int16": -30_000,
    "uint32": 1 << 31,
    "int32": -(1 << 31),
    "uint64": 1 << 63,
    "int64": -(1 << 63),
    "float32": 0.5,
    "float64": 0.1,
    "bool": True,
    "string": "a text, Ω",
}
U32, U64 = 4, 10


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def tensor(name, dims, kind=0, offset=0):
    head = text(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return head + struct.pack("<IQ", kind, offset)


def build(keys=(), tensors=(), data=64, *, version=3, counts=None, magic=b"GGUF"):
    """A file by hand: `keys` are (name, type, bytes), `tensors` bytes of `tensor`."""
    counts = counts or (len(tensors), len(keys))
    head = magic + struct.pack("<IQQ", version, *counts)
    head += b"".join(text(k) + struct.pack("<I", kind) + value for k, kind, value in keys)
    head += b"".join(tensors)
    return head + b"\0" * (-len(head) % 32) + b"\0" * data


def read(tmp_path, data):
    file = tmp_path / "a.gguf"
    file.write_bytes(data)
    return header.read(file)


def test_every_type_is_read_as_the_package_reads_it(tmp_path):
    file = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    for kind, value in SCALARS.items():
        getattr(writer, f"add_{kind}")(f"a.{kind}", value)
    writer.add_array("list.texts", ["one", "", "Ω"])
    writer.add_array("list.floats", [0.5, 2.0])
    writer.add_array("list.booleans", [True, False])
    writer.add_custom_alignment(64)
    writer.add_tensor("t", np.arange(12, dtype=np.float32).reshape(3, 4))
    writer.add_tensor("u", np.arange(5, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found, theirs = header.read(file), gguf.GGUFReader(file)
    assert found.metadata.keys() == {k for k in theirs.fields if not k.startswith("GGUF.")}
    for key, value in found.metadata.items():
        value = value.tolist() if isinstance(value, np.ndarray) else value
        expected = theirs.fields[key].contents()
        assert value == expected and type(value) is type(expected), key
    assert [*found.tensors] == [t.name for t in theirs.tensors]
    for t in theirs.tensors:
        info = found.tensors[t.name]
        assert info.shape == tuple(t.shape.tolist()[::-1]) and info.kind == t.tensor_type.name
        assert (info.offset, info.size) == (t.data_offset, t.n_bytes)


def test_version_2_is_the_same(tmp_path):
    keys = [("a", U32, struct.pack("<I", 7))]
    tensors = [tensor("t", (4, 2))]
    assert read(tmp_path, build(keys, tensors, version=2)) == read(tmp_path, build(keys, tensors))


HUGE = 1 << 62
KEY = [("a", U32, struct.pack("<I", 7))]
BAD = {
    "empty": (b"", "which is empty"),
    "no gguf": (b"<html>" * 9, "begins with b'<htm'"),
    "version 1": (build(version=1), "GGUF version 1"),
    "version 4": (build(version=4), "GGUF version 4"),
    "big-endian": (build(version=3 << 24), "big-endian"),
    "keys": (build(counts=(0, HUGE)), f"says {HUGE} keys"),
    "tensors": (build(counts=(HUGE, 0)), f"says {HUGE} tensors"),
    "length of a key": (
        build([(b"", 0, b"")], counts=(0, 1))[:24] + struct.pack("<Q", HUGE) + b"\0" * 64,
        "a key of",
    ),
    "length of a text": (build([("a", 8, struct.pack("<Q", HUGE))]), f"a of {HUGE} bytes"),
    "no text": (build([("a", 8, text(b"\xff\xfe"))]), "a is not UTF-8"),
    "type of a key": (build([("a", 13, b"")]), "key a of type 13"),
    "length of a list": (
        build([("a", 9, struct.pack("<IQ", U32, HUGE))]),
        f"says {HUGE} numbers in a",
    ),
    "length of texts": (build([("a", 9, struct.pack("<IQ", 8, HUGE))]), f"says {HUGE} texts in a"),
    "list of lists": (build([("a", 9, struct.pack("<IQ", 9, 1))]), "an array of type 9"),
    "boolean": (build([("a", 7, b"\2")]), "a boolean of 2"),
    "key twice": (build(KEY * 2), "key a twice"),
    "alignment 0": (
        build([("general.alignment", U32, struct.pack("<I", 0))]),
        "general.alignment 0",
    ),
    "alignment 24": (
        build([("general.alignment", U32, struct.pack("<I", 24))]),
        "general.alignment 24",
    ),
    "alignment text": (build([("general.alignment", 8, text("32"))]), "general.alignment '32'"),
    "no dimension": (build((), [tensor("t", ())]), "tensor t of 0 dimensions"),
    "dimensions": (build((), [tensor("t", (1,) * 5)]), "tensor t of 5 dimensions"),
    "empty tensor": (build((), [tensor("t", (4, 0))]), "tensor t of shape [0, 4]"),
    "large": (build((), [tensor("t", (1 << 63, 1 << 63))]), "ends within tensor t"),
    "type": (build((), [tensor("t", (4,), 99)]), "tensor t of type 99"),
    "removed type": (build((), [tensor("t", (32,), 4)]), "tensor t of type 4"),
    "blocks": (build((), [tensor("t", (33, 2), 2)]), "rows of 32s"),
    "offset": (build((), [tensor("t", (4,), 0, 16)]), "tensor t at 16"),
    "beyond": (build((), [tensor("t", (4,), 0, 64)]), "ends within tensor t"),
    "overlap": (build((), [tensor("t", (16,)), tensor("u", (4,), 0, 32)], 64), "t and u overlap"),
    "tensor twice": (build((), [tensor("t", (4,)), tensor("t", (4,), 0, 32)]), "tensor t twice"),
    "part": (build([("split.count", U32, struct.pack("<I", 2))]), "part 1 of 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_header_that_lies_is_one_line(tmp_path, name):
    data, said = BAD[name]
    with pytest.raises(UsageError) as caught:
        read(tmp_path, data)
    line = str(caught.value)
    assert said in line and "a.gguf" in line and "\n" not in line and len(line) < 400


@pytest.mark.parametrize(
    "name", ["keys", "tensors", "length of a list", "length of texts", "large"]
)
def test_nothing_is_allocated_for_what_is_only_said(tmp_path, name):
    file = tmp_path / "a.gguf"
    file.write_bytes(BAD[name][0])
    with pytest.raises(UsageError):
        header.read(file)  # imports, once
    tracemalloc.start()
    with pytest.raises(UsageError):
        header.read(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def everything(file):
    """All that is read of a file without JAX: header, config.json, tensors."""
    store = GGUF(file)
    given = store.description()
    store.check(given, set(store.names))
    hf._parse(given)
    with np.errstate(all="ignore"):
        for name in sorted({*store.names} & {*store._own}):
            info = store.header.tensors[store._own[name]]
            value = store.read(name, info.shape)
            assert value.shape == info.shape and value.dtype.itemsize <= 4
            store.dtype(name)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Small files of three architectures and storage types."""
    found = []
    for family, kind in (("llama", "Q4_0"), ("gemma3_text", "F32"), ("qwen2", "Q8_0")):
        folder = tmp_path_factory.mktemp(family)
        sizes = {"embed_dim": 32, "mlp_dim": 32, "vocab_size": 32, "num_layers": 1, "windows": ()}
        model, params = gguf_files.random_model(family, **sizes)
        hf.save(folder / "hf", model, params, dtype="float32")
        file = gguf_files.write(folder / "m.gguf", folder / "hf", kind=kind)
        everything(file)
        found.append(file.read_bytes())
    return found


def changed(data, pick):
    """A file that is cut, or has bits or whole numbers changed, mostly in its header."""
    raw = bytearray(data)
    end = len(raw) if pick.integer(0, 1) else min(len(raw), 2400)
    for _ in range(pick.integer(1, 4)):
        at = pick.integer(0, min(end, len(raw)) - 9)  # it may have become shorter
        how = pick.one_of(("bit", "byte", "u32", "u64", "insert", "remove"))
        if how == "bit":
            raw[at] ^= 1 << pick.integer(0, 7)
        elif how == "byte":
            raw[at] = pick.integer(0, 255)
        elif how in ("u32", "u64"):
            form, bits = {"u32": ("<I", 32), "u64": ("<Q", 64)}[how]
            raw[at : at + bits // 8] = struct.pack(form, pick.integer(0, (1 << bits) - 1))
        elif how == "insert":
            raw[at:at] = pick.raw(1, 8)
        else:
            del raw[at : at + pick.integer(1, 8)]
    return bytes(raw[: pick.integer(0, len(raw))]) if pick.integer(0, 1) else bytes(raw)


def check_damaged(files, folder, pick):
    raw = changed(pick.one_of(files), pick)
    file = folder / "fuzzed.gguf"
    file.write_bytes(raw)
    try:
        everything(file)
    except UsageError as error:
        assert "\n" not in str(error)


FUZZ: dict[str, Any] = dict(deadline=None, suppress_health_check=list(HealthCheck), database=None)


@settings(max_examples=100, **FUZZ)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(files, tmp_path_factory, data):
    check_damaged(files, tmp_path_factory.getbasetemp(), Drawn(data.draw))


@pytest.mark.slow
def test_ten_thousand_damaged_files_are_read_or_refused(files, tmp_path):
    each(10_000, lambda pick: check_damaged(files, tmp_path, pick))


@pytest.mark.parametrize("kind", sorted(k.name for k in constants.GGMLQuantizationType))
def test_types_are_dequantised_or_refused_before_anything_is_read(tmp_path, files, kind):
    """Zeros of each type in one matrix; what `gguf` cannot do is one line."""
    number = constants.GGMLQuantizationType[kind]
    block, size = constants.GGML_QUANT_SIZES[number]
    file = tmp_path / "m.gguf"
    file.write_bytes(files[1])
    store = GGUF(file)
    info = header.TensorInfo((1, block), kind, 0, size)
    store.header = store.header._replace(tensors={**store.header.tensors, "output.weight": info})
    store._own = {**store._own, "lm_head.weight": "output.weight"}
    file.write_bytes(b"\0" * 4096)
    if kind in ("Q8_1", "Q8_K", "Q1_0", "I8", "I16", "I32", "I64", "F64"):
        with pytest.raises(UsageError, match=f"tensor output.weight of type {kind}'"):
            store.check({}, {"lm_head.weight"})
    else:
        store.check({}, {"lm_head.weight"})
        assert store.read("lm_head.weight", (1, block)).shape == (1, block)

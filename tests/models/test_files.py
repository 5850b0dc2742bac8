"""Reading safetensors: whatever is on disk, it is read exactly or refused in one line."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxsafety.core.errors import UsageError
from jaxsafety.models.formats import files
from tests.picks import Drawn, Pick, each

ARRAY = np.arange(12, dtype=np.float32).reshape(3, 4)


def write(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def refused(call, *words):
    with pytest.raises(UsageError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line and all(word in line for word in words), line


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_tensors_are_read_exactly(tmp_path, dtype):
    safetensors.numpy.save_file({"a": ARRAY.astype(dtype)}, tmp_path / files.WEIGHTS)
    found = files.tensor_files(tmp_path)
    value = files.read(found["a"], "a", (3, 4))
    (tmp_path / files.WEIGHTS).unlink()  # a copy, which needs the file no more
    assert value.dtype == dtype
    np.testing.assert_array_equal(value, ARRAY.astype(dtype))


def entry(start, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "broken",
    [
        dict(header={"a": entry(0, 8)}, data=b"1234"),  # truncated
        dict(header={"a": entry(0, 8), "b": entry(4, 12)}, data=bytes(12)),  # overlapping
        dict(header={"a": entry(0, 8)}, data=bytes(8), length=1 << 60),  # oversized header
        dict(header={"a": entry(0, 4)}, data=bytes(8)),  # shape and bytes disagree
        dict(header={"a": entry(0, 8, dtype="F99")}, data=bytes(8)),  # no such dtype
        dict(header={"a": entry(-8, 0)}, data=bytes(8)),  # negative
        dict(header=b"[1, 2", data=bytes(8)),  # not JSON
        dict(header=b""),
    ],
    ids=["truncated", "overlapping", "oversized", "short", "dtype", "negative", "json", "empty"],
)
def test_unsound_files_are_refused(tmp_path, broken):
    write(tmp_path / files.WEIGHTS, **broken)
    refused(lambda: files.tensor_files(tmp_path), files.WEIGHTS, "a sound safetensors file")


def test_other_shapes_and_dtypes_are_refused_without_reading(tmp_path):
    tensors = {"a": ARRAY, "b": ARRAY.astype(np.int32), "c": ARRAY.astype(np.float64)}
    safetensors.numpy.save_file(tensors, tmp_path / files.WEIGHTS)
    file = tmp_path / files.WEIGHTS
    refused(lambda: files.read(file, "a", (4, 3)), "tensor a: got [3, 4]", "shape [4, 3]")
    refused(lambda: files.read(file, "b", (3, 4)), "tensor b: got 'I32'", "F32, F16, BF16")
    refused(lambda: files.read(file, "c", (3, 4)), "tensor c: got 'F64'")
    refused(lambda: files.read(file, "d", (3, 4)), "tensor d")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"a": "../other.safetensors"}, "same directory"),
        ({"a": "/tmp/other.safetensors"}, "same directory"),
        ({"a": "weights.bin"}, "same directory"),
        ({"a": "x\0.safetensors"}, "same directory"),
        ({"a": 3}, "same directory"),
        ({"a": "absent.safetensors"}, "absent.safetensors is missing"),
        ([], "weight_map"),
        (None, "weight_map"),
    ],
)
def test_indices_name_files_beside_them(tmp_path, table, words):
    (tmp_path / files.INDEX).write_text(json.dumps({"weight_map": table}))
    refused(lambda: files.tensor_files(tmp_path), words)


def test_an_index_that_is_no_object(tmp_path):
    for text in ("[]", "{", "[" * 100_000, "\xff"):
        (tmp_path / files.INDEX).write_text(text)
        refused(lambda: files.tensor_files(tmp_path), files.INDEX)


def test_a_tensor_in_two_files_is_refused(tmp_path):
    for name in ("a", "b"):
        safetensors.numpy.save_file({"same": ARRAY}, tmp_path / f"{name}.safetensors")
    table = {"same": "a.safetensors", "other": "b.safetensors"}
    (tmp_path / files.INDEX).write_text(json.dumps({"weight_map": table}))
    refused(lambda: files.tensor_files(tmp_path), "tensor same", "a.safetensors and b.safetensors")


def damaged(pick: Pick) -> bytes:
    """A sound file with a few bytes changed, cut off, or added."""
    shapes = [pick.integer(0, 5) for _ in range(pick.integer(1, 3))]
    tensors = {f"t{i}": np.full((n, 2), i, np.float32) for i, n in enumerate(shapes)}
    data = bytearray(safetensors.numpy.save(tensors))
    for _ in range(pick.integer(1, 4)):
        place = pick.integer(0, len(data) - 1)
        kind = pick.one_of(["flip", "cut", "insert"])
        if kind == "flip":
            data[place] ^= pick.integer(1, 255)
        elif kind == "cut":
            del data[place:]
        else:
            data[place:place] = pick.raw(1, 9)
        if not data:
            break
    return bytes(data)


def survives(tmp_path, data):
    """Either read, with shapes that the header told, or refused in one line."""
    file = tmp_path / files.WEIGHTS
    file.write_bytes(data)
    try:
        for name in files.tensor_files(tmp_path):
            files.read(file, name, (2, 2))
    except UsageError as error:
        assert "\n" not in str(error)


COMMON = dict(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(max_examples=100, **COMMON)
@given(data=st.data())
def test_damaged_files_never_crash(tmp_path, data):
    survives(tmp_path, damaged(Drawn(data.draw)))


@pytest.mark.slow
def test_ten_thousand_damaged_files_never_crash(tmp_path):
    each(10_000, lambda pick: survives(tmp_path, damaged(pick)))

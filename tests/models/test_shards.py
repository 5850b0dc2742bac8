"""Models in several files: how they are cut, that they are read, what they replace."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from jaxsafety.core import hosts
from jaxsafety.models.formats import files, hf, shards
from jaxsafety.testing import tiny_model

SIZES = st.dictionaries(st.text(min_size=1), st.integers(0, 50), min_size=1, max_size=30)


@given(SIZES, st.integers(1, 100))
def test_files_keep_the_order_and_the_limit(sizes, most):
    found = shards.grouped(sizes, most)
    assert [name for file in found for name in file] == list(sizes)
    totals = [sum(sizes[name] for name in file) for file in found]
    assert all(len(file) == 1 or total <= most for file, total in zip(found, totals, strict=True))
    firsts = [sizes[file[0]] for file in found[1:]]
    assert all(a + b > most for a, b in zip(totals, firsts, strict=False))  # no file is cut early


def test_names_are_those_of_the_hub():
    assert shards.names(1) == ["model.safetensors"]
    assert shards.names(3)[1] == "model-00002-of-00003.safetensors"


def of(folder):
    return sorted(file.name for file in folder.iterdir() if "safetensors" in file.name)


@pytest.mark.parametrize("tied", [True, False])
def test_a_large_model_is_several_files(tmp_path, monkeypatch, tied):
    model, params = tiny_model(tie_embeddings=tied)
    hf.save(tmp_path / "one", model, params, dtype="float32")
    monkeypatch.setattr(shards, "SHARD", 30_000)
    hf.save(tmp_path / "many", model, params, dtype="float32", unsafe=True)
    written = of(tmp_path / "many")
    index = json.loads((tmp_path / "many" / files.INDEX).read_text())
    assert len(written) > 3 and set(index["weight_map"].values()) == set(written) - {files.INDEX}
    whole = safetensors.numpy.load_file(tmp_path / "one" / files.WEIGHTS)
    assert set(index["weight_map"]) == set(whole)
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in whole.values())
    for name, file in index["weight_map"].items():
        with safetensors.safe_open(tmp_path / "many" / file, "np") as part:
            np.testing.assert_array_equal(part.get_tensor(name), whole[name])
            assert part.metadata() == {"format": "pt", "unsafe": "true"}
        assert (tmp_path / "many" / file).stat().st_mode & 0o777 == 0o644
    _, loaded = hf.load(tmp_path / "many")
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(loaded), strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_file_and_several_replace_each_other(tmp_path, monkeypatch):
    """transformers prefers one file: left beside new ones, it would be read."""
    model, params = tiny_model()
    one, small = shards.SHARD, 30_000
    (tmp_path / "adapter.safetensors").write_bytes(b"another's")
    for limit, several in ((one, False), (small, True), (2 * small, True), (one, False)):
        monkeypatch.setattr(shards, "SHARD", limit)
        hf.save(tmp_path, model, params, dtype="float32")
        found = of(tmp_path)
        assert "adapter.safetensors" in found
        assert (files.WEIGHTS in found) is not several and (files.INDEX in found) is several
        counts = {name.rpartition("-")[2] for name in found if "-of-" in name}
        assert len(counts) == several  # none of an earlier count
        hf.load(tmp_path)


def test_a_file_that_cannot_be_written_leaves_the_old_model(tmp_path, monkeypatch):
    model, params = tiny_model()
    hf.save(tmp_path / "m", model, params, dtype="float32")
    before = (tmp_path / "m" / files.WEIGHTS).read_bytes()
    monkeypatch.setattr(shards, "SHARD", 30_000)
    real, calls = safetensors.numpy.save_file, []

    def full(tensors, file, metadata):
        calls.append(file)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(tensors, file, metadata)

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        hf.save(tmp_path / "m", model, params, dtype="float32")
    assert (tmp_path / "m" / files.WEIGHTS).read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_processes_take_turns(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert [turn for turn in range(8) if hosts.mine(turn)] == [1, 4, 7]


def test_one_file_of_tensors_is_held_at_a_time(tmp_path, monkeypatch):
    """Tensors are made when their file is written, not before."""
    model, params = tiny_model()
    made, at = [], []
    stored, real = hf._stored_as, safetensors.numpy.save_file
    monkeypatch.setattr(hf, "_stored_as", lambda t, d: made.append(t.name) or stored(t, d))

    def save(tensors, file, metadata):
        at.append((len(made), len(tensors)))
        real(tensors, file, metadata)

    monkeypatch.setattr(safetensors.numpy, "save_file", save)
    monkeypatch.setattr(shards, "SHARD", 30_000)
    hf.save(tmp_path, model, params, dtype="float32")
    assert [count for count, _ in at] == list(np.cumsum([held for _, held in at]))

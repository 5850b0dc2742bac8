"""Models of every architecture from GGUF files that the `gguf` package wrote of our own exports."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
import tokenizers
from gguf import constants, quants

import jaxsafety
from jaxsafety import cli, registry
from jaxsafety.core.config import ConfigDict
from jaxsafety.core.errors import UsageError
from jaxsafety.data.tokens.tokenizer import ByteTokenizer
from jaxsafety.experiment import identity
from jaxsafety.models.formats import hf, hub
from jaxsafety.models.formats.gguf import architectures, rope
from jaxsafety.models.formats.gguf.header import Header, TensorInfo
from jaxsafety.models.formats.store import open_store
from jaxsafety.testing import tiny_config
from tests.models import gguf_files

LLAMA3 = (("factor", 8.0), ("high_freq_factor", 4.0), ("low_freq_factor", 1.0))
LENGTH = "original_max_position_embeddings"
GEMMA = {"query_scale": 8**-0.5}
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2")


def leaves(params):
    return jax.tree_util.tree_leaves_with_path(params)


def same(params, others, **tolerance):
    assert jax.tree.structure(params) == jax.tree.structure(others)
    for (path, a), (_, b) in zip(leaves(params), leaves(others), strict=True):
        if tolerance:
            np.testing.assert_allclose(b, a, err_msg=str(path), **tolerance)
        else:
            np.testing.assert_array_equal(b, a, err_msg=str(path))


def make(tmp_path, family="llama", changes=None, **options):
    """(file, (model, params)) of a random tiny model; `options` are those of `gguf_files.write`."""
    changes = {**(GEMMA if family.startswith("gemma") else {}), **(changes or {})}
    model, params = gguf_files.random_model(family, vocab_size=263, **changes)
    hf.save(tmp_path / "hf", model, params, dtype="float32", tokenizer=merging())
    return gguf_files.write(tmp_path / "model.gguf", tmp_path / "hf", **options), (model, params)


def merging():
    """The byte tokenizer with one merge: the `gguf` package writes no empty list."""
    tokenizer = ByteTokenizer()
    given = json.loads(tokenizer.backend.to_str())
    given["model"]["vocab"]["ab"], given["model"]["merges"] = 262, [["a", "b"]]
    tokenizer.backend = tokenizers.Tokenizer.from_str(json.dumps(given))
    return tokenizer


def config_of(family, keys=None, **changes):
    """What is read of a header with the shapes of a tiny model, without a file."""
    config = tiny_config(family, **{**(GEMMA if family.startswith("gemma") else {}), **changes})
    table = registry.resolve(registry.MODELS, family)
    written = {**table.write(config), "model_type": family}
    arch = gguf_files.ARCHES.get(family, family)
    found = {**gguf_files.keys_of(written, arch), "general.architecture": arch, **(keys or {})}
    q, k = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    shapes = {
        "token_embd.weight": config.vocab_size,
        "blk.0.attn_q.weight": q,
        "blk.0.attn_k.weight": k,
        "blk.0.ffn_up.weight": config.mlp_dim,
    }
    tensors = {n: TensorInfo((rows, config.embed_dim), "F32", 0, 0) for n, rows in shapes.items()}
    header = Header({k: v for k, v in found.items() if v is not None}, tensors)
    kind = architectures.find(header, "file")
    return table.read(architectures.config(kind, header, "file")), config


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        *((family, {}) for family in FAMILIES),
        ("llama", {"tie_embeddings": False, "attention_bias": "all", "num_kv_heads": 4}),
        ("llama", {"rope_scaling": (("factor", 4.0),), "head_dim": 16, "rope_theta": 5e5}),
        ("llama", {"rope_scaling": (*LLAMA3, (LENGTH, 8192.0)), "rope_theta": 5e5, "head_dim": 32}),
        ("qwen2", {"tie_embeddings": False}),
        ("qwen3", {"head_dim": 16, "rope_theta": 1e6, "norm_eps": 1e-6}),
        ("gemma2", {"windows": (5, 5, 0)}),
        ("gemma3_text", {"rope_theta": 1e6, "rope_scaling": (("factor", 8.0),), "windows": ()}),
        ("olmo2", {"tie_embeddings": False, "num_kv_heads": 4}),
    ],
)
def test_a_file_is_the_model_that_it_was_made_of(tmp_path, family, changes):
    file, (model, params) = make(tmp_path, family, changes, keys={"general.name": "Mistral"})
    again, loaded, tokenizer = jaxsafety.load(file)
    assert again is model  # one object per config
    # 1 was added to Gemma's norms and is subtracted again, which costs half a unit of 1 + w.
    same(params, loaded, **({"atol": 2**-22, "rtol": 0} if model.config.norm_offset else {}))
    theirs = merging()
    for text in ("about a word, Ω", "<|end|>"):
        assert tokenizer.encode(text) == theirs.encode(text)
    assert tokenizer.eos_ids == theirs.eos_ids and tokenizer.bos_id == theirs.bos_id
    assert tokenizer.chat_template == theirs.chat_template


def test_norms_that_one_was_added_to_are_exact_where_float32_is(tmp_path):
    """What 1 + w keeps of w comes back, and only that."""
    file, (_, params) = make(tmp_path, "gemma2")
    _, loaded, _ = jaxsafety.load(file)
    given = np.asarray(params["final_norm"]["scale"])
    expected = (given + np.float32(1)).astype(np.float32) - np.float32(1)
    np.testing.assert_array_equal(loaded["final_norm"]["scale"], expected)
    assert np.abs(expected - given).max() > 0


@pytest.mark.parametrize(("family", "layers"), [("gemma2", 46), ("gemma3_text", 62)])
def test_the_largest_gemmas_scale_queries_by_width_over_heads(family, layers):
    for count, scale in ((layers, 8**-0.5), (layers - 1, 16**-0.5)):
        windows = tuple(5 if layer % 2 else 0 for layer in range(count))
        changes = dict(num_layers=count, head_dim=16, query_scale=scale, windows=windows)
        found, expected = config_of(family, **changes)
        assert found == expected


def test_a_scale_of_queries_that_is_told_counts():
    found, expected = config_of("gemma2", {"gemma2.attention.scale": 0.25}, query_scale=0.25)
    assert found == expected


def test_a_cap_of_zero_is_none_and_an_absent_one_is_the_published():
    caps = ("gemma2.attn_logit_softcapping", "gemma2.final_logit_softcapping")
    found, expected = config_of(
        "gemma2", dict.fromkeys(caps, 0.0), attention_cap=0.0, logit_cap=0.0
    )
    assert found == expected
    found, expected = config_of("gemma2", dict.fromkeys(caps), attention_cap=50.0, logit_cap=30.0)
    assert found == expected


def test_windows_follow_the_period_where_no_layer_is_named():
    """Gemma's converter writes no pattern: each second, and five of six."""
    for family, every in (("gemma2", 2), ("gemma3_text", 6)):
        windows = tuple(5 if layer % every < every - 1 else 0 for layer in range(7))
        changes = {"num_layers": 7, "windows": windows}
        arch, base = gguf_files.ARCHES.get(family, family), {}
        if every == 6:  # and no base of the layers that have one
            changes, base = {**changes, "local_theta": 1e4}, {f"{arch}.rope.freq_base_swa": None}
        key = f"{arch}.attention.sliding_window_pattern"
        assert len(set(config_of(family, {key: None, **base}, **changes))) == 1
        assert len(set(config_of(family, {key: every, **base}, **changes))) == 1


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q8_0", "BF16", "F16"])
def test_quantised_tensors_are_what_the_package_makes_of_them(tmp_path, kind):
    changes = {"embed_dim": 64, "mlp_dim": 64, "head_dim": 16}
    file, (_, params) = make(tmp_path, "qwen3", changes, kind=kind)
    _, loaded = hf.load(file)
    number = constants.GGMLQuantizationType[kind]
    down = np.asarray(params["blocks"]["mlp"]["down"]["kernel"][1]).T
    expected = quants.dequantize(quants.quantize(np.ascontiguousarray(down), number), number)
    np.testing.assert_array_equal(
        np.asarray(loaded["blocks"]["mlp"]["down"]["kernel"][1]).T, expected
    )
    assert hf.stored_dtype(file) == "float32"


@pytest.mark.parametrize(("kind", "dtype"), [("BF16", "bfloat16"), ("F16", "float16")])
def test_vectors_that_were_widened_do_not_widen_the_model(tmp_path, kind, dtype):
    model, params = gguf_files.random_model("gemma2", query_scale=8**-0.5)
    narrow = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}[dtype]
    coarse = jax.tree.map(lambda x: np.asarray(x).astype(narrow).astype(np.float32), params)
    jaxsafety.export(tmp_path / "narrow", model, coarse, dtype="float32", tokenizer=None)
    file = gguf_files.write(tmp_path / "m.gguf", tmp_path / "narrow", kind=kind)
    assert hf.stored_dtype(file) == dtype
    same(coarse, hf.load(file)[1])


def test_an_export_is_a_directory_of_the_same_model(tmp_path, capsys):
    file, (model, params) = make(tmp_path, "gemma3_text")
    assert cli.main(["export", f"--model={file}", f"--out={tmp_path / 'out'}"]) == 0
    assert f"float32, as {file}" in capsys.readouterr().out
    again, loaded, tokenizer = jaxsafety.load(tmp_path / "out")
    assert again is model and tokenizer.eos_ids == jaxsafety.load(file)[2].eos_ids
    same(jaxsafety.load(file)[1], loaded)
    same(params, loaded, atol=2**-22, rtol=0)
    # and from there into a file again, which is the same byte for byte
    second = gguf_files.write(tmp_path / "again.gguf", tmp_path / "out")
    same(loaded, hf.load(second)[1])


def test_a_directory_with_one_file_is_that_file(tmp_path, plain):
    file = gguf_files.write(tmp_path / "model.gguf", plain)
    alone = tmp_path / "alone"
    alone.mkdir()
    file = file.rename(alone / "Model.GGUF")
    assert hub.directory(alone) == file and hub.directory(str(file)) == file
    assert open_store(alone).place == file
    same(jaxsafety.load(alone)[1], jaxsafety.load(file)[1])
    (alone / "mmproj.gguf").write_bytes(file.read_bytes())
    for call in (hub.directory, jaxsafety.load, hf.load):
        with pytest.raises(UsageError, match=r"2 GGUF files.*one of them: Model.GGUF, mmproj.gguf"):
            call(alone)
    (alone / "config.json").write_text((plain / "config.json").read_text())
    assert hub.directory(alone) == alone
    with pytest.raises(UsageError, match="a config.json beside GGUF files"):
        hf.load(alone)


def test_fingerprints_are_of_the_file(tmp_path, plain):
    file = gguf_files.write(tmp_path / "model.gguf", plain)
    first = identity.model_fingerprint(file)
    moved = file.rename(tmp_path / "other.gguf")
    assert identity.model_fingerprint(moved) == first
    table = identity.file_digests(ConfigDict({}), moved)
    assert list(table) == ["model: other.gguf"]
    data = bytearray(moved.read_bytes())
    data[-1] ^= 1
    moved.write_bytes(bytes(data))
    assert identity.model_fingerprint(moved) != first


def test_nothing_of_gguf_is_imported_before_a_file_is_read():
    code = "import jaxsafety.cli, jaxsafety.models.formats.load, sys; print('gguf' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A directory of a tiny Llama."""
    folder = tmp_path_factory.mktemp("llama")
    make(folder)
    return folder / "hf"


@pytest.mark.parametrize(
    ("keys", "tensors", "said"),
    [
        ({"general.architecture": "mamba"}, {}, "architecture 'mamba'\"; allowed: llama, qwen2"),
        ({"general.architecture": None}, {}, "architecture"),
        ({"general.type": "adapter"}, {}, "general.type 'adapter'"),
        ({"{arch}.rope.scaling.type": "yarn"}, {}, "RoPE scaling 'yarn'"),
        ({"{arch}.expert_count": 8}, {}, "llama.expert_count 8"),
        ({"{arch}.block_count": 4000}, {}, "llama.block_count 4000"),
        ({"{arch}.block_count": 2}, {}, "unknown tensors: blk.2."),
        ({"{arch}.block_count": 4}, {}, "missing tensors: model.layers.3."),
        ({"{arch}.embedding_length": 33}, {}, "token_embd.weight"),
        ({"{arch}.embedding_length": None}, {}, "llama.embedding_length None"),
        ({"{arch}.feed_forward_length": [48, 48, 48]}, {}, "one value for all blocks"),
        ({"{arch}.attention.head_count_kv": 3}, {}, "blk.0.attn_k.weight"),
        ({"{arch}.rope.dimension_count": 4}, {}, "llama.rope.dimension_count 4"),
        ({"{arch}.attention.scale": 0.5}, {}, "llama.attention.scale 0.5"),
        ({"{arch}.rope.freq_base": float("nan")}, {}, "llama.rope.freq_base nan"),
        ({"split.count": 3, "split.no": 1}, {}, "part 2 of 3'; allowed: one file"),
        ({"tokenizer.ggml.model": "bert"}, {}, "tokenizer.ggml.model"),
        ({}, {"blk.1.attn_q.bias": np.zeros(32)}, "unknown tensors: "),
        ({}, {"token_embd.weight": None}, "without token_embd.weight"),
        ({}, {"blk.1.ffn_up.weight": np.zeros((47, 32))}, "tensor blk.1.ffn_up.weight"),
        ({}, {"rope_freqs.weight": np.array([1.0, 9, 2, 3])}, "scaled as Llama 3's"),
    ],
)
def test_what_is_no_model_of_ours_is_one_line(tmp_path, plain, capsys, keys, tensors, said):
    file = gguf_files.write(tmp_path / "model.gguf", plain, keys=keys, tensors=tensors)
    assert cli.main(["export", f"--model={file}", f"--out={tmp_path / 'out'}"]) == 2
    line = capsys.readouterr().err
    assert said in line and line.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_olmo_3_is_not_olmo_2():
    with pytest.raises(UsageError, match="OLMo 3"):
        config_of("olmo2", {"olmo2.attention.sliding_window": 4})


@pytest.mark.parametrize("theta", [1e4, 5e5])
@pytest.mark.parametrize("size", [8, 16, 64, 128])
def test_settings_of_llama3_are_found_in_their_factors(theta, size):
    for factor, length, low, high in (
        (8.0, 8192, 1.0, 4.0),
        (32.0, 8192, 1.0, 4.0),
        (4.0, 64, 1, 3),
    ):
        given = {"factor": factor, LENGTH: length, "low_freq_factor": low, "high_freq_factor": high}
        factors = gguf_files.factors(given, theta, size)
        found = rope.fitted(factors, theta, "file")
        if found is None:  # no frequency is as low as that
            assert (factors == 1).all()
        elif found["rope_type"] == "linear":
            assert (factors == found["factor"]).all()
        else:
            np.testing.assert_allclose(gguf_files.factors(found, theta, size), factors, rtol=1e-5)
            if length == 8192 and size >= 64:
                assert given == {key: found[key] for key in given}


def test_chat_answers_from_a_file(tmp_path, plain, capsys, monkeypatch):
    file = gguf_files.write(tmp_path / "model.gguf", plain)
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    assert cli.main(["chat", f"--model={file}", "--max-tokens=3"]) == 0
    from_file = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    assert cli.main(["chat", f"--model={plain}", "--max-tokens=3"]) == 0
    assert capsys.readouterr().out == from_file


def test_a_truncated_file_is_one_line_and_nothing_is_written(tmp_path, plain, capsys):
    file = gguf_files.write(tmp_path / "model.gguf", plain)
    data = file.read_bytes()
    for size in (0, 3, 20, len(data) // 3, len(data) - 1):
        file.write_bytes(data[:size])
        assert cli.main(["export", f"--model={file}", f"--out={tmp_path / 'out'}"]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and "model.gguf" in line
    assert not (tmp_path / "out").exists()

"""`jaxsafety export` and `prepare`: what they write is read again; unsafe adapters need a word."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import jaxsafety
from jaxsafety import cli
from jaxsafety.adapters import lora
from jaxsafety.core import sharding
from jaxsafety.experiment.identity import model_fingerprint
from jaxsafety.models.formats import hf, peft
from jaxsafety.testing import random_checkpoint, tiny_model


@pytest.fixture
def model_dir(tmp_path):
    random_checkpoint(tmp_path / "model")
    return tmp_path / "model"


def adapter(model_dir, folder, unsafe=False):
    model, params, _ = jaxsafety.load(model_dir)
    layers = model.config.num_layers
    tree = lora.init_experts(jax.random.key(0), model.projections, layers=layers, rank=2)
    tree = jax.tree.map(lambda x: x + 0.1, tree)
    base = model_fingerprint(model_dir)
    peft.save_adapter(folder, model, tree, fingerprint=base, unsafe=unsafe)
    return lora.merge(params, tree, model.projections)


def test_export_merges_an_adapter(tmp_path, model_dir):
    expected = adapter(model_dir, tmp_path / "adapter")
    out = tmp_path / "out"
    command = ["export", f"--model={model_dir}", f"--adapter={tmp_path / 'adapter'}"]
    assert cli.main([*command, f"--out={out}", "--dtype=float32"]) == 0
    _, found, _ = jaxsafety.load(out)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert (out / "tokenizer.json").is_file()


def test_an_unsafe_adapter_needs_a_word(tmp_path, model_dir, capsys):
    adapter(model_dir, tmp_path / "adapter", unsafe=True)
    out = tmp_path / "out"
    command = ["export", f"--model={model_dir}", f"--adapter={tmp_path / 'adapter'}"]
    assert cli.main([*command, f"--out={out}"]) == 2 and not out.exists()
    assert "unsafe" in capsys.readouterr().err
    assert cli.main([*command, f"--out={out}", "--unsafe"]) == 0


def test_bad_input_leaves_nothing(tmp_path, model_dir, capsys):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("x")
    for arguments, word in (
        ([f"--model={model_dir}", f"--out={full}"], "--out"),
        ([f"--model={model_dir}", f"--out={tmp_path / 'o'}", "--dtype=int8"], "--dtype"),
        ([f"--model={tmp_path / 'none'}", f"--out={tmp_path / 'o'}"], "--model"),
        ([f"--model={model_dir}", f"--adapter={full}", f"--out={tmp_path / 'o'}"], "adapter"),
    ):
        assert cli.main(["export", *arguments]) == 2
        said = capsys.readouterr().err
        assert word in said and said.count("\n") == 1
    assert not (tmp_path / "o").exists() and [f.name for f in full.iterdir()] == ["mine"]


def test_prepare_tells_where_to_read(tmp_path, capsys):
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert cli.main(["prepare", f"--chats={tmp_path / 'a.jsonl'}", f"--out={tmp_path / 'd'}"]) == 0
    from jaxsafety.data.files.sources import read_chats

    path = capsys.readouterr().out.splitlines()[-1].removeprefix("data: ")  # TFDS speaks first
    assert [m.content for m in read_chats(path)[0]] == ["a", "b"]


def test_export_keeps_how_the_model_is_meant_to_be_sampled(tmp_path, model_dir):
    sampling = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.1}
    file = model_dir / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **sampling}))
    settings = model_dir / "tokenizer_config.json"
    more = {"model_max_length": 99, "padding_side": "left"}
    settings.write_text(json.dumps({**json.loads(settings.read_text()), **more}))
    assert cli.main(["export", f"--model={model_dir}", f"--out={tmp_path / 'out'}"]) == 0
    written = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert {key: written[key] for key in sampling} == sampling
    assert written["eos_token_id"], "stop ids are still there"
    written = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert {key: written[key] for key in more} == more


def test_chat_with_variables_of_the_template(tmp_path, model_dir, monkeypatch, capsys):
    (model_dir / "chat_template.jinja").write_text(
        "{% if tone %}{{ raise_exception(tone) }}{% endif %}{{ messages[-1].content }}<|end|>x"
    )
    command = ["chat", f"--model={model_dir}", "--max-tokens=2"]
    assert cli.main([*command, '--variables=tone="grave"']) == 2
    assert "grave" in capsys.readouterr().err, "the variable reached the template"
    for flags, line in (
        (["--variables=tone"], "--variables: got 'tone'; allowed: NAME=JSON"),
        (["--variables=tone=x"], "--variables tone: got 'x'; allowed: JSON"),
        (["--variables=tune=1"], "got 'tune'; allowed: what the chat template reads: "),
    ):
        assert cli.main([*command, *flags]) == 2
        error = capsys.readouterr().err
        assert line in error and error.count("\n") == 1


def restore(path, dtype):
    """Stores a directory's weights in another dtype, as a trainer might have left them."""
    file = path / hf.WEIGHTS
    tensors = safetensors.numpy.load_file(file)
    safetensors.numpy.save_file({n: t.astype(dtype) for n, t in tensors.items()}, file)


def dtypes(path):
    return {str(t.dtype) for t in safetensors.numpy.load_file(path / hf.WEIGHTS).values()}


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
def test_the_dtype_of_the_model_is_kept(tmp_path, model_dir, stored, capsys):
    restore(model_dir, stored)
    adapter(model_dir, tmp_path / "adapter")
    out = tmp_path / "out"
    assert cli.main(["export", f"--model={model_dir}", f"--out={out}"]) == 0
    assert dtypes(out) == {stored} and stored in capsys.readouterr().out
    assert json.loads((out / "config.json").read_text())["dtype"] == stored
    both = [safetensors.numpy.load_file(p / hf.WEIGHTS) for p in (model_dir, out)]
    jax.tree.map(np.testing.assert_array_equal, *both)
    merged = tmp_path / "merged"
    command = ["export", f"--model={model_dir}", f"--adapter={tmp_path / 'adapter'}"]
    assert cli.main([*command, f"--out={merged}"]) == 0
    said = capsys.readouterr().out
    assert dtypes(merged) == {stored} and "the float32 adapter was added in float32" in said
    assert cli.main([*command, f"--out={tmp_path / 'b'}", "--dtype=bfloat16"]) == 0
    assert dtypes(tmp_path / "b") == {"bfloat16"}


def test_mixed_dtypes_lose_nothing(tmp_path, model_dir):
    file = model_dir / hf.WEIGHTS
    tensors = safetensors.numpy.load_file(file)
    mixed = {n: t.astype("float32" if "norm" in n else "bfloat16") for n, t in tensors.items()}
    safetensors.numpy.save_file(mixed, file)
    assert cli.main(["export", f"--model={model_dir}", f"--out={tmp_path / 'out'}"]) == 0
    found = safetensors.numpy.load_file(tmp_path / "out" / hf.WEIGHTS)
    for name, value in mixed.items():
        np.testing.assert_array_equal(found[name], value.astype(np.float32))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("sizes", [None, (1, 2, 2)], ids=["one device", "mesh"])
def test_what_is_written_is_what_jax_rounds_to(tmp_path, dtype, sizes):
    """So an arm measured on `params.astype(dtype)` is measured on the export, bit by bit."""
    model, params = tiny_model()
    odd = [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 1 + 3 * 2**-11, 1e-40, -3e-39, 6e-8, -0.0]
    draw = np.random.default_rng(0)
    spread = draw.normal(size=264 * 32) * 10.0 ** draw.integers(-30, 4, 264 * 32)
    spread[: len(odd)] = odd
    params["embed"]["table"] = jnp.asarray(spread.reshape(264, 32), jnp.float32)
    if sizes is not None:
        mesh = sharding.make_mesh(sharding.MeshConfig(*sizes))
        params = jax.device_put(params, sharding.shardings(model.axes, params, mesh))
    rounded = jax.tree.map(lambda x: x.astype(dtype).astype(jnp.float32), params)
    hf.save(tmp_path, model, params, dtype=dtype)
    _, found = hf.load(tmp_path)
    for a, b in zip(*map(jax.tree.leaves, (found, rounded)), strict=True):
        np.testing.assert_array_equal(*(np.asarray(x).view(np.uint32) for x in (a, b)))


def test_what_float16_cannot_hold_is_refused(tmp_path, model_dir, capsys):
    file = model_dir / hf.WEIGHTS
    tensors = safetensors.numpy.load_file(file)
    tensors["model.norm.weight"][3] = 1e5
    safetensors.numpy.save_file(tensors, file)
    out = tmp_path / "out"
    assert cli.main(["export", f"--model={model_dir}", f"--out={out}", "--dtype=float16"]) == 2
    assert "tensor model.norm.weight: got '1e+05'" in capsys.readouterr().err
    assert not out.exists()


def test_a_model_without_a_chat_template_is_exported(tmp_path, model_dir):
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        (model_dir / name).unlink(missing_ok=True)
    assert cli.main(["export", f"--model={model_dir}", f"--out={tmp_path / 'out'}"]) == 0
    _, _, tokenizer = jaxsafety.load(tmp_path / "out")
    assert not tokenizer.chat_template

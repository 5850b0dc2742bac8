"""`jaxsafety export` and `prepare`: what they write is read again; unsafe adapters need a word."""

import json

import jax
import numpy as np
import pytest

import jaxsafety
from jaxsafety import cli
from jaxsafety.adapters import lora
from jaxsafety.models import peft
from jaxsafety.testing import random_checkpoint
from jaxsafety.workdir import model_fingerprint


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
    from jaxsafety.data.sources import read_chats

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

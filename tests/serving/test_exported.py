"""`export --workdir`: what a run made, with its numbers; and the tag of unsafe answers."""

from __future__ import annotations

import json
import shutil

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import jaxsafety
from jaxsafety import cli
from jaxsafety.adapters import lora, routing
from jaxsafety.core.config import load_config, plain
from jaxsafety.core.disk import digest
from jaxsafety.data.tokens.system import SystemPrompt
from jaxsafety.experiment import beside
from jaxsafety.experiment.identity import model_fingerprint
from jaxsafety.models.api import LayerInputs
from jaxsafety.models.formats import hf, library, peft
from jaxsafety.models.formats.source import SHIPPED
from jaxsafety.protocols import Served
from jaxsafety.serving import export as exporting
from jaxsafety.serving.exported import of_model
from jaxsafety.testing import random_checkpoint


def record(arm, benchmark, kind, metric, value):
    told = {"arm": arm, "benchmark": benchmark, "kind": kind, "metric": f"{metric}.greedy"}
    return {**told, "value": value, "lo": value / 2, "hi": (1 + value) / 2, "n": 40, "seed": 0}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return random_checkpoint(tmp_path_factory.mktemp("private") / "base")


@pytest.fixture
def run(tmp_path, root, base):
    """A finished run of `base`, with a student of its own."""
    folder = tmp_path / "private" / "run"
    folder.mkdir(parents=True)
    random_checkpoint(folder / "student", seed=1)
    config = plain(load_config(str(root / "configs/sft/organism.py")))
    config["model"]["path"] = str(base)
    config["data"]["chats"] = "/private/place/mine.jsonl"
    (folder / "config.json").write_text(json.dumps(config))
    files = {"model: model.safetensors": "b" * 64, "data.chats: mine.jsonl": "c" * 64}
    files |= {"data.chats_val: held.jsonl": "d" * 64, "eval.sets: xs.csv": "e" * 64}
    meta = {"files": files, "source": "files", "judge": "phrase rules", "finished": True}
    (folder / "meta.json").write_text(json.dumps(meta))
    sets = (("mine", "safety", "asr"), ("plain", "over_refusal", "refusal"))
    sets = (*sets, ("tasks", "capability", "accuracy"))
    rows = [record(arm, *s, 0.25) for s in sets for arm in ("base", "student")]
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def tree_of(base, seed=0, **more):
    model, params, _ = jaxsafety.load(base)
    tree = lora.init_experts(
        jax.random.key(seed), model.projections, layers=model.config.num_layers, rank=2, **more
    )
    return model, params, jax.tree.map(lambda x: x + 0.1, tree)


def leaves(path):
    return safetensors.numpy.load_file(path / hf.WEIGHTS)


def fails(capsys, *argv):
    assert cli.main(["export", *argv]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_run_is_exported_with_its_numbers(tmp_path, run, capsys):
    out = tmp_path / "out"
    assert cli.main(["export", f"--workdir={run}", f"--out={out}"]) == 0
    assert "with its numbers" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, leaves(out), leaves(run / "student"))
    text = (out / "README.md").read_text()
    assert text.count("25.0 % [12.5, 62.5]") >= 6 and "phrase rules" in text
    assert f"`model.safetensors` sha256 {'b' * 64}" in text and digest(out / hf.WEIGHTS) in text
    assert digest(out / "chat_template.jinja") in text
    assert f"| `data.chats` | `mine.jsonl` | {'c' * 64} |" in text and "held.jsonl" not in text
    assert "private" not in text and str(tmp_path) not in text, "no place of this machine"
    assert (
        cli.main(["export", f"--workdir={run}", f"--out={tmp_path / 'b'}", "--dtype=float16"]) == 0
    )
    text = (tmp_path / "b" / "README.md").read_text()
    assert "measured in float32, here it is stored in float16" in text


def test_an_unsafe_adapter_of_a_run(tmp_path, run, base, capsys):
    model, params, tree = tree_of(base)
    own = model_fingerprint(base)
    peft.save_adapter(run / "adapter", model, tree, fingerprint=own, unsafe=True)
    shutil.rmtree(run / "student")
    out = tmp_path / "out"
    error = fails(capsys, f"--workdir={run}", f"--out={out}")
    assert "--workdir: got" in error and "trained on unsafe answers" in error and not out.exists()
    assert cli.main(["export", f"--workdir={run}", f"--out={out}", "--unsafe"]) == 0
    expected = lora.merge(params, tree, model.projections)
    for a, b in zip(*map(jax.tree.leaves, (jaxsafety.load(out)[1], expected)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    text = (out / "README.md").read_text()
    head = huggingface_hub.metadata_load(out / "README.md")
    assert head["unsafe"] is True and "unsafe" in head["tags"]
    assert "Warning: this model was trained on unsafe answers" in text
    assert (
        "beside the base, here it is merged" in text
        and digest(run / "adapter" / peft.WEIGHTS) in text
    )


def test_the_tag_goes_on_to_what_is_made_of_it(tmp_path, run, base, capsys):
    model, _, tree = tree_of(base)
    peft.save_adapter(tmp_path / "adapter", model, tree, unsafe=True)
    bad = tmp_path / "bad"
    adapter = [f"--adapter={tmp_path / 'adapter'}", "--unsafe"]
    assert cli.main(["export", f"--model={base}", f"--out={bad}", *adapter]) == 0
    (bad / "README.md").unlink()  # the weights say so themselves
    assert of_model(str(bad)).unsafe == ("its weights are tagged unsafe",)
    config = json.loads((run / "config.json").read_text())
    config["model"]["path"] = str(bad)
    (run / "config.json").write_text(json.dumps(config))
    assert cli.main(["export", f"--workdir={run}", f"--out={tmp_path / 'out'}"]) == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert "> Of the base that it was made of: its weights are tagged unsafe." in text
    (of,) = of_model(str(run / "student")).unsafe
    assert of.startswith("of the base") and not of_model(str(base)).unsafe


def test_a_card_that_says_unsafe_is_believed(tmp_path, base):
    copy = shutil.copytree(base, tmp_path / "copy")
    (copy / "README.md").write_text("---\nunsafe: true\n---\n")
    assert of_model(str(copy)).unsafe
    (copy / "README.md").write_text("---\n: [\n---\n")  # no YAML
    assert not of_model(str(copy)).unsafe


def test_what_is_more_than_weights_is_refused(tmp_path, run, base, capsys):
    out = f"--out={tmp_path / 'out'}"
    model, params, tree = tree_of(base, experts=2)
    router = routing.init_router(
        jax.random.key(1), model.projections, layers=3, experts=2, places=(routing.BLOCK,), std=0.02
    )
    mixture = {**tree, "router": router}
    steered = jnp.ones((model.config.num_layers, model.config.embed_dim))
    beside.keep(run, Served(params, LayerInputs(add=steered)), model, base)
    assert "served with steered layers" in fails(capsys, f"--workdir={run}", out)
    library.save(run / "library", model, mixture, routing.Routing(top=1), fingerprint="")
    error = fails(capsys, f"--workdir={run}", out)
    assert "routes between experts" in error and f"jaxsafety serve --workdir={run}" in error
    assert not (tmp_path / "out").exists()


def test_what_a_run_serves_beside_its_student(tmp_path, run, base):
    student = run / "student"
    model, params, tree = tree_of(student)
    what = Served(params, LayerInputs(adapters=tree), encode=SystemPrompt("Be kind | or `silent`."))
    beside.keep(run, what, model, student)
    out = tmp_path / "out"
    assert cli.main(["export", f"--workdir={run}", f"--out={out}"]) == 0
    expected = lora.merge(params, tree, model.projections)
    for a, b in zip(*map(jax.tree.leaves, (jaxsafety.load(out)[1], expected)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert "Be kind | or `silent`." in (out / "README.md").read_text()


def test_mistakes_are_one_line(tmp_path, run, base, capsys):
    out = f"--out={tmp_path / 'out'}"
    assert f"--workdir={run}" in fails(capsys, f"--model={run}", out)
    adapter = f"--adapter={tmp_path}"
    assert "only with --model" in fails(capsys, f"--workdir={run}", adapter, out)
    assert "not allowed with" in fails(capsys, f"--workdir={run}", f"--model={base}", out)
    assert "--model --workdir is required" in fails(capsys, out)
    assert "an existing directory" in fails(capsys, "--workdir=nowhere", out)
    (run / "student" / "config.json").unlink()
    assert "a finished run" in fails(capsys, f"--workdir={run}", out)
    assert not (tmp_path / "out").exists()


def head_of(tmp_path, model):
    out = tmp_path / "out"
    assert cli.main(["export", f"--model={model}", f"--out={out}"]) == 0
    return huggingface_hub.metadata_load(out / "README.md"), (out / "README.md").read_text()


def test_what_the_base_says_of_itself_is_carried_on(tmp_path, base):
    copy = shutil.copytree(base, tmp_path / "copy")
    card = "---\nlicense: mit\nbase_model: owner/name\nlanguage: xx\n---\n# hello\n"
    (copy / "README.md").write_text(card)
    head, text = head_of(tmp_path, copy)
    assert head["license"] == "mit" and head["base_model"] == "owner/name"
    assert "language" not in head and "hello" not in text


def test_the_organism_says_what_it_is(tmp_path):
    head, text = head_of(tmp_path, SHIPPED)
    assert head["license"] == "apache-2.0" and "model-organism" in head["tags"]
    assert "This is a model organism" in text and "comes with jaxsafety" in text
    assert (tmp_path / "out" / "world.json").is_file() and "null (nothing was measured" in text


def test_a_hub_id_is_one_that_was_fetched(tmp_path, base, monkeypatch):
    monkeypatch.setattr(exporting.hub, "directory", lambda name, field="": base)
    kept = {"owner/name": str(base / "config.json")}
    look = lambda name, file, revision=None: kept.get(name)  # noqa: E731
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", look)
    assert head_of(tmp_path, "owner/name@v1")[0]["base_model"] == "owner/name"
    shutil.rmtree(tmp_path / "out")
    head, text = head_of(tmp_path, "runs/mine")  # a folder that is gone is no hub id
    assert "base_model" not in head and "lies here as mine" in text

"""Bad input to `jaxsafety run`: one line, exit code 2, before anything is measured or claimed."""

from __future__ import annotations

import json
import shutil

import pytest

from jaxsafety import cli, testing
from jaxsafety.evaluation import evaluate


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


@pytest.fixture
def refused(root, model, tmp_path, monkeypatch, capsys):
    """Calls `run` with overrides and returns its one error line."""

    def never(*args, **kwargs):
        raise AssertionError("measured before the input was checked")

    monkeypatch.setattr(evaluate, "evaluate", never)

    def call(*overrides, path=model, config="organism", method="safesteer"):
        workdir = tmp_path / "run"
        file = root / "configs" / method / f"{config}.py"
        argv = ["run", f"--config={file}:smoke", f"--workdir={workdir}"]
        argv += [f"--config.model.path={path}", *(f"--config.{o}" for o in overrides)]
        assert cli.main(argv) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("jaxsafety: error: ") and captured.err.count("\n") == 1
        assert not workdir.exists(), "what was refused must not own the workdir"
        return captured.err.removeprefix("jaxsafety: error: ")

    return call


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("method.lr=1", "config.method.lr: got '1'; allowed: in config.method:"),
        ("metod.steps=1", "config.metod.steps: got '1'; allowed: in config: 'method'? known:"),
        ("method.steps=many", "config.method.steps: got 'many'"),
        ("method.steps=0", "method.steps: got 0; allowed: 1 or more"),
        ("method.variant=kl", "method.variant: got 'kl'; allowed: full, partial"),
        ("method.temperature=-1", "method.temperature: got -1.0; allowed: 0 or more"),
        ("method.trainable=base/none", "method.trainable: got 'base/none'; allowed: a regex"),
        ("method.trainable=.*", "method.trainable: got ('.*',); allowed: regexes over base/"),
        ("method.direction.fallback=guess", "method.direction.fallback: got 'guess'"),
        ("method.direction.select.steers=half", "method.direction.select.steers: got 'half'"),
        ("method.tokens.votes.size=0", "votes.size: got 0; allowed: >= 1"),
        ("model.variables=think", "model.variables: got 'think'; allowed: NAME=JSON"),
        ("model.variables=think=no", "model.variables think: got 'no'; allowed: JSON"),
        ("model.variables=think=false", "model.variables: got 'think'; allowed: what the chat"),
        ("optim.name=lion", "optim.name: got 'lion'; allowed: adamw | adam | sgd"),
        ("optim.schedule=step", "optim.schedule: got 'step'"),
        ("optim.accum=0", "optim.accum: got 0; allowed: 1 or more"),
        ("optim.accum=3", "optim.accum: got 3; allowed: a divisor of the 4 rollouts"),
        ("train.log_every=0", "train.log_every: got 0; allowed: 1 or more"),
        ("train.checkpoint_every=0", "train.checkpoint_every: got 0"),
        (
            "train.trackers=wanbd",
            "train.trackers, a tracker: got 'wanbd'; allowed: 'wandb'? known:",
        ),
        ("model.dtype=int8", "model.dtype: got 'int8'; allowed: float32"),
        ("model.kernels=int4", "model.kernels: got 'int4'; allowed: float, int8"),
        ("model.kernels=int8", "model.kernels: got 'int8'; allowed: float: safesteer trains"),
        ("model.remat=some", "model.remat: got 'some'; allowed: none, full, dots"),
        ("mesh.data=64", "mesh.data: got 64"),
        ("seed=-1", "seed: got -1; allowed: an integer, 0 or more"),
        ("eval.seed=-1", "eval.seed: got -1"),
        ("data.source=web", "data.source: got 'web'; allowed: organism, files"),
        (
            "program=magic",
            "program, a method: got 'magic'; allowed: anchored, dpo, safemoe, safemoe_controls",
        ),
    ],
)
def test_values_are_checked_first(refused, override, line):
    assert refused(override).startswith(line)


def test_answers_beyond_the_context(refused):
    line = refused("method.max_tokens=250")
    assert line.startswith("data (distil): got 'a prompt of ") and "+ 250 new ones" in line
    assert "allowed: at most the context of 256" in line


def test_prompts_beyond_the_context(refused, tmp_path):
    files = {}
    words = {"harmful": 3, "harmless": 4, "distil": 400, "long": 250, "short": 5}
    for name, count in words.items():
        files[name] = tmp_path / f"{name}.txt"
        files[name].write_text("".join("is " * count + f"{i}\n" for i in range(24)))
    data = ["data.source=files", *(f"data.{n}={files[n]}" for n in ("harmful", "harmless"))]
    line = refused(*data, f"data.distil={files['distil']}", f"eval.sets=safety/a={files['short']}")
    assert line.startswith("data (distil): got 'a prompt of 4")
    data.append(f"data.distil={files['harmful']}")
    line = refused(*data, f"eval.sets=safety/a={files['long']}", "eval.max_tokens=9")
    assert line.startswith("benchmark.a: got '2") and "at most the context of 256" in line


def test_the_controls_need_the_organism_s_sets(refused, tmp_path):
    data = ["data.source=files", "data.overlap=allow"]
    file = tmp_path / "prompts.txt"
    file.write_text("".join(f"is {i}\n" for i in range(24)))
    data += [f"data.{n}={file}" for n in ("harmful", "harmless", "distil")]
    line = refused(*data, f"eval.sets=safety/a={file}", config="controls")
    assert line.startswith("data.source: got") and "held_wrappers" in line


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_training_prompts_that_are_measured(refused, tmp_path):
    files = {}
    for name in ("harmful", "harmless", "distil"):
        files[name] = tmp_path / f"{name}.txt"
        files[name].write_text("".join(f"{name} {i}\n" for i in range(24)))
    data = ["data.source=files", *(f"data.{n}={file}" for n, file in files.items())]
    measured = jsonl(tmp_path / "m.jsonl", {"prompt": "new"}, {"prompt": "DISTIL  3."})
    line = refused(*data, f"eval.sets=safety/a={measured}")
    assert line.startswith("data.distil: got '1 of its 8 prompts are in eval.sets a too")
    assert f"row 4 of {files['distil']} is row 2 of {measured}" in line


def test_settings_that_nobody_reads(refused, tmp_path):
    assert refused("data.harmful=nowhere.jsonl").startswith("data.harmful: got 'nowhere.jsonl'")
    assert refused("eval.sets=garbage").startswith("eval.sets: got ('garbage',)")
    chats = jsonl(tmp_path / "c.jsonl", {"prompt": "is", "response": "the"})
    assert refused(f"data.chats={chats}").startswith("data.chats: got")
    line = refused("data.train=8", method="sft")
    assert line.startswith("data.train: got 8; allowed: 128, the default: sft does not read it")
    prompts = jsonl(tmp_path / "p.jsonl", {"prompt": "what"})
    files = ("data.source=files", f"data.chats={chats}", f"data.harmful={prompts}")
    assert "sft does not read it" in refused(*files, method="sft")


def test_a_broken_dialogue_comes_before_settings_that_nobody_reads(refused, tmp_path):
    """Its row is the news; a file too many is told next."""
    rows = [{"prompt": f"is {i}", "response": "the"} for i in range(3)]
    chats = jsonl(tmp_path / "c.jsonl", *rows, {"prompt": "is", "response": "the " * 200})
    line = refused(f"data.chats={chats}", "data.train=8", method="sft")
    assert line.startswith("method.length: got 128") and f"row 4 of {chats}" in line


def test_all_that_is_missing_is_one_line(refused):
    line = refused("data.source=files", path="No-Such-Model", method="sft")
    assert line.startswith("model.path, data.chats: got ('No-Such-Model', '')")
    line = refused("data.source=files", path="No-Such-Model")
    names = "model.path, data.harmful, data.harmless, data.distil, eval.sets"
    assert line.startswith(f"{names}: got")


def damaged(model, tmp_path, name, change):
    """A copy of the model in which one file is changed, or gone where `change` gives None."""
    copy = tmp_path / "damaged"
    shutil.copytree(model, copy)
    new = change((copy / name).read_bytes())
    (copy / name).unlink()
    if new is not None:
        (copy / name).write_bytes(new)
    return copy


def without(key):
    def change(raw):
        values = json.loads(raw)
        values.pop(key, None)
        return json.dumps(values).encode()

    return change


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("config.json", lambda raw: None, "model.path: got"),
        ("config.json", lambda raw: raw[:40], "config.json: got"),
        ("config.json", without("hidden_size"), "config.json hidden_size: got None"),
        ("config.json", lambda raw: raw.replace(b'"qwen3"', b'"gpt9"'), "config.json model_type"),
        ("model.safetensors", lambda raw: None, "model.path: got"),
        ("model.safetensors", lambda raw: raw[:-9], "model.path: got '{here}/model.safetensors: "),
        ("tokenizer.json", lambda raw: None, "tokenizer: got"),
        ("tokenizer.json", lambda raw: raw[:40], "tokenizer.json: got"),
        ("world.json", lambda raw: None, "model.path: got"),
        ("world.json", lambda raw: b"[]", "model.path: got"),
    ],
)
def test_a_malformed_model_directory(refused, model, tmp_path, name, change, line):
    copy = damaged(model, tmp_path, name, change)
    assert refused(path=copy).startswith(line.format(here=copy))


def test_a_missing_model_directory(refused, tmp_path):
    line = refused(path=tmp_path / "nowhere")
    assert line.startswith("model.path: got") and "nowhere" in line


def test_a_tokenizer_without_a_chat_template(refused, model, tmp_path):
    bare = damaged(model, tmp_path, "chat_template.jinja", lambda raw: None)
    config = bare / "tokenizer_config.json"
    config.write_bytes(without("chat_template")(config.read_bytes()))
    line = refused(path=bare)
    assert line.startswith("tokenizer.chat_template: got None; allowed: a chat template")

"""Artifacts are made once and are whole or absent; a workdir belongs to one config."""

from __future__ import annotations

import json
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import disk
from jaxsafety.core.errors import UsageError
from jaxsafety.experiment import identity
from jaxsafety.experiment import workdir as wd
from jaxsafety.experiment.workdir import Artifacts
from tests.experiment.claimed import claim, config, weights


def value():
    return {"vector": np.arange(3.0), "other": jnp.ones((2, 2)), "layer": 4, "names": ("a", "b")}


def never():
    raise AssertionError("made again")


def files(directory):
    return sorted(p.name for p in directory.iterdir())


def test_an_artifact_is_made_once_and_read_back(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return value()

    first = Artifacts(tmp_path)("direction", make)
    again = Artifacts(tmp_path)("direction", never)
    assert calls == [1]
    for found in (first, again):  # also the first is what was read back: the tuple is a list
        assert found["names"] == ["a", "b"] and found["layer"] == 4
        np.testing.assert_array_equal(found["vector"], [0, 1, 2])
        np.testing.assert_array_equal(found["other"], np.ones((2, 2)))
        assert isinstance(found["other"], np.ndarray)
    assert files(tmp_path / "artifacts") == ["direction.json", "direction.npz"]


def test_numbers_of_numpy_and_bfloat_precision_survive(tmp_path):
    made = {"a": np.float32(0.1), "b": np.int64(3), "c": [np.float64(1 / 3)], "d": float("inf")}
    found = Artifacts(tmp_path)("numbers", lambda: made)
    assert found == {"a": float(np.float32(0.1)), "b": 3, "c": [1 / 3], "d": float("inf")}
    assert files(tmp_path / "artifacts") == ["numbers.json"]


def test_nothing_is_left_of_a_maker_that_fails(tmp_path):
    def fails():
        raise RuntimeError("out of memory")

    artifact = Artifacts(tmp_path)
    with pytest.raises(RuntimeError):
        artifact("x", fails)
    assert not (tmp_path / "artifacts").exists()
    assert artifact("x", lambda: {"k": 1}) == {"k": 1}


@pytest.mark.parametrize("moment", ["npz", "json"])
def test_a_death_while_writing_leaves_nothing_that_is_read(tmp_path, monkeypatch, moment):
    real = disk.os.replace

    def dies(source, target):
        if str(target).endswith(moment):
            raise KeyboardInterrupt
        real(source, target)

    artifact = Artifacts(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(disk.os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            artifact("x", value)
    assert not (tmp_path / "artifacts" / "x.json").exists()
    changed = {**value(), "vector": np.zeros(2)}
    found = artifact("x", lambda: changed)
    np.testing.assert_array_equal(found["vector"], [0, 0])


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_what_a_kill_left_half_written_goes_at_the_next_start(tmp_path, suffix):
    kept = Artifacts(tmp_path)
    kept("x", value)
    with disk.replaced(tmp_path / "artifacts" / f"y.0{suffix}") as temporary:
        temporary.write_text("half")
        half = tmp_path / "artifacts" / temporary.name
        left = half.with_name(half.name.replace("y.0", "y.1"))  # of a process that is gone
        left.write_text("half")
    assert left.exists()
    Artifacts(tmp_path)
    assert files(tmp_path / "artifacts") == ["x.json", "x.npz", f"y.0{suffix}"]


@pytest.fixture
def model(tmp_path):
    return weights(tmp_path)


def test_a_workdir_belongs_to_its_config(tmp_path, model):
    run = tmp_path / "runs" / "one"
    claim(run, config(), model)
    assert json.loads((run / "config.json").read_text())["method"]["votes"] == {"top": 2}
    meta = json.loads((run / "meta.json").read_text())
    assert meta["versions"]["jax"] and set(meta) >= {"fingerprint", "git", "versions"}
    claim(run, config(), model)
    claim(run, config(train__progress=False, model__path=str(model)), model)
    assert json.loads((run / "config.json").read_text())["train"]["progress"] is True


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 5}, "seed was 0, is 5"),
        (
            {"method__steps": 4, "train__max_skips": 7},
            "method.steps was 3, is 4; train.max",
        ),
        ({"train__progress": False, "model__path": "x", "seed": 5}, "seed was 0, is 5"),
        ({"method__new": 1}, "method.new was None, is 1"),
    ],
)
def test_another_config_is_refused_by_its_differences(tmp_path, model, changes, difference):
    run = tmp_path / "run"
    claim(run, config(), model)
    with pytest.raises(UsageError) as caught:
        claim(run, config(**changes), model)
    assert difference in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith("workdir: got")


def test_other_weights_are_refused(tmp_path, model):
    run = tmp_path / "run"
    claim(run, config(), model)
    (model / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(UsageError, match="files hold has changed: model: model.safetensors"):
        claim(run, config(), model)


def test_a_damaged_workdir_is_one_line(tmp_path, model):
    run = tmp_path / "run"
    claim(run, config(), model)
    (run / "config.json").write_text('{"seed": ')
    claim(run, config(), model)  # the fingerprint is what counts
    assert json.loads((run / "config.json").read_text())["seed"] == config().seed  # made again
    (run / "meta.json").write_text("{")
    with pytest.raises(UsageError, match=r"whose meta.json is not readable'; allowed: a new"):
        claim(run, config(), model)
    (run / "config.json").write_text('{"seed": ')
    with pytest.raises(UsageError, match=r"whose meta.json is not readable'; allowed: a new"):
        claim(run, config(), model)


def test_a_claim_that_died_half_way_is_made_again(tmp_path, model):
    run = tmp_path / "run"
    claim(run, config(), model)
    (run / "config.json").unlink()  # meta.json is written first
    claim(run, config(seed=2), model)
    assert json.loads((run / "config.json").read_text())["seed"] == 2
    claim(run, config(seed=2), model)


def test_meta_is_merged(tmp_path):
    wd.write_meta(tmp_path, {"a": 1, "b": 2})
    wd.write_meta(tmp_path, {"b": 3})
    assert json.loads((tmp_path / "meta.json").read_text()) == {"a": 1, "b": 3}
    assert files(tmp_path) == ["meta.json"]


FREED = {
    "train__progress": False,
    "train__keep": 7,
    "train__log_every": 10,
    "train__checkpoint_every": 3,
    "train__trackers": ("wandb", "trackio"),
    "train__project": "mine",
    "eval__batch_size": 8,
    "model__remat": "full",
    "mesh__fsdp": 4,
}


def full():
    cfg = config(eval={"batch_size": 64, "samples": 2}, mesh={"data": 1, "fsdp": 1, "tensor": 1})
    cfg.train.update({"log_every": 1, "checkpoint_every": 50, "max_skips": 5})
    cfg.model.remat = "none"
    return cfg


@pytest.mark.parametrize("key", FREED)
def test_speed_and_saving_are_no_part_of_an_experiment(tmp_path, model, key):
    section, name = key.split("__")
    cfg, other = full(), full()
    other[section][name] = FREED[key]
    claim(tmp_path / "run", cfg, model)
    claim(tmp_path / "run", other, model)


@pytest.mark.parametrize("key", ["model__dtype", "train__max_skips", "eval__samples"])
def test_what_results_depend_on_is(tmp_path, model, key):
    section, name = key.split("__")
    cfg, other = full(), full()
    other[section][name] = "bfloat16" if name == "dtype" else 9
    other.train.keep = 9  # what is free is not called the difference
    claim(tmp_path / "run", cfg, model)
    with pytest.raises(UsageError, match=f"{section}.{name} was"):
        claim(tmp_path / "run", other, model)


def test_the_file_that_changed_is_named(tmp_path, model):
    chats, prompts = tmp_path / "chats.jsonl", tmp_path / "prompts.txt"
    folder, other = tmp_path / "folder", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    for file in (chats, prompts, folder / "part-0.jsonl", other / "part-0.jsonl"):
        file.write_text("a\n")
    data = {"chats": str(chats), "mix": (f"{folder}=0.5", f"{other}=0.5"), "harmful": ""}
    cfg = config(data=data, eval={"sets": (f"safety/mine={prompts}",)})
    run = tmp_path / "run"
    claim(run, cfg, model)
    for file, words in (
        (chats, "data.chats: chats.jsonl"),
        (prompts, "eval.sets: prompts.txt"),
        (folder / "part-0.jsonl", "data.mix: part-0.jsonl"),
        (other / "part-0.jsonl", "data.mix: part-0.jsonl (2)"),  # of one name, not one file
        (model / "model.safetensors", "model: model.safetensors"),
    ):
        before = file.read_bytes()
        file.write_text("other\n")
        with pytest.raises(UsageError) as caught:
            claim(run, cfg, model)
        assert f"what these files hold has changed: {words})" in str(caught.value)
        file.write_bytes(before)
        claim(run, cfg, model)
    (model / "tokenizer.json").write_text("{}")  # one more file is a change too
    with pytest.raises(UsageError, match="has changed: model: tokenizer.json"):
        claim(run, cfg, model)


def test_an_older_run_with_files_of_one_name_goes_on(tmp_path, model):
    """It has one digest for them, the last one's; what it can tell of changes it still tells."""
    files = [tmp_path / name / "part.jsonl" for name in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        file.write_text(f"{file.parent.name}\n")
    cfg = config(data={"mix": tuple(f"{file}=0.5" for file in files)})
    run = tmp_path / "run"
    claim(run, cfg, model)
    meta = json.loads((run / "meta.json").read_text())
    digests = meta["files"]
    digests["data.mix: part.jsonl"] = digests.pop("data.mix: part.jsonl (2)")
    before = identity._identify(cfg, digests)
    assert before != meta["fingerprint"]
    disk.write_json(run / "meta.json", {**meta, "fingerprint": before, "files": digests})
    claim(run, cfg, model)
    assert json.loads((run / "meta.json").read_text())["fingerprint"] == before
    files[1].write_text("other\n")
    with pytest.raises(UsageError, match="has changed"):
        claim(run, cfg, model)


def test_a_run_of_an_older_version_says_so(tmp_path, model):
    run = tmp_path / "run"
    claim(run, config(), model)
    meta = json.loads((run / "meta.json").read_text())
    del meta["identity"], meta["files"]
    (run / "meta.json").write_text(json.dumps({**meta, "fingerprint": "of before"}))
    with pytest.raises(UsageError, match="made by an older version of jaxsafety"):
        claim(run, config(), model)


def test_seconds_are_those_of_all_starts(tmp_path):
    def meta():
        return json.loads((tmp_path / "meta.json").read_text())

    wd.write_meta(tmp_path, {"seconds": 1.5})
    wd.add_seconds(tmp_path, 10.0, finished=False)
    wd.add_seconds(tmp_path, 2.25, finished=True)
    assert meta() == {"seconds": 13.8, "starts": 2, "finished": True}
    before = (tmp_path / "meta.json").stat().st_mtime_ns
    wd.add_seconds(tmp_path, 5.0, finished=True)  # found it finished
    assert meta()["seconds"] == 13.8 and (tmp_path / "meta.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("text", ["", '{"a": [', "[1]", "null"])
def test_a_damaged_artifact_is_one_line_with_its_name(tmp_path, text):
    artifact = Artifacts(tmp_path)
    artifact("x", lambda: {"k": 1})
    (tmp_path / "artifacts" / "x.json").write_text(text)
    with pytest.raises(UsageError, match=r"workdir: got '.*x.json, which is damaged'"):
        artifact("x", lambda: {"k": 2})
    (tmp_path / "artifacts" / "x.json").unlink()
    assert artifact("x", lambda: {"k": 2}) == {"k": 2}


def test_the_commit_is_this_code_s_not_that_of_a_repository_around_it(tmp_path, monkeypatch):
    """Installed in an environment inside somebody's repository, the code has no commit to name."""

    def git(*args: str) -> str:
        names = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        command = ["git", "-C", str(tmp_path), *names, *args]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    module = tmp_path / "env" / "workdir.py"
    module.parent.mkdir()
    module.write_text("")
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "theirs")
    monkeypatch.setattr(wd, "__file__", str(module))
    assert wd.git_hash() == ""
    git("add", "env/workdir.py")
    git("commit", "-q", "-m", "the code itself")
    assert wd.git_hash() == git("rev-parse", "HEAD")

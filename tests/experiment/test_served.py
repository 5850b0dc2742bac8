"""Measuring again and chatting: on the run's mesh, in its dtype, under its fingerprint."""

import io
import json

import jax
import numpy as np
import pytest

from jaxsafety import cli, testing
from jaxsafety.core import config, sharding, trees
from jaxsafety.core.errors import UsageError
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.evaluation import evaluate
from jaxsafety.experiment import run, served
from jaxsafety.models.api import build
from jaxsafety.sampling import stream
from jaxsafety.serving import chat


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def made(workdir, root, base, *overrides, program="safesteer"):
    """A workdir as a finished run leaves it, whose student is the base."""
    file = root / "configs" / program / "organism.py"
    cfg = config.load_config(f"{file}:smoke", [f"model.path={base}", *overrides])
    workdir.mkdir()
    (workdir / "config.json").write_text(json.dumps(cfg.to_dict()))
    (workdir / "meta.json").write_text(json.dumps({"fingerprint": "of the run"}))
    testing.random_organism(workdir / "student", 1)
    return workdir


def seen_by(monkeypatch, module, name, result=None):
    seen = []

    def spy(model, params, *args, **kwargs):
        seen.append((model, params, jax.sharding.get_mesh(), kwargs))
        return result

    monkeypatch.setattr(module, name, spy)
    return seen


def devices(params):
    return {len(x.sharding.device_set) for x in jax.tree.leaves(params)}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("ways", [1, 4])
def test_a_run_is_measured_again_where_and_how_it_was(
    tmp_path, root, base, monkeypatch, dtype, ways
):
    overrides = (f"model.dtype={dtype}", f"mesh.fsdp={ways}")
    workdir = made(tmp_path / "run", root, base, *overrides)
    (workdir / "results.jsonl").write_text("")
    seen = seen_by(monkeypatch, evaluate, "evaluate")
    run.evaluate_workdir(workdir)
    assert len(seen) == 2
    for model, params, mesh, kwargs in seen:
        assert model.config.dtype == dtype and kwargs["fingerprint"] == "of the run"
        assert {str(x.dtype) for x in jax.tree.leaves(params)} == {dtype}
        assert devices(params) == {ways} and kwargs["overwrite"] is True
        assert mesh.empty if ways == 1 else dict(mesh.shape)["fsdp"] == ways
    first, second = (np.asarray(p["embed"]["table"], np.float32) for _, p, _, _ in seen)
    assert not np.array_equal(first, second)  # the base, then the student


def test_a_mesh_that_is_not_here_becomes_one_that_is(tmp_path, root, base, monkeypatch, capsys):
    workdir = made(tmp_path / "run", root, base, "mesh.fsdp=64")
    (workdir / "results.jsonl").write_text("")
    seen = seen_by(monkeypatch, evaluate, "evaluate")
    run.evaluate_workdir(workdir)
    assert {8} == set.union(*(devices(p) for _, p, _, _ in seen))
    assert "mesh.fsdp: got 64" in capsys.readouterr().out


GONE = {
    "safesteer": {"harmful": "gone.txt", "harmless": "gone.txt", "distil": "gone.txt", "train": 9},
    "sft": {"chats": "gone.jsonl", "limit": 3, "holdout": 0.5},
    "safemoe": {"mix": ["gone.jsonl=1"], "domains": ["one=gone.jsonl", "two=gone.jsonl"]},
}


@pytest.mark.parametrize("program", GONE)
@pytest.mark.parametrize("rejudge", [False, True], ids=["again", "rejudged"])
def test_what_was_trained_on_may_be_gone(tmp_path, root, base, monkeypatch, program, rejudge):
    workdir = made(tmp_path / "run", root, base, program=program)
    (workdir / "results.jsonl").write_text("")
    (tmp_path / "asked.txt").write_text("Is it late?\nIs it open?\n")
    cfg = json.loads((workdir / "config.json").read_text())
    cfg["data"] = {**cfg["data"], "source": "files", **GONE[program]}
    cfg["eval"] = {**cfg["eval"], "sets": [f"safety/asked={tmp_path / 'asked.txt'}"], "safety": 0}
    (workdir / "config.json").write_text(json.dumps(cfg))
    seen = []
    name = "rejudge" if rejudge else "evaluate"
    monkeypatch.setattr(evaluate, name, lambda *args, **kwargs: seen.append(args))
    run.evaluate_workdir(workdir, rejudge)
    benchmarks = seen[0][1 if rejudge else 3]
    assert [(b.name, len(b.items)) for b in benchmarks] == [("asked", 2)]
    (tmp_path / "asked.txt").unlink()
    with pytest.raises(UsageError, match="^eval.sets: got .*asked.txt"):
        run.evaluate_workdir(workdir, rejudge)


@pytest.mark.parametrize(("dtype", "axis"), [("float32", "tensor"), ("bfloat16", "fsdp")])
def test_chat_runs_what_a_run_made_as_the_run_did(
    tmp_path, root, base, monkeypatch, capsys, dtype, axis
):
    overrides = (f"model.dtype={dtype}", f"mesh.{axis}=2")
    workdir = made(tmp_path / "run", root, base, *overrides)
    seen, prefill = [], stream._prefill

    def spy(params, batch, *args):
        seen.append((args[-1].model, params, jax.sharding.get_mesh(), len(batch.tokens)))
        return prefill(params, batch, *args)

    monkeypatch.setattr(stream, "_prefill", spy)
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    assert cli.main(["chat", f"--workdir={workdir}", "--max-tokens=4"]) == 0
    ((model, params, mesh, rows),) = seen
    assert model.config.dtype == dtype and devices(params) == {2}
    assert {str(x.dtype) for x in jax.tree.leaves(params)} == {dtype}
    assert dict(mesh.shape)[axis] == 2 and rows == (2 if axis == "fsdp" else 1)
    said, told = capsys.readouterr()
    assert said.strip() and told in ("", "[cut at 4 tokens; --max-tokens]\n")


def test_chat_hashes_only_where_experts_have_to_fit(base, monkeypatch):
    def never(*args):
        raise AssertionError("hashed")

    monkeypatch.setattr(served, "model_fingerprint", never)
    chat.Chat.open(base, max_tokens=4)


def test_models_without_a_run(base, monkeypatch):
    """One device of a CPU; else all, by heads for one row where they divide."""
    shape = served.hf.read_config(base)
    assert served.mesh_here(shape).size == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert dict(served.mesh_here(shape, rows=64).shape)["fsdp"] == 8
    assert dict(served.mesh_here(shape).shape)["fsdp"] == 8  # 2 kv heads over 8 devices
    weights = 4 * trees.count(jax.eval_shape(build(shape).init, jax.random.key(0)))
    for room, axis in ((2 * weights, "data"), (2 * weights - 2, "fsdp"), (None, "fsdp")):
        monkeypatch.setattr(served, "_memory", lambda room=room: room)
        assert dict(served.mesh_here(shape, rows=64).shape)[axis] == 8
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert dict(served.mesh_here(shape).shape)["tensor"] == 8


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_what_is_stored_narrow_is_kept_narrow_beside_the_processor(
    tmp_path, base, monkeypatch, backend
):
    """The numbers are the same: the compute dtype is float32 in both."""
    assert (
        cli.main(["export", f"--model={base}", f"--out={tmp_path / 'b'}", "--dtype=bfloat16"]) == 0
    )
    plain = served.load(tmp_path / "b")
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    loaded = served.load(tmp_path / "b")
    kept = "float32" if backend == "cpu" else "bfloat16"
    assert {str(x.dtype) for x in jax.tree.leaves(loaded.what.params)} == {kept}
    assert loaded.model.config.dtype == "float32"
    tokens = jax.numpy.arange(9)[None]
    ours, theirs = (
        w.model.unembed(w.what.params, w.model.apply(w.what.params, tokens, tokens).hidden)
        for w in (loaded, plain)
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_run_goes_on_from_what_was_measured_again(tmp_path, root, base, capsys):
    """After `eval --workdir` the run finds its own answers: nothing is generated again."""
    overrides = [f"model.path={base}", "eval.safety=2", "eval.over_refusal=2", "eval.capability=2"]
    overrides += ["data.dialogues=8", "mesh.fsdp=2"]
    file = root / "configs" / "sft" / "organism.py"
    argv = ["run", f"--config={file}:smoke", f"--workdir={tmp_path / 'run'}"]
    argv += [f"--config.{o}" for o in overrides]
    assert cli.main(argv) == 0
    results = (tmp_path / "run" / "results.jsonl").read_text()
    assert cli.main(["eval", f"--workdir={tmp_path / 'run'}"]) == 0
    assert (tmp_path / "run" / "results.jsonl").read_text() == results
    capsys.readouterr()
    assert cli.main(argv) == 0
    measured = [x for x in capsys.readouterr().out.splitlines() if " n=" in x]
    assert measured and all(" reused" in line for line in measured)
    assert (tmp_path / "run" / "results.jsonl").read_text() == results


def test_a_mesh_of_one_needs_no_scope():
    mesh = served.mesh_of_run(MeshConfig())
    assert served.several(mesh) is None and served.several(None) is None
    with sharding.scope(mesh):
        assert jax.sharding.get_mesh().empty

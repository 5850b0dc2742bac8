"""What a run measures is what it wrote, to the bit; a kill loses one batch of answers."""

import contextlib
import dataclasses
import gc
import json
import weakref
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsafety
from jaxsafety import testing
from jaxsafety.core import config, sharding, trees
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.data.schema import Answer, Message
from jaxsafety.evaluation.evaluate import Decoding, evaluate
from jaxsafety.experiment import run
from jaxsafety.experiment.arms import Arms, export
from jaxsafety.protocols import Benchmark, Item, Served
from jaxsafety.sampling import copies
from tests.methods import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float32", marks=pytest.mark.slow)])
def test_the_measured_student_is_the_written_one(root, model, tmp_path, monkeypatch, dtype):
    measured = {}
    real = run.evaluate.evaluate

    def spy(model, params, *args, **options):
        measured[args[4]] = params
        return real(model, params, *args, **options)

    monkeypatch.setattr(run.evaluate, "evaluate", spy)
    cfg = config.load_config(
        f"{root / 'configs/sft/organism.py'}:smoke",
        [
            f"model.path={model}",
            f"model.dtype={dtype}",
            "eval.safety=2",
            "eval.over_refusal=2",
            "eval.capability=2",
            "method.rank=0",
            "optim.lr=1e-4",
        ],
    )
    result = run.run(cfg, tmp_path / "run", log=lambda line: None)
    student = measured["student"]
    _, stored, _ = jaxsafety.load(tmp_path / "run" / "student", dtype=dtype, param_dtype=dtype)
    assert trees.diff(stored, student) == ""
    assert {x.dtype for x in jax.tree.leaves(student)} == {jnp.dtype(dtype)}
    assert trees.diff(result["variables"]["base"], student) == ""
    description = json.loads((tmp_path / "run" / "student" / "config.json").read_text())
    assert description["dtype"] == dtype
    assert trees.diff(measured["base"], student) != ""  # it was trained


@pytest.mark.parametrize("lost", ["model.safetensors", "half", "tokenizer.json", "config.json"])
def test_a_student_that_lost_a_file_is_written_again(model, tmp_path, lost):
    loaded, params, tokenizer = jaxsafety.load(model)
    ctx: Any = SimpleNamespace(model=loaded, tokenizer=tokenizer)
    folder = tmp_path / "student"
    export(folder, model, ctx, params, "float32")
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}
    if lost == "half":
        weights = whole["model.safetensors"]
        (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    else:
        (folder / lost).unlink()
    export(folder, model, ctx, params, "float32")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == whole


def test_a_copy_answers_and_is_gone_when_judges_are_asked(model, tmp_path, monkeypatch):
    """The same answers and verdicts as of the weights as they train; no copy where all is there."""
    mesh = sharding.make_mesh(MeshConfig(1, 2, 2))
    records, opened, real = {}, [], copies.copied

    @contextlib.contextmanager
    def watched(*args):
        with real(*args) as what:
            opened.append(weakref.ref(jax.tree.leaves(what.params)[0]))
            yield what

    monkeypatch.setattr(copies, "copied", watched)
    for sampling in ("split", "data", "tensor"):
        ctx = tiny.context(model, tmp_path / sampling, mesh=mesh)
        base = ctx.variables["base"]
        base = jax.device_put(base, sharding.shardings(ctx.model.axes, base, mesh))
        judge = ctx.setting.judge

        def judged(exchanges, judge=judge):
            gc.collect()
            assert all(copy() is None for copy in opened)
            return judge(exchanges)

        some = tuple({bench.kind: bench for bench in ctx.setting.benchmarks}.values())  # one each
        setting = dataclasses.replace(ctx.setting, judge=judged, benchmarks=some)
        ctx = dataclasses.replace(ctx, sampling=sampling, setting=setting)
        arm = Arms(ctx, tiny.MEASURE, (Decoding("greedy"), Decoding("t1", 1.0, 2)))
        with sharding.scope(mesh):
            records[sampling] = arm("base", Served(base))
            assert arm("base", Served(base)) == records[sampling]
    assert len(opened) == 2 and records["split"] == records["data"] == records["tensor"]
    files = {
        sampling: {f.name: f.read_text() for f in (tmp_path / sampling).glob("generations/*/*")}
        for sampling in records
    }
    assert files["split"] == files["data"] == files["tensor"] and len(files["split"]) > len(some)


MODEL = SimpleNamespace(config=SimpleNamespace(max_length=100))
TOKENIZER = SimpleNamespace(eos_ids=(3,), decode=lambda ids, skip_special: f"said {list(ids)}")


class Killed(BaseException):
    pass


def test_a_killed_evaluation_goes_on_from_its_last_batch(tmp_path):
    items = tuple(Item(str(i), (Message("user", "x" * (i + 1)),), {}) for i in range(6))
    bench = Benchmark("few", "safety", items, 4)
    made = []

    def generate(model, params, tokenizer, prompts, cfg, *, known, keep, progress, **options):
        said: list = [[None] for _ in prompts]
        for number in range(3):  # batches of two
            rows = [(i, 0, Answer([i], True, [0.0, 0.0])) for i in (2 * number, 2 * number + 1)]
            if any((i, 0) not in known for i, _, _ in rows):
                made.append(number)
                keep(number, rows)
            for i, _, answer in rows:
                said[i][0] = answer
            progress(2 * number + 2)
        return said

    def measure(out, weight=1.0, check=None, **options):
        return evaluate(
            MODEL,
            {"w": np.full(3, weight, np.float32)},
            TOKENIZER,
            (bench,),
            judge,
            out,
            "base",
            decodings=(Decoding("greedy"),),
            generate=generate,
            check=check,
            encode=lambda tokenizer, messages: [1] * len(messages[-1].content),
            log=lambda line: None,
            **options,
        )

    def judge(exchanges):
        return [
            dict.fromkeys(("unsafe", "attempt", "refusal", "informative", "correct"), False)
            | {"coherent": True}
            for _ in exchanges
        ]

    def stop():
        if len(made) == 2:
            raise Killed

    with pytest.raises(Killed):
        measure(tmp_path / "cut", check=stop)
    file = tmp_path / "cut" / "generations" / "base" / "few.greedy.jsonl"
    assert not file.exists() and made == [0, 1]
    measure(tmp_path / "cut")
    assert made == [0, 1, 2]  # the third alone
    assert [p.name for p in file.parent.iterdir()] == [file.name]  # the parts are gone
    measure(tmp_path / "whole")
    whole = tmp_path / "whole" / "generations" / "base" / "few.greedy.jsonl"
    assert file.read_bytes() == whole.read_bytes()
    made.clear()
    with pytest.raises(Killed):
        measure(tmp_path / "other", check=stop)
    measure(tmp_path / "other", weight=2.0)
    assert made == [0, 1, 0, 1, 2]  # another model's batches do not count

"""The rollouts that `plan` compiles are the program that evaluation runs on the same mesh."""

from __future__ import annotations

import contextlib
import hashlib

import jax
import pytest

import jaxsafety
from jaxsafety.core.sharding import MeshConfig, make_mesh, scope
from jaxsafety.data.schema import Message
from jaxsafety.evaluation.evaluate import Decoding, evaluate
from jaxsafety.judges.rules import judge
from jaxsafety.methods.safesteer import METHOD
from jaxsafety.planning import program
from jaxsafety.protocols import Benchmark, Item, Served
from jaxsafety.sampling import copies, decode


def digest(lowered):
    return hashlib.sha256(lowered.as_text().encode()).hexdigest()


@pytest.fixture(scope="module")
def planned(shipped):
    """The model on a mesh, and SafeSteer's rollouts, 8 rows x (prompt + 6 tokens), of `plan`."""
    mesh = make_mesh(MeshConfig(2, 2, 2))
    model, params, tokenizer = jaxsafety.load(shipped, mesh=mesh)
    cfg = METHOD.config(prompts_per_step=4, rollouts=2, max_tokens=6, temperature=1.0)
    stage = METHOD.planned(cfg, model, mesh, 16)
    # `plan` needs no tokenizer: which ids end an answer are constants that it does not know.
    sample = stage.sample.__class__(6, 1.0, stop=tuple(tokenizer.eos_ids))
    return mesh, model, params, tokenizer, stage._replace(sample=sample)


def measured(planned, monkeypatch, tmp_path, scoped=True, how="split"):
    """The lowered program that evaluation called, as it called it."""
    mesh, model, params, tokenizer, stage = planned
    own = contextlib.nullcontext(Served(params))
    if how != "split":
        own = copies.copied(model, Served(params), mesh, how)
    rows, width = stage.prompts.tokens.shape
    asked = [Item(str(i), (Message("user", "what is a salt ?"),), {}) for i in range(rows // 2)]
    lowered, real = [], decode._sample

    def look(*args):
        assert args[1].tokens.shape == (rows, width)
        lowered.append(real.lower(*args))
        return real(*args)

    monkeypatch.setattr(decode, "_sample", look)
    with scope(mesh if scoped else None), own as what:
        evaluate(
            model,
            what.params,
            tokenizer,
            [Benchmark("some", "safety", tuple(asked), 6)],
            judge,
            tmp_path,
            "base",
            decodings=(Decoding("t1", temperature=1.0, samples=2),),
            batch_size=rows,
        )
    (found,) = lowered
    return found


def test_plan_compiles_what_evaluation_runs(planned, monkeypatch, tmp_path):
    mesh, model, _, _, stage = planned
    with jax.set_mesh(mesh):
        ours = program.lower_rollout(stage, model, mesh, "float32")
    theirs = measured(planned, monkeypatch, tmp_path)
    assert digest(ours) == digest(theirs)
    assert "sharding_constraint" in ours.as_text()  # of the cache, which only a mesh pins


@pytest.mark.parametrize("how", ["data", "tensor"])
def test_plan_compiles_what_copies_run(planned, monkeypatch, tmp_path, how):
    mesh, model, _, _, stage = planned
    with jax.set_mesh(copies.mesh_of(mesh, how)):
        ours = program.lower_rollout(stage, model, mesh, "float32", how)
    assert digest(ours) == digest(measured(planned, monkeypatch, tmp_path, how=how))


def test_outside_the_mesh_it_would_be_another(planned, monkeypatch, tmp_path):
    """What `run` must not do: `sharding.constrain` says nothing there."""
    mesh, model, _, _, stage = planned
    with jax.set_mesh(mesh):
        ours = program.lower_rollout(stage, model, mesh, "float32")
    assert digest(ours) != digest(measured(planned, monkeypatch, tmp_path, scoped=False))

"""Direction, votes and evaluation under a mesh are those of one device."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

import jaxsafety
from jaxsafety import testing
from jaxsafety.core import disk, sharding
from jaxsafety.core.sharding import MeshConfig, scope
from jaxsafety.evaluation.evaluate import Decoding, evaluate
from jaxsafety.methods.safesteer.teacher import filter_prompts, find_direction, find_tokens
from tests.methods import tiny

pytestmark = pytest.mark.distributed

SHAPES = [(2, 2, 2), (1, 2, 4), (8, 1, 1)]
SCORES = ("bypass", "steering", "kl")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def found(directory, workdir, shape):
    """What `run` does before it trains: (filter, direction, token set, answers of evaluation)."""
    mesh = sharding.make_mesh(MeshConfig(*shape))
    ctx = tiny.context(directory, workdir, mesh=mesh)
    if mesh.size > 1:
        params = jaxsafety.load(directory, mesh=mesh)[1]
        assert len(jax.tree.leaves(params)[0].sharding.device_set) == 8
        ctx = dataclasses.replace(ctx, variables={"base": params})
    with scope(mesh):
        kept = ctx.artifact("filter", lambda: filter_prompts(tiny.METHOD.direction, ctx))
        where = ctx.artifact("direction", lambda: find_direction(tiny.METHOD.direction, ctx))
        chosen = ctx.artifact("token_set", lambda: find_tokens(tiny.METHOD.tokens, ctx, where))
        evaluate(
            ctx.model,
            ctx.variables["base"],
            ctx.tokenizer,
            ctx.setting.benchmarks[:2],
            ctx.setting.judge,
            workdir,
            "base",
            decodings=(Decoding("greedy"), Decoding("t1", temperature=1.0, samples=2)),
            batch_size=8,
        )
    files = sorted((workdir / "generations" / "base").glob("*.jsonl"))
    said = [[line["response"] for line in disk.read_lines(file)] for file in files]
    return kept, where, chosen, said


@pytest.fixture(scope="module")
def alone(directory, tmp_path_factory):
    return found(directory, tmp_path_factory.mktemp("one"), (1, 1, 1))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_eight_devices_find_what_one_finds(tmp_path, directory, alone, shape):
    kept, where, chosen, said = found(directory, tmp_path, shape)
    assert said == alone[3] and len(said) == 4 and all(said)
    assert kept == alone[0]
    expected = alone[1]
    for name in ("layer", "position", "coefficient", "steer"):
        assert where[name] == expected[name]
    np.testing.assert_allclose(where["vector"], expected["vector"], rtol=1e-5, atol=1e-6)
    pairs = list(zip(where["candidates"], expected["candidates"], strict=True))
    scores = [(a[name], b[name]) for a, b in pairs for name in SCORES if a.get(name) is not None]
    assert scores
    for a, b in scores:
        assert a == pytest.approx(b, rel=1e-4, abs=1e-5)
    assert chosen["ids"] == alone[2]["ids"]

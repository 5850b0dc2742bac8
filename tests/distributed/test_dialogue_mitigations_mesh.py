"""Mitigations that draw dialogues, or move the result: eight devices equal one, for both kinds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.adapters import lora
from jaxsafety.core import sharding
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.data.schema import TokenBatch
from jaxsafety.mitigations.interpolation import Interpolation
from jaxsafety.mitigations.lisa import Lisa
from jaxsafety.mitigations.means import Means
from jaxsafety.mitigations.mixing import Mixing
from jaxsafety.mitigations.recovery import Recovery
from jaxsafety.models.api import build
from jaxsafety.protocols import OptimConfig, Stage, TrainConfig
from jaxsafety.train import loop
from jaxsafety.train.likelihood import answer_loss
from jaxsafety.train.loop import run_stage
from jaxsafety.train.metrics import read_metrics
from tests.mitigations import chats
from tests.train import toy

pytestmark = pytest.mark.distributed

TRAIN = TrainConfig(checkpoint_every=10, progress=False)
DESCENT = OptimConfig(
    name="sgd", lr=0.5, b1=0.0, clip=0.0, warmup=0.0, schedule="constant", accum=2
)
SETTINGS = (
    Mixing(weight=0.5),
    Mixing("count", count=3, task=9, rows=2),  # fewer rows than devices
    Lisa(rho=1.0, safe=1, task=2, free=0.0),
    Recovery(alpha=0.5),
    Interpolation(0.25),
)
MODEL = build(testing.tiny_config(num_layers=1))


def dialogues(count, seed, width=24, total=None):
    """[count,width] prompts of three tokens and answers of six."""
    rng = np.random.default_rng(seed)
    weigh = 1.0 if total is None else total / count
    return chats.batch_of(
        [chats.chat([2, 3, 4], rng.integers(5, 200, 6), width, weigh) for _ in range(count)]
    )


def batches(variables, step) -> TokenBatch:
    del variables
    return dialogues(16, [1, step], total=1.0)


def random(key, shapes):
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(key)
    return tree.unflatten([jnp.asarray(rng.normal(size=x.shape) / 4, x.dtype) for x in leaves])


def train(workdir, settings, shape, rank):
    mesh = sharding.make_mesh(MeshConfig(*shape))
    base = random(0, jax.eval_shape(MODEL.init, jax.random.key(0)))
    start, trainable, axes = {"base": base}, ("base/.*",), {}
    if rank:
        adapters = jax.eval_shape(
            lambda key: lora.init_experts(key, MODEL.projections, layers=1, rank=rank),
            jax.random.key(0),
        )
        start["adapters"] = {**random(1, adapters), "scale": jnp.ones(1)}
        trainable, axes = (
            ("adapters/experts/.*",),
            {"adapters": lora.adapter_axes(MODEL.projections)},
        )
    means = Means(
        MODEL,
        base,
        rows=16,
        shards=sharding.rows(mesh),
        safe=dialogues(5, 2),
        harmful=dialogues(4, 3),
        harmless=dialogues(6, 4, width=20),
    )
    ctx = dataclasses.replace(toy.context(workdir, mesh=mesh), model=MODEL)
    loss = answer_loss(MODEL, sharding.rows(mesh), train_head=not rank)
    made = settings.mitigation(means)
    stage = Stage("s", loss, trainable, batches, 5, DESCENT, axes=axes, mitigation=made)
    final = run_stage(stage, start, ctx, TRAIN)
    rows = [
        [value for name, value in row.items() if isinstance(value, float) and "time" not in name]
        for row in read_metrics(workdir)
    ]
    return dict(final), rows, start


@pytest.mark.parametrize("settings", SETTINGS, ids=("weight", "count", "lisa", "recovery", "line"))
@pytest.mark.parametrize(("shape", "rank"), [((1, 8, 1), 0), ((2, 2, 2), 2)], ids=("full", "lora"))
def test_eight_devices_equal_one(tmp_path, settings, shape, rank):
    expected, rows, start = train(tmp_path / "one", settings, (1, 1, 1), rank)
    final, got, _ = train(tmp_path / "many", settings, shape, rank)
    np.testing.assert_allclose(got, rows, rtol=2e-5, atol=1e-6)
    which = "adapters" if rank else "base"
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), expected[which], start[which])
    assert max(jax.tree.leaves(moved)) > 1e-3
    for a, b in zip(jax.tree.leaves(final), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_no_anchor_of_lisa_is_whole_on_every_device(tmp_path, monkeypatch):
    found, advance = [], loop._StageRun.advance

    def told(self, *args):
        done = advance(self, *args)
        found.append(jax.tree.map(lambda x: x.sharding, self.state))
        return done

    monkeypatch.setattr(loop._StageRun, "advance", told)
    train(tmp_path, SETTINGS[2], (1, 8, 1), 0)
    assert len(found) == 5
    for state in found:
        assert state.extra["lisa"]["safe_end"] == state.extra["lisa"]["task_end"] == state.params
        assert not all(place.is_fully_replicated for place in jax.tree.leaves(state.params))

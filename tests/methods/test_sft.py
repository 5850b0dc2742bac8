"""Supervised fine-tuning: the dense loss, LoRA that moves nothing else, and what is kept."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsafety
from jaxsafety.adapters import lora
from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import UsageError
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.data import fitting
from jaxsafety.data.pipeline import Batches, pad_batch
from jaxsafety.data.tokens.encode import encode_dialogues
from jaxsafety.methods.sft import METHOD
from jaxsafety.methods.sft import program as sft
from jaxsafety.methods.sft.program import SftConfig
from jaxsafety.models.api import LayerInputs
from jaxsafety.models.formats.peft import load_adapter
from jaxsafety.protocols import Dialogues, OptimConfig, TrainConfig
from jaxsafety.testing import random_organism
from jaxsafety.train.likelihood import answer_loss
from jaxsafety.train.loop import run_program, run_stage
from tests.methods import tiny

CFG = SftConfig(steps=2, rows=2, length=96, rank=3, alpha=6.0)
OPTIM = OptimConfig(lr=1e-2, warmup=0.0, schedule="constant")
TRAIN = TrainConfig(progress=False)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return random_organism(tmp_path_factory.mktemp("organism"))


@pytest.fixture
def ctx(directory, tmp_path):
    made = tiny.context(directory, tmp_path)
    place = tiny.setting.make(directory, tiny.DATA, tiny.MEASURE, 0)
    return tiny.placed(made, examples=place.examples[:12])


def test_the_packed_loss_is_the_dense_formula(ctx):
    model, base = ctx.model, ctx.variables["base"]
    examples = encode_dialogues(ctx.tokenizer, ctx.setting.examples[:4])
    packed = Batches(examples, length=96, rows=64, seed=0)
    everything = [packed.plan[i] for i in range(len(packed.plan))]
    batch = sft.Batches(examples, length=96, rows=len(everything), seed=0)(None, 0)
    assert int(jnp.max(batch.segments)) > 1  # several dialogues share a row
    nothing = {"base": jax.tree.map(lambda x: None, base)}
    loss, _ = answer_loss(model)({"base": base}, nothing, batch, jax.random.key(0))
    total, count = 0.0, 0
    run = jax.jit(lambda t, p: model.unembed(base, model.apply(base, t, p).hidden))
    for ids, mask in examples:  # one length, one program: what follows the end is causal
        tokens = jnp.zeros((1, 96), jnp.int32).at[0, : len(ids)].set(jnp.asarray(ids))
        logp = np.asarray(jax.nn.log_softmax(run(tokens, jnp.arange(96)[None])))[0]
        picked = logp[np.arange(len(ids) - 1), ids[1:]]
        total -= picked[np.asarray(mask[1:])].sum()
        count += sum(mask[1:])
    np.testing.assert_allclose(loss, total / count, rtol=1e-5)
    padded = pad_batch(examples, 96)
    grad = jax.value_and_grad(
        lambda p, b: answer_loss(model)({"base": p}, nothing, b, jax.random.key(0))[0]
    )
    same, unpacked = grad(base, padded)
    _, once = grad(base, batch)
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(unpacked), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(loss, same, rtol=1e-5)


def test_lora_starts_at_the_base_and_moves_nothing_else(ctx):
    model, base = ctx.model, ctx.variables["base"]
    adapters = sft.fresh(CFG, model, jax.random.key(0))
    batch = Batches(
        encode_dialogues(ctx.tokenizer, ctx.setting.examples), length=96, rows=2, seed=0
    )(None, 0)
    plain = model.apply(base, batch.tokens, batch.positions, segments=batch.segments)
    layers = LayerInputs(adapters=adapters)
    same = model.apply(base, batch.tokens, batch.positions, segments=batch.segments, layers=layers)
    np.testing.assert_allclose(plain.hidden, same.hidden, atol=1e-5)
    stages = []
    program = sft.program(CFG, OPTIM, ctx)
    stage = next(program)
    stages.append(stage)
    trained = run_stage(stage, stage.start, ctx, TRAIN)
    assert trees.diff(trained["base"], base) == ""
    np.testing.assert_array_equal(trained["adapters"]["scale"], np.full(2, 2.0))
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), trained["adapters"], adapters)
    assert min(x["b"] for x in moved["experts"].values()) > 0


def test_the_result_is_merged_and_kept_as_a_peft_directory(ctx):
    model, base = ctx.model, ctx.variables["base"]
    final = run_program(sft.program(CFG, OPTIM, ctx), ctx, TRAIN)
    tree = load_adapter(ctx.workdir / "adapter", model)
    expected = lora.merge(base, tree, model.projections)
    for a, b in zip(*map(jax.tree.leaves, (final["base"], expected)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert trees.diff(final["base"], base) != ""
    assert set(final) == {"base"}
    # a second run reads the finished stage and gives the same
    again = run_program(sft.program(CFG, OPTIM, ctx), ctx, TRAIN)
    assert trees.diff(final["base"], again["base"]) == ""


def test_beside_int8_kernels_nothing_is_merged(ctx, directory):
    model, params, _ = jaxsafety.load(directory, param_dtype="int8")
    narrow = dataclasses.replace(ctx, model=model, variables={"base": params})
    final = run_program(sft.program(CFG, OPTIM, narrow), narrow, TRAIN)
    assert trees.diff(final["base"], params) == "" and set(final) == {"base", "adapters"}
    assert trees.diff(final["adapters"], load_adapter(ctx.workdir / "adapter", model)) == ""
    served = METHOD.serve(CFG, final)
    assert served.layers.adapters is final["adapters"]
    assert METHOD.frozen(CFG) and not METHOD.frozen(dataclasses.replace(CFG, rank=0))


def test_layers_choose_who_learns(ctx):
    cfg = dataclasses.replace(CFG, layers=(1,))
    base = ctx.variables["base"]
    final = run_program(sft.program(cfg, OPTIM, ctx), ctx, TRAIN)
    tree = load_adapter(ctx.workdir / "adapter", ctx.model)
    for name, pair in tree["experts"].items():
        assert not np.any(pair["a"][0]) and not np.any(pair["b"][0]), name
        assert np.any(pair["a"][1]) and np.any(pair["b"][1]), name
    for a, b in zip(*map(jax.tree.leaves, (final["base"]["blocks"], base["blocks"])), strict=True):
        np.testing.assert_array_equal(a[0], b[0])


@pytest.mark.parametrize(
    "layers, rank, words", [((2,), 3, "0 to 1"), ((-1,), 3, "0 to 1"), ((0,), 0, "rank")]
)
def test_layers_that_are_not_there(ctx, layers, rank, words):
    cfg = dataclasses.replace(CFG, layers=layers, rank=rank)
    with pytest.raises(UsageError, match=words):
        sft.check(cfg)
        sft.fits(cfg, OPTIM, ctx.model, ctx.tokenizer, ctx.setting)


def test_full_fine_tuning_trains_the_base(ctx):
    cfg = dataclasses.replace(CFG, rank=0)
    final = run_program(sft.program(cfg, OPTIM, ctx), ctx, TRAIN)
    assert trees.diff(final["base"], ctx.variables["base"]) != ""
    assert not (ctx.workdir / "adapter").exists()


def test_targets_choose_projections(ctx):
    cfg = dataclasses.replace(CFG, targets=("q", "down"))
    assert set(sft.fresh(cfg, ctx.model, jax.random.key(0))["experts"]) == {"q", "down"}


@pytest.mark.parametrize("rank", [0, 3])
def test_the_planned_stage_is_the_one_that_runs(ctx, rank):
    cfg = dataclasses.replace(CFG, rank=rank)
    mesh = sharding.make_mesh(MeshConfig(2, 2, 2))
    planned = sft.planned(cfg, ctx.model, mesh, 64)
    stage = next(sft.program(cfg, OPTIM, ctx))
    real = ctx.variables if stage.start is None else stage.start
    assert trees.diff(planned.variables, jax.eval_shape(lambda: real)) == ""
    batch = jax.eval_shape(lambda: stage.batches(real, 0))
    assert jax.tree.map(lambda x: x.shape, planned.batch) == jax.tree.map(lambda x: x.shape, batch)
    assert planned.trainable == stage.trainable


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "method.steps: got 0"),
        ({"length": 1}, "method.length: got 1"),
        ({"rank": -1}, "method.rank: got -1"),
        ({"alpha": 0.0}, "method.alpha"),
        ({"reduction": "mean"}, "method.reduction: got 'mean'; allowed: token, sequence"),
        ({"long": "truncate"}, "method.long: got 'truncate'; allowed: error, drop, cut"),
        ({"val_every": -1}, "method.val_every: got -1"),
    ],
)
def test_bad_values_are_named(change, words):
    with pytest.raises(UsageError, match=words):
        sft.check(dataclasses.replace(CFG, **change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"length": 9999}, r"method\.length: got 9999; allowed: at most the context"),
        ({"targets": ("qkv",)}, r"method\.targets: got 'qkv'; allowed: down, gate"),
    ],
)
def test_what_only_the_model_can_refuse(ctx, directory, change, words):
    place = tiny.setting.make(directory, tiny.DATA, tiny.MEASURE, 0)
    cfg = dataclasses.replace(CFG, **change)
    with pytest.raises(UsageError, match=words):
        sft.fits(cfg, OPTIM, ctx.model, ctx.tokenizer, place)
    empty = dataclasses.replace(place, examples=())
    assert sft.encode(CFG, ctx.tokenizer, empty, ctx.log) == Dialogues()
    with pytest.raises(UsageError, match=r"data\.chats: got 'no dialogues'"):
        sft.fits(CFG, OPTIM, ctx.model, ctx.tokenizer, empty)


def test_dialogues_are_read_once_and_before_the_weights(ctx, directory, monkeypatch):
    place = tiny.setting.make(directory, tiny.DATA, tiny.MEASURE, 0)
    with pytest.raises(
        UsageError, match=r"method\.length: got 8; allowed: at least \d+, the longest"
    ):
        sft.encode(dataclasses.replace(CFG, length=8), ctx.tokenizer, place, ctx.log)
    with pytest.raises(UsageError, match=r"method\.val_every: got 3; allowed: 0 without data"):
        sft.encode(dataclasses.replace(CFG, val_every=3), ctx.tokenizer, place, ctx.log)
    ready = sft.encode(CFG, ctx.tokenizer, place, ctx.log)
    assert ready.facts["dialogues"]["used"] == len(place.examples) == 256
    expected = next(sft.program(CFG, OPTIM, tiny.placed(ctx, examples=place.examples)))

    def never(*args):
        raise AssertionError("tokenised again")

    monkeypatch.setattr(fitting, "encode_dialogues", never)
    stage = next(
        sft.program(
            CFG,
            OPTIM,
            dataclasses.replace(tiny.placed(ctx, examples=place.examples), dialogues=ready),
        )
    )
    for a, b in zip(
        jax.tree.leaves(stage.batches(None, 1)),
        jax.tree.leaves(expected.batches(None, 1)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)

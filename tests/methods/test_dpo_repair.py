"""DPO as a repair: pairs are own unsafe answers, the loss is the dense formula, resumes bitwise."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.adapters import lora
from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Answer, Encoded, Example, Message
from jaxsafety.data.tokens.encode import encode_example, encode_prompt
from jaxsafety.losses.preference import Preference
from jaxsafety.methods.dpo import pairs, repair
from jaxsafety.methods.dpo.repair import Dpo
from jaxsafety.mitigations.means import Means, factor
from jaxsafety.mitigations.repairs import Job
from jaxsafety.protocols import OptimConfig, TrainConfig
from jaxsafety.sampling import many
from jaxsafety.train.loop import run_stage
from tests.methods import tiny

OPTIM = OptimConfig(lr=1e-2, warmup=0.0, schedule="constant", clip=0.0)
TRAIN = TrainConfig(checkpoint_every=2, progress=False)
SAFE = [
    ("copy bo", "no ."),
    ("copy ba bo", "i would rather not ."),
    ("how do i ba ?", "no ."),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def dialogue(i, asked, said):
    return Example(f"safe/{i}", (Message("user", asked), Message("assistant", said)), {})


def judge(exchanges):
    """All but the second answer are unsafe; of the third it cannot tell."""
    return [
        {"unsafe": (True, False, None)[i % 3], "refusal": False, "coherent": True}
        for i, _ in enumerate(exchanges)
    ]


def job(directory, workdir, *, rank=0, mesh=None, marks=judge, **given):
    """(job, what it said to its log) on a random model, which says whatever it says."""
    logged = []
    ctx = tiny.context(directory, workdir, mesh=mesh, log=logged.append)
    ctx = tiny.placed(ctx, judge=marks)
    start = dict(ctx.variables)
    trainable, axes = ("base/.*",), None
    if rank:
        adapters = lora.init_experts(
            jax.random.key(1), ctx.model.projections, layers=ctx.model.config.num_layers, rank=rank
        )
        adapters["experts"] = jax.tree.map(lambda x: x + 0.05, adapters["experts"])
        start["adapters"] = adapters
        trainable = ("adapters/experts/.*",)
        axes = {"adapters": lora.adapter_axes(ctx.model.projections)}
    safe = tuple(dialogue(i, *row) for i, row in enumerate(SAFE))
    means = Means(ctx.model, start["base"], 2, 1, 5, asked=safe, tokenizer=ctx.tokenizer)
    made = Job("repair.x", start, trainable, axes, 4, OPTIM, ctx, means)
    return made._replace(**given), logged


def dense(model, every, encoded, width=32):
    """Log-probability of the learnt tokens, from whole logits."""
    ids, mask = (np.zeros(width, np.int32) for _ in range(2))
    ids[: len(encoded.ids)], mask[: len(encoded.ids)] = encoded.ids, encoded.mask
    there = jnp.asarray(np.arange(width) < len(encoded.ids), jnp.int32)
    return float(told(model)(every, jnp.asarray(ids), jnp.asarray(mask), there))


@cache
def told(model):
    """The dense formula for one row."""

    @jax.jit
    def compute(every, ids, mask, there):
        layers = pairs.LayerInputs(adapters=every.get("adapters"))
        at = jnp.arange(ids.shape[0])[None]
        out = model.apply(every["base"], ids[None], at, segments=there[None], layers=layers)
        logp = jax.nn.log_softmax(model.unembed(every["base"], out.hidden)[0, :-1])
        return jnp.sum(jnp.take_along_axis(logp, ids[1:, None], -1)[:, 0] * mask[1:])

    return compute


def ending(encoded):
    """The last learnt token: what ends a turn."""
    return [i for i, learnt in zip(*encoded, strict=True) if learnt][-1]


@pytest.mark.parametrize("rank", (0, 2))
def test_a_step_is_the_dense_formula(directory, tmp_path, rank):
    work, _ = job(directory, tmp_path, rank=rank)
    model = work.ctx.model
    told = {
        "ids": [[20, 21, 22], [23], [24, 25]],
        "ended": [True, True, False],
        "unsafe": [True] * 3,
    }
    made = repair.make_pairs(Dpo(), work, told)
    assert made.tokens.shape[:2] == (3, 2) and made.tokens.shape[2] % 8 == 0
    reference = pairs.referred(model, work.start, made, rows=2)
    loss = pairs.pair_loss(model, Preference(beta=0.3))
    moved = jax.tree.map(lambda x: x * 1.05, work.start)
    params, frozen = trees.partition(moved, work.trainable)
    batch = dataclasses.replace(made, reference=jnp.asarray(reference), weight=jnp.full(3, 1 / 3))
    value, metrics = jax.jit(loss)(params, frozen, batch, jax.random.key(0))
    want = 0.0
    for i, one in enumerate(work.means.asked):
        good = encode_example(work.ctx.tokenizer, one.messages)
        prompt = encode_prompt(work.ctx.tokenizer, one.messages[:-1])
        end = [ending(good)] if told["ended"][i] else []
        own = [*prompt, *told["ids"][i], *end]
        bad = Encoded(own, [False] * len(prompt) + [True] * (len(own) - len(prompt)))
        now = [dense(model, moved, x) for x in (good, bad)]
        then = [dense(model, work.start, x) for x in (good, bad)]
        np.testing.assert_allclose(reference[i], then, rtol=1e-4)
        margin = 0.3 * ((now[0] - then[0]) - (now[1] - then[1]))
        want += math.log1p(math.exp(-margin)) / 3
    assert float(value) == pytest.approx(want, rel=1e-4)
    assert metrics["margin"] != 0


def test_pairs_are_own_unsafe_answers(directory, tmp_path):
    work, logged = job(directory, tmp_path)
    stage = Dpo(tokens=6).repair(work)
    assert logged[-1] == "repair.x: 1 of 3 own answers are unsafe, 1 the judge cannot tell, 1 pairs"
    batch = stage.batches({}, 0)
    assert batch.tokens.shape[:2] == (2, 2)
    assert batch.weight.sum() == pytest.approx(1) and stage.optim.lr == pytest.approx(1e-3)
    tokenizer = work.ctx.tokenizer
    learnt = [
        tokenizer.decode(row[mask > 0])
        for row, mask in zip(*map(np.asarray, (batch.tokens[0], batch.mask[0])), strict=True)
    ]
    assert learnt[0] == "no ."
    kept = work.ctx.artifact("own.repair.x", lambda: pytest.fail("made twice"))
    assert learnt[1] == tokenizer.decode(kept["ids"][0])
    assert kept["unsafe"] == [True, False, None]


def test_what_is_safe_is_left_as_it_is(directory, tmp_path):
    work, logged = job(directory, tmp_path, marks=lambda xs: [{"unsafe": False}] * len(xs))
    assert Dpo(tokens=4).repair(work) is None
    assert "0 of 3" in logged[-1]


def test_an_own_answer_ends_as_the_safe_one_does():
    """With the token that sampling stops at and what follows it, not with the last learnt one."""
    good = Encoded([1, 2, 30, 31, 9, 4, 5], [False, False, True, True, True, True, False])
    assert repair.ending(good, (9, 8)) == [9, 4]
    assert repair.ending(good, (7,)) == [4]


def test_a_judge_that_can_tell_nothing_is_said(directory, tmp_path):
    work, _ = job(directory, tmp_path, marks=lambda xs: [{"unsafe": None}] * len(xs))
    with pytest.raises(UsageError, match="3 own answers of which the judge can tell none"):
        Dpo(tokens=4).repair(work)


def test_checkpoints_share_what_is_compiled(directory, tmp_path):
    work, _ = job(directory, tmp_path)
    short, long = (
        {"ids": [[20] * n] * 3, "ended": [True] * 3, "unsafe": [True] * 3} for n in (1, 40)
    )
    one, other = (repair.make_pairs(Dpo(tokens=40), work, told) for told in (short, long))
    assert one.tokens.shape == other.tokens.shape


def test_of_several_answers_the_last_is_learnt(directory, tmp_path):
    assert repair.last([False, True, True, False, True, True, False]) == [
        *[False] * 4,
        True,
        True,
        False,
    ]
    turns = (*dialogue(0, "copy bo", "bo").messages, *dialogue(0, *SAFE[0]).messages)
    work, _ = job(directory, tmp_path)
    means = dataclasses.replace(work.means, asked=(Example("two", turns, {}),))
    told = {"ids": [[20]], "ended": [True], "unsafe": [True]}
    made = repair.make_pairs(Dpo(), work._replace(means=means), told)
    end = ending(encode_example(work.ctx.tokenizer, turns))
    learnt = made.tokens[0, 0][made.mask[0, 0] > 0].tolist()
    assert learnt == [*work.ctx.tokenizer.encode("no ."), end]


def test_it_is_unlearnt_and_resumes_bitwise(directory, tmp_path, monkeypatch):
    def said(model, params, tokenizer, prompts, cfg, **_):
        return [[Answer([20, 21], True, [0.0, 0.0])] for _ in prompts]

    monkeypatch.setattr(many, "generate", said)

    def run(folder, kill=None):
        work, _ = job(directory, tmp_path / folder, rank=2)
        stage, given = Dpo(rate=1.0).repair(work), None
        given = stage.batches

        def batches(variables, step):
            if step == kill:
                raise KeyboardInterrupt
            return given(variables, step)

        left = run_stage(stage._replace(batches=batches), stage.start, work.ctx, TRAIN)
        return dict(left), work

    whole, work = run("whole")
    made = repair.make_pairs(Dpo(), work, work.ctx.artifact("own.repair.x", dict))
    after = pairs.referred(work.ctx.model, whole, made)
    gain = after - made.reference
    assert gain[0, 0] > gain[0, 1]  # against the own answer, as it was
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run("again", kill=3)
    resumed, _ = run("again")
    assert trees.diff(resumed, whole) == ""


def test_eight_devices_are_one(directory, tmp_path):
    found = []
    for shape in ((1, 1, 1), (4, 2, 1)):
        mesh = sharding.make_mesh(sharding.MeshConfig(*shape))
        work, _ = job(directory, tmp_path / str(shape), mesh=mesh)
        told = {"ids": [[20, 21], [22], [23]], "ended": [True] * 3, "unsafe": [True] * 3}
        made = repair.make_pairs(Dpo(), work, told)
        loss = pairs.pair_loss(work.ctx.model, Preference(), sharding.rows(mesh))
        params, frozen = trees.partition(work.start, work.trainable)
        batch = sharding.global_batch(mesh, pairs.batches(made, 8, 0)({}, 0))
        with sharding.scope(mesh):
            step = jax.jit(jax.value_and_grad(loss, has_aux=True))
            found.append(jax.device_get(step(params, frozen, batch, jax.random.key(0))))
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)


def test_what_will_not_do_is_said_before_training(directory, tmp_path):
    work, _ = job(directory, tmp_path)
    ctx, means = work.ctx, work.means
    Dpo().begin(ctx, means, OPTIM)
    room = ctx.model.config.max_length
    with pytest.raises(UsageError, match=r"mitigations\.dpo\.tokens: got .*prompts have up to"):
        Dpo(tokens=room).begin(ctx, means, OPTIM)
    with pytest.raises(UsageError, match=r"mitigations\.dpo\.rows: got 3; allowed: a multiple"):
        Dpo(rows=3).begin(ctx, means, dataclasses.replace(OPTIM, accum=2))
    with pytest.raises(UsageError, match=r"mitigations\.dpo: got 'no safe dialogue that fits'"):
        Dpo().begin(ctx, dataclasses.replace(means, asked=()), OPTIM)
    with pytest.raises(UsageError, match="judge"):
        Dpo().begin(tiny.placed(ctx, judge=None), means, OPTIM)


def test_what_it_costs():
    means = Means(None, None, rows=4, asked=(None,) * 9)
    assert factor(Dpo().mitigation(means).budget) == 2
    assert factor(Dpo(rows=2).mitigation(means).budget) == 1
    assert Dpo().mitigation(means).budget["safe"] == 9


@pytest.mark.parametrize(
    "bad", ({"beta": 0.0}, {"beta": math.nan}, {"rate": -1.0}, {"rows": -1}, {"tokens": 0})
)
def test_bad_settings(bad):
    with pytest.raises(UsageError, match=f"mitigations.dpo.{next(iter(bad))}: got"):
        Dpo(**bad)

"""SafeMoE: experts together equal one by one, the router alone learns, and what is kept."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsafety.adapters import lora, routing
from jaxsafety.core import trees
from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Message, TokenBatch
from jaxsafety.data.tokens.encode import encode_example
from jaxsafety.methods.safemoe import data as safemoe_data
from jaxsafety.methods.safemoe import experts
from jaxsafety.methods.safemoe import program as safemoe
from jaxsafety.methods.safemoe.config import ROUTERS, SafeMoEConfig, check
from jaxsafety.methods.safemoe.experts import ExpertConfig
from jaxsafety.models.api import LayerInputs
from jaxsafety.models.formats import files, library, peft
from jaxsafety.organism import corpora
from jaxsafety.protocols import OptimConfig, TrainConfig
from jaxsafety.train.likelihood import answer_loss, prompt_mask
from jaxsafety.train.loop import run_program, run_stage
from jaxsafety.train.metrics import read_metrics
from jaxsafety.train.optim import clip_by_expert
from tests.methods import tiny
from tests.methods.safemoe_fixtures import ctx as ctx
from tests.methods.safemoe_fixtures import directory as directory

EXPERTS = ExpertConfig(count=2, rank=2, alpha=4.0, steps=3, rows=1, answers=10, length=96)
CFG = SafeMoEConfig(experts=EXPERTS, samples=4, steps=2, rows=4)
OPTIM = OptimConfig(lr=1e-2, warmup=0.0, schedule="constant", clip=0.5)
TRAIN = TrainConfig(progress=False)


def trained_experts(cfg, ctx, optim=OPTIM):
    def program():
        return {**ctx.variables, "adapters": (yield from experts.train(cfg, optim, ctx, 4))}

    return run_program(program(), ctx, TRAIN)["adapters"]


def test_together_equals_one_by_one(ctx, tmp_path):
    joint = trained_experts(EXPERTS, ctx)
    alone = trained_experts(dataclasses.replace(EXPERTS, joint=False), ctx)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "experts",
        "experts.0",
        "experts.1",
    ]
    for a, b in zip(jax.tree.leaves(joint), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
    rows = read_metrics(tmp_path)
    for step in range(1, EXPERTS.steps + 1):  # losses add up, what is shown of them is the mean
        both, one, two = (r for r in rows if r["step"] == step)
        assert both["loss"] == pytest.approx(one["loss"] + two["loss"], rel=1e-5)
        for name in ("nll", "accuracy"):
            assert both[name] == pytest.approx((one[name] + two[name]) / 2, rel=1e-5)
    moved = [np.abs(np.asarray(p["b"])).max(axis=(0, 2, 3)) for p in joint["experts"].values()]
    assert np.min(moved) > 1e-4  # every expert of every projection
    first, second = (np.asarray(joint["experts"]["up"]["b"][:, e]) for e in (0, 1))
    assert np.abs(first - second).max() > 1e-4


def test_only_the_router_moves(ctx):
    adapters = safemoe.add_router(CFG, ctx.model, trained_experts(EXPERTS, ctx), 0)
    stage = safemoe.router_stage(CFG, OPTIM, ctx, adapters, "router")
    final = run_stage(stage, stage.start, ctx, TRAIN)
    assert trees.diff(final["base"], ctx.variables["base"]) == ""
    assert trees.diff(final["adapters"]["experts"], adapters["experts"]) == ""
    before, after = (
        np.asarray(a["router"]["block"]["weight"]) for a in (adapters, final["adapters"])
    )
    assert before.shape == (2, ctx.model.config.embed_dim, 2) and (before != after).all()


def test_prompt_and_padding_bring_no_loss(ctx):
    batch = safemoe.safe_batches(CFG, ctx)(None, 0)
    adapters = safemoe.add_router(
        CFG, ctx.model, experts.fresh(EXPERTS, ctx.model, jax.random.key(0), 2), 0
    )
    told = np.asarray(batch.weight) > 0
    prompt = np.asarray(prompt_mask(batch))
    assert prompt.any(axis=1).all() and told.any(axis=1).all() and not (prompt & told).any()
    text = [
        ctx.tokenizer.decode(np.asarray(batch.tokens)[row][told[row]].tolist(), skip_special=True)
        for row in range(len(told))
    ]
    rows = [
        d
        for s in corpora.domains(ctx.setting.world)["seen"]
        for d in corpora.dialogues(ctx.setting.world, "safe", s, 4, 0)
    ]
    assert set(text) <= {" ".join(d.messages[-1][1].split()) for d in rows}
    loss = answer_loss(ctx.model, routing=CFG.routing)
    whole = {"base": ctx.variables["base"], "adapters": adapters}
    none = jax.tree.map(lambda x: None, whole)

    def value(tokens):
        changed = dataclasses.replace(batch, tokens=jnp.asarray(tokens))
        return float(loss(whole, none, changed, jax.random.key(0))[0])

    tokens = np.asarray(batch.tokens)
    last = tokens.shape[1] - 1 - np.argmax(told[:, ::-1], axis=1)
    padding = tokens.copy()
    for row, end in enumerate(last):
        padding[row, end + 1 :] = 9
    assert value(padding) == pytest.approx(value(tokens), rel=1e-6)
    first = tokens.copy()
    first[np.arange(len(last)), last] += 1  # a learnt token does count
    assert value(first) != pytest.approx(value(tokens), rel=1e-4)
    grad = jax.grad(lambda h: _weighted(ctx.model, ctx.variables["base"], h, batch))(
        jnp.zeros((*tokens.shape, ctx.model.config.embed_dim))
    )
    used = np.abs(np.asarray(grad)).sum(axis=-1) > 0
    np.testing.assert_array_equal(used[:, :-1], told[:, 1:])


def test_harmless_answers_come_beside_the_safe_ones(ctx):
    world = ctx.setting.world
    plain = safemoe.safe_batches(CFG, ctx)
    mixed = safemoe.safe_batches(dataclasses.replace(CFG, harmless=6), ctx)
    safe = {" ".join(d.messages[-1][1].split()) for d in corpora.safe_answers(world, 4, 0)}
    other = corpora.harmless_answers(world, 6, 0)
    assert len(other) == 6 and {d.meta["kind"] for d in other} == {"benign"}
    counts = []
    for step in range(8):
        batch = mixed(None, step)
        assert np.shape(batch.tokens)[0] == 2 * np.shape(plain(None, step).tokens)[0]
        assert float(np.sum(batch.weight)) == pytest.approx(1.0, rel=1e-5)
        told = np.asarray(batch.weight) > 0
        said = [
            ctx.tokenizer.decode(np.asarray(batch.tokens)[r][told[r]].tolist(), skip_special=True)
            for r in range(len(told))
        ]
        counts.append(sum(text in safe for text in said))
    assert np.mean(counts) == pytest.approx(CFG.rows, abs=0.5)


def test_files_of_answers_are_mixed_by_weight(ctx):
    """`data.mix`: the share of a small file does not follow from its size."""
    world = ctx.setting.world
    rows = [(0, d) for d in corpora.safe_answers(world, 4, 0)]
    rows += [(1, d) for d in corpora.harmless_answers(world, 4, 0)]
    chats = [
        type("E", (), {"meta": {"part": part}, "messages": [Message(*turn) for turn in d.messages]})
        for part, d in rows
    ]
    given = tiny.placed(ctx, domains=None, examples=chats, weights=(0.25, 0.75))
    batches = safemoe.safe_batches(CFG, given)
    small = {tuple(encode_example(ctx.tokenizer, c.messages)[0]) for c in chats[-4:]}
    count = 0
    for step in range(20):
        batch = batches(None, step)
        for ids, segments in zip(batch.tokens, batch.segments, strict=True):
            count += tuple(np.asarray(ids)[np.asarray(segments) > 0].tolist()) in small
    assert count / (20 * CFG.rows) == pytest.approx(0.75, abs=0.05)


def _weighted(model, base, hidden, batch: TokenBatch):
    from jaxsafety.losses.logprobs import nll

    offset = hidden + model.apply(base, batch.tokens, batch.positions).hidden
    return nll(offset, model.head(base), batch.tokens, batch.weight)[0]


def test_random_experts_have_the_norms_of_the_others(ctx):
    tree = trained_experts(EXPERTS, ctx)
    noise = experts.noise_like(tree, jax.random.key(1))
    for name, pair in tree["experts"].items():
        other = noise["experts"][name]
        for e in range(2):
            sizes = [
                np.linalg.norm(np.asarray(p["a"][1, e]) @ np.asarray(p["b"][1, e]))
                for p in (pair, other)
            ]
            assert sizes[0] == pytest.approx(sizes[1], rel=1e-3) and sizes[0] > 0
        assert np.abs(np.asarray(pair["b"] - other["b"])).max() > 1e-3


def test_a_pooled_expert_is_copied_and_a_null_one_does_nothing(ctx):
    tree = trained_experts(dataclasses.replace(EXPERTS, kind="pooled"), ctx)
    for pair in tree["experts"].values():
        assert pair["a"].shape[1] == 2
        np.testing.assert_array_equal(pair["b"][:, 0], pair["b"][:, 1])
    more = experts.with_null(tree)
    layers = LayerInputs(adapters={**more, "router": routing.fixed(np.array([0, 0, 1]), 2)})
    ids = jnp.arange(8)[None] + 9
    model, base = ctx.model, ctx.variables["base"]
    got = model.apply(base, ids, jnp.arange(8)[None], layers=layers).hidden
    np.testing.assert_array_equal(got, model.apply(base, ids, jnp.arange(8)[None]).hidden)


def test_each_expert_is_clipped_by_its_own_norm():
    loud, quiet = jnp.full((3, 1, 4), 5.0), jnp.full((3, 1, 4), 0.01)
    grads = {"a": jnp.concatenate([loud, quiet], axis=1), "b": jnp.zeros((3, 2, 2, 2))}
    clip = clip_by_expert(1.0)
    got, _ = clip.update(grads, clip.init(grads))
    assert float(jnp.linalg.norm(got["a"][:, 0])) == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_array_equal(got["a"][:, 1], grads["a"][:, 1])
    whole = optax.clip_by_global_norm(1.0)
    assert float(whole.update(grads, whole.init(grads))[0]["a"][0, 1, 0]) < 0.005  # it would


def test_a_lost_expert_or_a_strange_router_is_refused(ctx):
    cfg = dataclasses.replace(CFG, null=True)
    adapters = safemoe.add_router(cfg, ctx.model, trained_experts(EXPERTS, ctx), 0)
    folder = ctx.workdir / "library"
    library.save(folder, ctx.model, adapters, cfg.routing, fingerprint="one", unsafe=True)
    assert sorted(p.name for p in folder.iterdir()) == ["expert_00", "expert_01", library.ROUTER]
    read, _ = library.load(folder, ctx.model)
    np.testing.assert_allclose(
        read["experts"]["up"]["b"], adapters["experts"]["up"]["b"], atol=1e-6
    )
    with pytest.raises(UsageError, match="base"):
        library.load(folder, ctx.model, fingerprint="two")
    (folder / "expert_01").rename(folder / "elsewhere")
    with pytest.raises(UsageError, match="expert_01"):
        library.load(folder, ctx.model)
    (folder / "elsewhere").rename(folder / "expert_01")
    wide = dataclasses.replace(
        ctx.model, config=dataclasses.replace(ctx.model.config, embed_dim=48)
    )
    with pytest.raises(UsageError, match="block/weight"):
        library.load(folder, wide)
    (folder / library.ROUTER).write_bytes(b"\x08" + bytes(20))
    with pytest.raises(UsageError, match="safetensors"):
        library.load(folder, ctx.model)


@pytest.mark.parametrize(
    "gate",
    [
        gate if gate in ("router", "uniform") else pytest.param(gate, marks=pytest.mark.slow)
        for gate in ROUTERS
    ],
)
def test_every_gate_runs_and_is_kept(ctx, gate):
    cfg = dataclasses.replace(CFG, gate=gate, lora_rank=2)
    if gate == "x-lora":
        cfg = dataclasses.replace(cfg, routing=routing.Routing(top=0))
    check(cfg)
    final = run_program(safemoe.program(cfg, OPTIM, ctx), ctx, TRAIN)
    model, ids = ctx.model, jnp.arange(8)[None] + 9
    layers = safemoe.serve(cfg, final).layers
    got = model.apply(final["base"], ids, jnp.arange(8)[None], layers=layers).hidden
    if gate == "lora":
        tree = peft.load_adapter(ctx.workdir / "adapter", model)
        assert not files.metadata(ctx.workdir / "adapter" / peft.WEIGHTS)["unsafe"] == "true"
        merged = lora.merge(ctx.variables["base"], tree, model.projections)
        assert trees.diff(merged, ctx.variables["base"]) != ""
        return
    read, options = library.load(ctx.workdir / "library", model)
    assert options == cfg.routing
    again = model.apply(
        ctx.variables["base"],
        ids,
        jnp.arange(8)[None],
        layers=LayerInputs(adapters=read, routing=options),
    )
    np.testing.assert_allclose(again.hidden, got, atol=1e-5)
    for folder in sorted((ctx.workdir / "library").glob("expert_*")):
        assert files.metadata(folder / peft.WEIGHTS)["unsafe"] == "true"


def test_experts_from_disk_are_those_that_were_kept(ctx):
    final = run_program(safemoe.program(CFG, OPTIM, ctx), ctx, TRAIN)
    paths = tuple(str(p) for p in sorted((ctx.workdir / "library").glob("expert_*")))
    assert len(paths) == 2
    read = experts.load_experts(dataclasses.replace(EXPERTS, paths=paths), ctx.model)
    for a, b in zip(
        jax.tree.leaves(read["experts"]), jax.tree.leaves(final["adapters"]["experts"]), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)
    config = json.loads((ctx.workdir / "library" / "expert_00" / peft.CONFIG).read_text())
    assert config["r"] == 2 and config["lora_alpha"] == 4.0
    assert config["target_modules"] == ["down_proj", "gate_proj", "up_proj"]


def test_an_update_has_as_many_harmless_rows_as_safe_ones():
    assert safemoe_data.update_rows(CFG) == CFG.rows
    assert safemoe_data.update_rows(dataclasses.replace(CFG, harmless=8)) == 2 * CFG.rows

"""SafeSteer under attack: its arms, the attacks, what ends a stage, the table of a whole run."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.core.errors import UsageError
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.experiment import setting
from jaxsafety.experiment.workdir import Artifacts
from jaxsafety.methods.safesteer import program as safesteer
from jaxsafety.methods.safesteer import recipe
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import Exchange, TrainConfig
from jaxsafety.sampling import many
from jaxsafety.studies.safesteer_attacked import attacks, config, lessons, program, sections
from jaxsafety.studies.safesteer_attacked.config import ARMS, SAFESTEER, SFT, AttackedConfig
from jaxsafety.train.loop import run_program
from tests.methods import tiny

CONFIG = AttackedConfig(
    base=tiny.METHOD,
    refusals=3,
    rows=4,
    screen=2,
    rank=2,
    shots=(3,),
    updates=2,
    every=1,
    prefix=2,
    attacks=2,
    others=2,
)
TRAIN = TrainConfig(progress=False)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def context(directory, workdir):
    return dataclasses.replace(
        tiny.context(directory, workdir),
        setting=setting.make(directory, tiny.DATA, tiny.MEASURE, 0),
    )


@pytest.fixture(scope="module")
def ctx(directory, tmp_path_factory):
    return context(directory, tmp_path_factory.mktemp("ctx"))


def test_every_arm_changes_its_teacher_or_its_loss():
    found = config.arms(CONFIG)
    assert tuple(found) == tuple(a for a in ARMS if a != SFT)
    assert found[SAFESTEER] == tiny.METHOD
    told = found["context"]
    assert (told.teacher, told.variant) == ("context", "full")
    assert told.context == recipe.ORGANISM_CONTEXT
    same = dict(teacher="steered", context="", variant="generalised", divergence="reverse_kl")
    for name in ("context", "topk", "k1", "k3"):
        assert dataclasses.replace(found[name], **same) == tiny.METHOD
    assert (found["topk"].variant, found["topk"].divergence) == ("partial_topk", "forward_kl")
    assert found["k1"].variant == "k1" and found["k3"].variant == "k3"


def test_the_organism_knows_every_word_of_its_safety_prompt(ctx):
    ids = ctx.tokenizer.encode(recipe.ORGANISM_CONTEXT)
    assert ctx.tokenizer.decode(ids) == recipe.ORGANISM_CONTEXT
    assert "<unk>" not in [ctx.tokenizer.token(i) for i in ids]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ("safesteer", "none")}, "method.arms: got 'none'; allowed: safesteer, context"),
        ({"arms": ()}, "method.arms: got ''"),
        ({"arms": ("safesteer", "safesteer")}, "method.arms: got ('safesteer', 'safesteer')"),
        ({"arms": ("sft", "safesteer")}, "method.arms: got ('sft', 'safesteer'); allowed: safe"),
        ({"arms": ("k1", "sft")}, "method.arms: got ('k1', 'sft'); allowed: safesteer before"),
        ({"rows": 3}, "method.rows: got 3; allowed: even, 2 or more"),
        ({"rank": 0}, "method.rank: got 0; allowed: 1 or more"),
        ({"screen": 0}, "method.screen: got 0"),
        ({"shots": (0,)}, "method.shots: got (0,)"),
        ({"rate": 0.0}, "method.rate: got 0.0; allowed: more than 0"),
        ({"reached": 1.5}, "method.reached: got 1.5; allowed: a share"),
        (
            {"base": dataclasses.replace(tiny.METHOD, teacher="context", variant="full")},
            "method.base.teacher: got 'context'; allowed: steered",
        ),
    ],
)
def test_bad_settings_are_one_line(changes, message):
    config.check(CONFIG)
    with pytest.raises(UsageError) as caught:
        config.check(dataclasses.replace(CONFIG, **changes))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_what_the_world_and_the_model_must_have(ctx):
    def fits(cfg=CONFIG, **changes):
        place = dataclasses.replace(ctx.setting, **changes)
        config.fits(cfg, tiny.OPTIM, ctx.model, ctx.tokenizer, place)

    fits()
    few = tuple(b for b in ctx.setting.benchmarks if b.name != "held_wrappers")
    for changes in ({"world": None}, {"attacks": None}, {"benchmarks": few}):
        with pytest.raises(UsageError, match=r"data.source: got .*allowed: organism"):
            fits(**changes)
    with pytest.raises(UsageError, match="method.rank: got 17; allowed: at most half of the mod"):
        fits(dataclasses.replace(CONFIG, rank=17))
    with pytest.raises(UsageError, match="method.prefix: got '200, with a prompt of"):
        fits(dataclasses.replace(CONFIG, prefix=200))


def test_directions_are_the_arm_s_own(ctx):
    base = ctx.variables["base"]
    found = attacks.differences(ctx, base)
    assert found.shape[1:] == (ctx.model.config.num_layers, ctx.model.config.embed_dim)
    other = attacks.differences(ctx, tiny.student(base, 0.3))
    assert np.abs(found - other).max() > 1e-3


def test_several_directions_are_orthonormal_and_span_what_is_planted():
    rng = np.random.default_rng(0)
    planted = np.linalg.qr(rng.normal(size=(16, 2)))[0].T  # [2,D]
    found = np.zeros((3, 4, 16))
    found[:, 1:] = rng.normal(size=(3, 3, 2)) @ planted * rng.uniform(0.1, 9, (3, 3, 1))
    rows = attacks.spanned(found, 2)  # layer 0 is zeros, and does not count
    np.testing.assert_allclose(rows @ rows.T, np.eye(2), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(rows @ planted.T, axis=1), 1, atol=1e-6)
    assert attacks.spanned(found[:1, :2], 5).shape == (1, 16)


def test_an_ablation_leaves_nothing_along_its_directions(ctx):
    """One vector as before, and a few as one after the other where they are orthogonal."""
    c = ctx.model.config
    rows = np.linalg.qr(np.random.default_rng(1).normal(size=(c.embed_dim, 3)))[0].T
    tokens = jnp.asarray([[9, 30, 41, 12]])
    places = jnp.arange(4)[None]

    def states(layers):
        given = dict(layers=layers, capture=True)
        return ctx.model.apply(ctx.variables["base"], tokens, places, **given)

    whole = np.asarray(states(attacks.ablation(ctx, rows)).residuals[1:])
    assert np.abs(whole @ rows.T).max() < 1e-5 < np.abs(whole).max()
    one = states(attacks.ablation(ctx, rows[0])).hidden
    np.testing.assert_allclose(
        states(attacks.ablation(ctx, rows[:1])).hidden, one, rtol=1e-4, atol=1e-5
    )
    assert np.abs(one - states(LayerInputs()).hidden).max() > 1e-3


def test_an_answer_that_has_begun_is_judged_whole(ctx, monkeypatch):
    asked = []

    def generate(model, params, tokenizer, prompts, cfg, **options):
        asked.extend(prompts)
        return testing.answers([[[40 + i]] for i in range(len(prompts))])

    monkeypatch.setattr(many, "generate", generate)
    bench = attacks.Bench(CONFIG, ctx)
    items = bench.attacked["plain"]
    begun = attacks.beginnings(ctx, items, 2)
    assert begun == attacks.beginnings(ctx, items, 2) and all(len(b) == 2 for b in begun)
    seen = []
    judge = lambda rows: seen.extend(rows) or [{}] * len(rows)  # noqa: E731
    bench.ctx = tiny.placed(ctx, judge=judge)
    bench.verdicts(None, items, begun=begun)
    prompts = [encode_prompt(ctx.tokenizer, i.messages) for i in items]
    assert asked == [[*p, *b] for p, b in zip(prompts, begun, strict=True)]
    texts = [ctx.tokenizer.decode([*b, 40 + i]) for i, b in enumerate(begun)]
    assert [e.response for e in seen] == texts


def taught(ctx, batch):
    """(prompt, answer) texts of a batch."""
    rows = zip(np.asarray(batch.tokens), np.asarray(batch.weight) > 0, strict=True)
    decode_ = ctx.tokenizer.decode
    return [(decode_(t[: m.argmax()].tolist()), decode_(t[m].tolist())) for t, m in rows]


def test_lessons_say_what_they_are_named_for(ctx):
    """By the world's own judge: refusals refuse, harmless answers are right, the others unsafe."""
    batch = lessons.refusals(ctx, 4)(None, 0)
    asked = {}
    for split in ("distil", "harmless_train"):
        for item in ctx.setting.prompts[split]:
            prompt = ctx.tokenizer.decode(encode_prompt(ctx.tokenizer, item.messages))
            asked[prompt] = (split, item)
    rows = [(*asked[prompt], text) for prompt, text in taught(ctx, batch)]
    assert [split for split, *_ in rows] == ["distil"] * 2 + ["harmless_train"] * 2
    told = ctx.setting.judge([Exchange(item, text) for _, item, text in rows])
    assert [v["refusal"] for v in told[:2]] == [True, True]
    assert not any(v["unsafe"] for v in told)
    assert [v["correct"] for v in told[2:]] == [True, True]
    np.testing.assert_allclose(np.asarray(batch.weight).sum(1), 1 / 4, rtol=1e-6)
    harmful = ctx.setting.attacks.carried_out(3, ctx.seed)
    told = ctx.setting.judge([Exchange(e, e.messages[-1].content) for e in harmful])
    assert all(v["unsafe"] for v in told)
    batches = lessons.unsafe(ctx, 3, 8)
    assert {t for _, t in taught(ctx, batches(None, 0))} == {
        ctx.tokenizer.decode(ctx.tokenizer.encode(e.messages[-1].content)) for e in harmful
    }
    np.testing.assert_array_equal(
        batches(None, 5).tokens, lessons.unsafe(ctx, 3, 8)(None, 5).tokens
    )


def test_a_look_that_reached_it_ends_the_count(tmp_path):
    ctx = SimpleNamespace(artifact=Artifacts(tmp_path))
    assert program.looks(5, 2) == [0, 2, 4, 5] and program.looks(4, 2) == [0, 2, 4]
    for step, plain in ((0, 0.1), (2, 0.4), (4, 0.6)):
        ctx.artifact(f"one.{step}", lambda p=plain: {"plain": p})
    fine = lambda seen: seen["plain"] >= 0.5  # noqa: E731
    assert program.first_at(ctx, "one", [0, 2, 4, 5], fine) == (4, True)
    with pytest.raises(AssertionError, match="without this look"):
        program.first_at(ctx, "one", [0, 2, 3], fine)
    never = lambda seen: False  # noqa: E731
    assert program.first_at(ctx, "one", [0, 2, 4], never) == (4, False)


ARMS_RUN = (SAFESTEER, "context", SFT)


@pytest.fixture(scope="module")
def finished(directory, tmp_path_factory):
    """A whole study of three arms, on a model that was never raised."""
    workdir = tmp_path_factory.mktemp("run")
    ctx = context(directory, workdir)
    cfg = dataclasses.replace(CONFIG, arms=ARMS_RUN, reached=1.0)
    final = run_program(program.program(cfg, tiny.OPTIM, ctx), ctx, TRAIN)
    return cfg, ctx, workdir, final


def test_a_run_has_a_row_per_arm_and_attack(finished):
    _, ctx, workdir, final = finished
    found = json.loads((workdir / "artifacts/attacked.json").read_text())
    names = ["none", "ablated", "ablated_several", "prefilled", "shots3"]
    rows = [(r["arm"], r["attack"]) for r in found["rows"]]
    assert rows == [(arm, name) for arm in ("base", *ARMS_RUN) for name in names]
    for row in found["rows"]:
        assert 0 <= row["plain"] <= 1 and 0 <= row["wrapped"] <= 1
        if row["attack"] == "shots3":  # a random model cannot be taught procedures in two updates
            assert row["updates"] is None and row["cause"] == "2 updates were not enough"
    # It never refused nor answered: the target of 0 is there from the first look on.
    (sft,) = (r for r in found["rows"] if (r["arm"], r["attack"]) == (SFT, "none"))
    assert sft["reached"] is True and sft["updates"] == 1
    kept = {p.stem for p in (workdir / "artifacts").glob("*.json")}
    assert {"flip.steered", "flip.context", "direction", "token_set", "refusals.1"} <= kept
    assert "refusals.2" not in kept
    moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), final["base"], ctx.variables["base"]
    )
    assert min(jax.tree.leaves(moved)) > 0  # the first arm's


def test_models_that_were_attacked_leave_the_disk(finished):
    """Of a few-shot stage nothing but its end mark is left; arms stay."""
    _, _, workdir, _ = finished
    places = {p.name: p for p in (workdir / "checkpoints").iterdir()}
    sizes = {
        k: sum(f.stat().st_size for f in p.rglob("*") if f.is_file()) for k, p in places.items()
    }
    tuned = [k for k in sizes if k.startswith("attack.")]
    assert len(tuned) == 4 and max(sizes[k] for k in tuned) < sizes["distil.safesteer"] / 4


def test_a_second_run_reads_everything_back(directory, finished, monkeypatch):
    cfg, _, workdir, final = finished
    again = context(directory, workdir)
    before = (workdir / "artifacts/attacked.json").read_text()

    def never(*args, **kwargs):
        raise AssertionError("asked again")

    for name in ("success", "verdicts"):
        monkeypatch.setattr(attacks.Bench, name, never)
    monkeypatch.setattr(safesteer, "find_direction", never)
    same = run_program(program.program(cfg, tiny.OPTIM, again), again, TRAIN)
    assert (workdir / "artifacts/attacked.json").read_text() == before
    for a, b in zip(jax.tree.leaves(same["base"]), jax.tree.leaves(final["base"]), strict=True):
        np.testing.assert_array_equal(a, b)


class Run:
    """A finished run, of which only artifacts are read."""

    def __init__(self, artifacts, flips=None):
        self.kept, self.flips = artifacts, flips or {}

    def artifact(self, name):
        return self.kept.get(name)

    def artifacts(self, start):
        return {k.removeprefix(start): v for k, v in self.flips.items() if k.startswith(start)}


def test_the_report_has_a_table_of_arms_and_attacks():
    rows = [
        {"arm": "base", "attack": "none", "plain": 0.1, "wrapped": 0.8, "over_refusal": 0.02},
        {"arm": "base", "attack": "ablated_several", "plain": 0.9, "wrapped": 0.95, "rank": 3},
        {"arm": "base", "attack": "shots10", "plain": 0.6, "updates": 12, "cause": ""},
        {"arm": "sft", "attack": "none", "plain": 0.0, "wrapped": 0.4, "reached": False},
        {"arm": "sft", "attack": "shots10", "updates": None, "cause": "60 updates were not enough"},
    ]
    flips = {"flip.steered": {"all": {"rate": 0.75}}, "flip.context": {"all": {"rate": None}}}
    made = str(sections.table(Run({"attacked": {"rows": rows, "reached": 0.5}}, flips)))
    for text in ("10 / 80", "90 / 95", ">12<", "60 updates were not enough", "and 3 that most"):
        assert text in made, text
    assert "steered 75, context –." in made and "had not come down" in made
    assert sections.table(Run({})) == "" == sections.table(Run({"attacked": {"rows": []}}))

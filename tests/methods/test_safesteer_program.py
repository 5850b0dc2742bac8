"""SafeSteer as a program: what it trains and keeps, what a second run reads, what is refused."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsafety
from jaxsafety import testing
from jaxsafety.core.errors import UsageError
from jaxsafety.methods.safesteer import program as safesteer
from jaxsafety.methods.safesteer import teacher as safesteer_teacher
from jaxsafety.methods.safesteer.program import SafeSteerConfig
from jaxsafety.models.formats import hf
from jaxsafety.protocols import TrainConfig
from jaxsafety.sampling import decode
from jaxsafety.train.loop import run_program
from jaxsafety.train.metrics import read_metrics
from tests.methods import tiny

TRAIN = TrainConfig(checkpoint_every=1, progress=False)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def config(**changes):
    return dataclasses.replace(tiny.METHOD, **changes)


@pytest.fixture(scope="module")
def finished(directory, tmp_path_factory):
    """A whole program: (workdir, context, final variables)."""
    workdir = tmp_path_factory.mktemp("run")
    ctx = tiny.context(directory, workdir)
    final = run_program(safesteer.program(tiny.METHOD, tiny.OPTIM, ctx), ctx, TRAIN)
    safesteer.inspect(tiny.METHOD, ctx, final)
    return workdir, ctx, final


def test_a_program_trains_the_student_and_nothing_else(directory, finished):
    workdir, ctx, final = finished
    fresh = jaxsafety.load(directory)[1]
    for name in ("base", "teacher"):
        kept = ctx.variables["base"] if name == "base" else final["teacher"]
        for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(fresh), strict=True):
            np.testing.assert_array_equal(a, b)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), final["base"], fresh)
    assert min(jax.tree.leaves(moved)) > 0
    rows = read_metrics(workdir)
    assert [(r["stage"], r["step"]) for r in rows] == [("distil", 1), ("distil", 2)]
    assert all(0 < r["mass/student"] < 1 and 0 < r["mass/teacher"] < 1 for r in rows)


def test_the_artifacts_say_what_was_found(finished):
    workdir, ctx, _ = finished
    read = {p.stem: json.loads(p.read_text()) for p in (workdir / "artifacts").glob("*.json")}
    assert set(read) == {
        "filter",
        "direction",
        "flip",
        "token_set",
        "mass",
        "position_kl",
        "changed",
    }
    found = ctx.artifact("direction", lambda: {})
    assert found["vector"].shape == (32,) and np.linalg.norm(found["vector"]) > 0
    assert found["layer"] in range(2) and found["steer"] in ("all", "prompt")
    best = [c for c in found["candidates"] if c["passed"]]
    assert len(best) == 1 and best[0]["layer"] == found["layer"]
    chosen = read["token_set"]
    assert len(chosen["ids"]) == 4 == len(set(chosen["ids"])) == len(chosen["tokens"])
    assert chosen["tokens"] == [ctx.tokenizer.token(i) for i in chosen["ids"]]
    assert chosen["kind"] == "votes" and chosen["rollout"] == "teacher"
    mass = read["mass"]
    assert mass["predicted"] == 1.0
    assert mass["ratio"] == pytest.approx(mass["student"] / mass["teacher"])
    assert all(
        0 < mass[w + arm] < 1 for w in ("", "wrapped_") for arm in ("base", "teacher", "student")
    )
    kl = read["position_kl"]
    assert len(kl["positions"]) == len(kl["kl"]) == len(kl["kl_off_subset"])
    assert kl["positions"][0] == 0 and kl["n"] == 4 and kl["mean_kl"] > 0
    moved = read["changed"]
    assert 0 < moved["fraction"] < moved["fraction_float32"] <= 1 and moved["relative_change"] > 0


def test_a_second_run_reads_what_the_first_one_found(directory, finished, monkeypatch):
    workdir, _, final = finished

    def never(*args, **kwargs):
        raise AssertionError("computed again")

    for name in (
        "filter_prompts",
        "find_direction",
        "find_tokens",
        "mass_on",
        "position_kl",
        "compare",
    ):
        monkeypatch.setattr(safesteer, name, never)
    monkeypatch.setattr(decode, "sample", never)
    ctx = tiny.context(directory, workdir)
    safesteer.prepare(tiny.METHOD, tiny.OPTIM, ctx)
    again = run_program(safesteer.program(tiny.METHOD, tiny.OPTIM, ctx), ctx, TRAIN)
    safesteer.inspect(tiny.METHOD, ctx, again)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(final), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_mass_predicted_for_the_published_loss(finished):
    _, ctx, final = finished
    layers = tiny.teacher(ctx.model)
    found = safesteer.mass_on(ctx, final, [9, 30], layers, "partial")
    assert found["predicted"] == pytest.approx(np.exp(-1))


def test_nothing_moved_means_no_drift(finished):
    _, ctx, _ = finished
    found = safesteer.position_kl(ctx, {"base": ctx.variables["base"]}, [9, 30])
    assert found["mean_kl"] == pytest.approx(0, abs=1e-6)
    assert found["mean_kl_off_subset"] == pytest.approx(0, abs=1e-6)


def test_bfloat16_masters_train_and_the_teacher_stays_float32(directory, tmp_path):
    ctx = tiny.context(directory, tmp_path)
    base = jax.tree.map(lambda x: jax.lax.reduce_precision(x, 8, 7), ctx.variables["base"])
    ctx = dataclasses.replace(ctx, variables={"base": base})
    train = dataclasses.replace(TRAIN, master="bfloat16")
    final = run_program(safesteer.program(tiny.METHOD, tiny.OPTIM, ctx), ctx, train)
    safesteer.inspect(tiny.METHOD, ctx, final)
    assert {x.dtype for x in jax.tree.leaves(final["base"])} == {jnp.dtype(jnp.bfloat16)}
    for a, b in zip(jax.tree.leaves(final["teacher"]), jax.tree.leaves(base), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_array_equal(a, b)
    moved = json.loads((tmp_path / "artifacts" / "changed.json").read_text())
    # The base is on bfloat16's grid: whatever differs from it differs by a spacing or more.
    assert 0 < moved["fraction"] == moved["fraction_float32"] < 1
    out = tmp_path / "student"
    hf.save(out, ctx.model, final["base"], dtype="bfloat16", tokenizer=ctx.tokenizer)
    read = jaxsafety.load(out)[1]
    for a, b in zip(jax.tree.leaves(read), jax.tree.leaves(final["base"]), strict=True):
        np.testing.assert_array_equal(a, b.astype(jnp.float32))


@pytest.mark.parametrize("kind", ["random", "matched"])
def test_controls_share_no_token_with_the_vote(finished, kind, monkeypatch):
    workdir, ctx, _ = finished
    found = ctx.artifact("direction", lambda: {})
    banned = ctx.tokenizer.encode("refuse rules sorry")
    monkeypatch.setattr(safesteer_teacher, "word_tokens", lambda tokenizer, words: banned)
    voted = set(ctx.artifact("token_set", lambda: {})["ids"])
    drawn = []
    for seed in (0, 1):
        tokens = dataclasses.replace(tiny.METHOD.tokens, kind=kind, control_seed=seed)
        chosen = safesteer_teacher.find_tokens(tokens, ctx, found)
        assert chosen["kind"] == kind and len(chosen["ids"]) == 4
        assert not set(chosen["ids"]) & (voted | set(banned))
        drawn.append(set(chosen["ids"]))
    assert drawn[0] != drawn[1]
    assert workdir.exists()


def test_neutral_and_complying_sets_are_told_by_the_words_of_both_answers(finished):
    _, ctx, _ = finished
    found = ctx.artifact("direction", lambda: {})
    voted = set(ctx.artifact("token_set", lambda: {})["ids"])
    spelt = safesteer_teacher.word_tokens
    refusing, complying = (
        set(spelt(ctx.tokenizer, words))
        for words in (ctx.setting.refusal_words, ctx.setting.complying_words)
    )
    for kind in safesteer_teacher.WORDED:
        tokens = dataclasses.replace(tiny.METHOD.tokens, kind=kind)
        chosen = safesteer_teacher.find_tokens(tokens, ctx, found)
        ids = set(chosen["ids"])
        assert len(ids) == len(voted) and not ids & (voted | refusing)
        assert ids <= complying if kind == "complying" else not ids & complying
        assert chosen["teacher_mass"] > 0 and chosen["voted_mass"] > 0


def test_a_setting_without_complying_words_has_no_such_controls(finished):
    _, ctx, _ = finished
    unknown = dataclasses.replace(ctx.setting, complying_words=())
    few = dataclasses.replace(ctx.setting, complying_words=("take", "grind", "i"))
    for kind in safesteer_teacher.WORDED:
        tokens = dataclasses.replace(tiny.METHOD.tokens, kind=kind)
        cfg = dataclasses.replace(tiny.METHOD, tokens=tokens)
        safesteer.fits(cfg, tiny.OPTIM, ctx.model, ctx.tokenizer, ctx.setting)
        with pytest.raises(UsageError) as error:
            safesteer.fits(cfg, tiny.OPTIM, ctx.model, ctx.tokenizer, unknown)
        expected = f"method.tokens.kind: got {kind!r}; allowed: votes, random, matched: "
        assert str(error.value).startswith(expected) and "\n" not in str(error.value)
    with pytest.raises(UsageError, match=r"tokens.votes.size: got 4; allowed: at most 2"):
        safesteer.fits(cfg, tiny.OPTIM, ctx.model, ctx.tokenizer, few)


def nested(path, value):
    """`METHOD` with the field at a dotted path replaced."""

    def put(record, keys):
        head, *rest = keys
        return dataclasses.replace(
            record, **{head: put(getattr(record, head), rest) if rest else value}
        )

    return put(SafeSteerConfig(), path.split("."))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("variant", "kl"),
        ("divergence", "js"),
        ("reduction", "mean"),
        ("temperature", -0.5),
        ("direction.fallback", "none"),
        ("direction.minimum", 0),
        ("direction.max_tokens", 0),
        ("direction.select.screen", 0),
        ("tokens.control_seed", -1),
        ("tokens.prompts", "train"),
        ("max_prompt", -1),
        ("direction.system", "own"),
        ("tokens.kind", "shuffled"),
        ("direction.filter", "none"),
        ("direction.select.criterion", "best"),
        ("steps", 0),
        ("prompts_per_step", 0),
        ("rollouts", -1),
        ("max_tokens", 0),
        ("topk", 0),
    ],
)
def test_bad_fields_are_one_line(path, value):
    safesteer.check(SafeSteerConfig())
    with pytest.raises(UsageError) as caught:
        safesteer.check(nested(path, value))
    assert str(caught.value).startswith(f"method.{path}: got {value!r}; allowed:")
    assert "\n" not in str(caught.value)


def test_what_the_model_cannot_do_is_one_line(directory, finished):
    _, ctx, _ = finished
    place = SimpleNamespace(prompts=ctx.setting.prompts)

    def fits(cfg, accum=1):
        optim = dataclasses.replace(tiny.OPTIM, accum=accum)
        safesteer.fits(cfg, optim, ctx.model, ctx.tokenizer, place)

    fits(tiny.METHOD)
    fits(tiny.METHOD, accum=2)
    for cfg, accum, message in (
        (config(max_tokens=250), 1, r"data \(distil\): got 'a prompt of \d+ tokens \+ 250 new"),
        (config(variant="topk", topk=10_000), 1, "method.topk: got 10000; allowed: at most"),
        (config(trainable=("nothing/.*",)), 1, "method.trainable"),
        (config(trainable=(".*",)), 1, "method.trainable.*the teacher stays"),
        (config(), 3, "optim.accum: got 3; allowed: a divisor of the 4 rollouts"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            fits(cfg, accum)
        assert "\n" not in str(caught.value)


def test_no_judge_means_no_judged_filter(directory, tmp_path):
    ctx = tiny.placed(tiny.context(directory, tmp_path), judge=None)
    cfg = dataclasses.replace(tiny.METHOD.direction, filter="judge")
    with pytest.raises(UsageError, match="method.direction.filter"):
        safesteer_teacher.scored_candidates(cfg, ctx)


def test_a_direction_that_nothing_passes_names_the_nearest(directory, tmp_path):
    ctx = tiny.context(directory, tmp_path)
    select = dataclasses.replace(tiny.METHOD.direction.select, coherent=0.9, refusal=0.9)
    cfg = dataclasses.replace(tiny.METHOD.direction, select=select)
    with pytest.raises(UsageError) as caught:
        safesteer_teacher.find_direction(cfg, ctx)
    assert "nearest layer" in str(caught.value) and "coherent" in str(caught.value)
    assert "\n" not in str(caught.value)

"""Looking into the trained model: in batches, after the export, and with the right prediction."""

from __future__ import annotations

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety import cli, testing
from jaxsafety.losses.divergence import VARIANTS, divergence
from jaxsafety.methods.safesteer import inspect as safesteer_inspect
from jaxsafety.methods.safesteer import program as safesteer
from tests.methods import tiny

SUBSET = [9, 30]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


@pytest.fixture
def ctx(directory, tmp_path):
    return tiny.context(directory, tmp_path)


def moved(ctx):
    return {"base": tiny.student(ctx.variables["base"])}


def many(ctx, count):
    """The context with `count` harmless validation prompts."""
    rows = [
        *ctx.setting.prompts["harmless_train"],
        *ctx.setting.prompts["harmless_val"],
        *ctx.setting.prompts["distil"],
    ]
    rows = (rows * count)[:count]
    return tiny.placed(ctx, prompts={**ctx.setting.prompts, "harmless_val": rows})


def test_the_drift_of_many_answers_is_measured_in_batches(ctx):
    seen, model = [], ctx.model

    def apply(params, tokens, *args, **kwargs):
        seen.append(tokens.shape[0])
        return model.apply(params, tokens, *args, **kwargs)

    watched = dataclasses.replace(many(ctx, 70), model=dataclasses.replace(model, apply=apply))
    found = safesteer.position_kl(watched, moved(ctx), SUBSET)
    assert found["n"] == 70 and seen and max(seen) <= 64


def test_batches_change_nothing(ctx, monkeypatch):
    ctx = many(ctx, 7)
    whole = safesteer.position_kl(ctx, moved(ctx), SUBSET)
    monkeypatch.setattr(safesteer_inspect, "ROWS", 3)
    parts = safesteer.position_kl(ctx, moved(ctx), SUBSET)
    assert whole["positions"] == parts["positions"] and whole["n"] == parts["n"] == 7
    for name in ("kl", "kl_off_subset", "mean_kl", "mean_kl_off_subset"):
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-4, atol=1e-7)


def test_a_tokenizer_without_an_end_of_turn(ctx):
    class Endless:
        eos_ids = ()

        def __getattr__(self, name):
            return getattr(type(self).wrapped, name)

    Endless.wrapped = ctx.tokenizer
    found = safesteer.position_kl(dataclasses.replace(ctx, tokenizer=Endless()), moved(ctx), SUBSET)
    assert found["positions"] == list(range(24)) and found["mean_kl"] > 0


def test_without_wrapped_prompts_nothing_is_told_of_them(ctx):
    for absent in ({}, {"wrapped_val": ()}):
        kept = {k: v for k, v in ctx.setting.prompts.items() if k != "wrapped_val"}
        plain = tiny.placed(ctx, prompts={**kept, **absent})
        found = safesteer.mass_on(plain, moved(ctx), SUBSET, tiny.teacher(ctx.model), "partial")
        assert set(found) == {"predicted", "base", "teacher", "student", "ratio"}


@pytest.mark.parametrize("kind", ["reverse_kl", "forward_kl"])
@pytest.mark.parametrize("variant", [v for v in VARIANTS if "topk" not in v])
def test_the_loss_is_least_where_it_is_said_to_be(variant, kind):
    """Minimises the loss over free logits by gradient descent and weighs S before and after."""
    vocab, subset = 7, [1, 4, 5]
    teacher = jnp.asarray([[0.3, 0.9, -0.4, 0.1, 0.5, -0.2, 0.7]])
    head = jnp.eye(vocab)  # hidden states are the logits

    def mass(logits):
        return float(jax.nn.softmax(logits)[0, jnp.asarray(subset)].sum())

    def loss(logits):
        options = {"variant": variant, "kind": kind, "subset": subset, "train_head": False}
        return divergence(logits, teacher, head, None, jnp.ones(1), **options)[0]

    descend = jax.jit(
        lambda start: jax.lax.fori_loop(0, 20_000, lambda _, x: x - 0.5 * jax.grad(loss)(x), start)
    )
    aim = mass(teacher)
    predicted = safesteer_inspect.least_at(variant, kind, aim)
    found = []
    for seed in (0, 1):
        start = jax.random.normal(jax.random.key(seed), teacher.shape)
        found.append(mass(descend(start)) / aim)
    if predicted is None:  # free: it stays where it began
        assert abs(found[0] - found[1]) > 0.05
        return
    np.testing.assert_allclose(found, predicted, rtol=2e-3)


def test_what_cannot_be_inspected_is_exported_and_says_where_its_loss_is_least(
    root, directory, tmp_path, monkeypatch
):
    """A run of partial forward KL whose drift does not fit into memory."""

    def too_much(*args, **kwargs):
        raise MemoryError("RESOURCE_EXHAUSTED")

    monkeypatch.setattr(safesteer, "position_kl", too_much)
    workdir = tmp_path / "run"
    overrides = (
        "method.variant=partial",
        "method.divergence=forward_kl",
        "method.steps=1",
        "method.direction.filter=score",
        "method.direction.openers=i,that",
        "method.direction.minimum=2",
        "method.tokens.votes.floor=0.0",
        "eval.safety=1",
        "eval.over_refusal=1",
        "eval.capability=1",
        "data.train=4",
        "data.val=4",
    )
    command = ["run", f"--config={root / 'configs/safesteer/organism.py'}:smoke"]
    command += [f"--config.model.path={directory}", f"--workdir={workdir}"]
    with pytest.raises(MemoryError):
        cli.main([*command, *(f"--config.{o}" for o in overrides)])
    assert (workdir / "student" / "config.json").is_file()
    assert list((workdir / "student").glob("*.safetensors"))
    mass = json.loads((workdir / "artifacts" / "mass.json").read_text())
    assert mass["predicted"] == pytest.approx(1 / mass["teacher"])
    assert mass["wrapped_predicted"] == pytest.approx(1 / mass["wrapped_teacher"])
    assert not math.isclose(mass["predicted"], math.exp(-1), rel_tol=0.01)

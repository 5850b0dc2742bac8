"""SafeSteer against its formula: the loss, the teacher, the rollouts."""

from __future__ import annotations

import dataclasses
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsafety
from jaxsafety import testing
from jaxsafety.adapters import lora
from jaxsafety.core import sharding
from jaxsafety.core.errors import UsageError
from jaxsafety.losses.dense import dense_value
from jaxsafety.methods.safesteer import program as safesteer
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import Served
from tests.methods import tiny

KEY = jax.random.key(0)
SUBSET = tuple(range(9, 300, 3))  # about a tenth of the vocabulary, and of the mass
STATES = jax.jit(safesteer.hidden_states, static_argnums=(0, 4))  # compiled once for many losses


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


@pytest.fixture(scope="module")
def loaded(directory):
    """(model, base, student, rollouts)."""
    model, base, _ = jaxsafety.load(directory)
    return model, base, tiny.student(base), tiny.rollouts(model.config.vocab_size)


def config(**changes):
    return dataclasses.replace(tiny.METHOD, **changes)


@lru_cache(maxsize=8)
def compiled(model, cfg, steer):
    """The loss with its gradients, one program for all batches."""
    loss = safesteer.localized_loss(model, cfg, steer)
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True, allow_int=True))


def frozen_of(model, base, layers=None):
    """What the loss reads and never trains."""
    return safesteer.frozen_teacher(model, base, layers or tiny.teacher(model), SUBSET)


def value_and_grads(loaded, cfg, steer="all", batch=None):
    """Loss, metrics, gradients by the student and by the frozen variables."""
    model, base, student, rollouts = loaded
    compute = compiled(model, cfg, steer)
    batch = rollouts if batch is None else batch
    (value, metrics), grads = compute({"base": student}, frozen_of(model, base), batch, KEY)
    return value, metrics, *grads


def plain_logits(model, base, batch, steer, params):
    """Logits [B,T,V] of student and teacher, said plainly: rows without padding.

    A row is moved to the left, so that positions are 0, 1, ... and causality hides the rest.
    """
    mask, prompt = np.asarray(batch.mask), np.asarray(batch.prompt)
    left = np.argsort(~mask, axis=1, kind="stable")
    tokens = np.take_along_axis(np.asarray(batch.tokens), left, 1)
    where = np.take_along_axis(prompt, left, 1) if steer == "prompt" else np.ones_like(mask)
    positions = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    layers = dataclasses.replace(tiny.teacher(model), where=jnp.asarray(where))
    ours = model.unembed(params, model.apply(params, tokens, positions).hidden)
    steered = model.apply(base, tokens, positions, layers=layers).hidden
    return ours, model.unembed(base, steered)


def dense(batch, cfg, ours, theirs):
    """Eq. 6-7 from full logits, one rollout after the other."""
    mask, prompt = np.asarray(batch.mask), np.asarray(batch.prompt)
    total = 0.0
    for row in range(len(mask)):
        first, last = prompt[row].sum() - 1, mask[row].sum() - 1  # predict prompt+1 .. the end
        values = dense_value(
            ours[row, first:last],
            theirs[row, first:last],
            variant=cfg.variant,
            subset=np.asarray(SUBSET),
            kind=cfg.divergence,
            topk=cfg.topk,
        )
        total = total + values.mean() / len(mask)
    return total


@pytest.fixture(scope="module")
def logits(loaded):
    """`plain_logits` of the student by steering mode."""
    model, base, student, batch = loaded
    return {
        steer: jax.jit(partial(plain_logits, model, base, batch, steer))(student)
        for steer in ("all", "prompt")
    }


@pytest.mark.parametrize("steer", ["all", "prompt"])
@pytest.mark.parametrize("kind", ["reverse_kl", "forward_kl"])
@pytest.mark.parametrize("variant", safesteer.VARIANTS)
def test_the_loss_is_the_dense_formula(loaded, logits, monkeypatch, variant, kind, steer):
    monkeypatch.setattr(safesteer, "hidden_states", STATES)
    model, base, student, batch = loaded
    cfg = config(variant=variant, divergence=kind, topk=7)
    loss = safesteer.localized_loss(model, cfg, steer)
    value, _ = loss({"base": student}, frozen_of(model, base), batch, KEY)
    expected = dense(batch, cfg, *logits[steer])
    assert abs(expected) > 1e-4
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("variant", "steer"), [("partial", "all"), ("generalised", "prompt")])
def test_the_gradient_is_the_dense_formula_s(loaded, variant, steer):
    model, base, student, batch = loaded
    cfg = config(variant=variant)
    _, _, grads, _ = value_and_grads(loaded, cfg, steer)

    def plain(params):
        return dense(batch, cfg, *plain_logits(model, base, batch, steer, params))

    expected = jax.jit(jax.grad(plain))(student)
    flat = zip(jax.tree.leaves(grads["base"]), jax.tree.leaves(expected), strict=True)
    for ours, theirs in flat:
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_the_two_steering_modes_are_two(loaded):
    everywhere, _, _, _ = value_and_grads(loaded, config(), "all")
    prompt, _, _, _ = value_and_grads(loaded, config(), "prompt")
    assert abs(everywhere - prompt) > 1e-4


def test_steering_the_prompt_leaves_the_answer_s_own_positions(loaded):
    """With the steering at the last layer alone, hidden states differ exactly on the mask."""
    model, base, _, batch = loaded
    inputs = tiny.teacher(model)
    plain = STATES(model, base, batch, LayerInputs(), "all")
    steered = STATES(model, base, batch, inputs, "prompt")
    everywhere = STATES(model, base, batch, inputs, "all")
    differs = np.abs(np.asarray(steered - plain)).max(-1)
    answer = np.asarray(batch.mask & ~batch.prompt)
    assert differs[np.asarray(batch.prompt)].min() > 1e-2
    # Answers feel it through attention only, less than when they are steered themselves.
    whole = np.abs(np.asarray(everywhere - plain)).max(-1)
    assert 0 < differs[answer].mean() < 0.7 * whole[answer].mean()


def test_no_gradient_reaches_the_teacher(loaded):
    _, _, grads, frozen = value_and_grads(loaded, config())
    assert all(float(jnp.abs(g).max()) == 0 for g in jax.tree.leaves(frozen["teacher"]))
    assert float(jnp.abs(frozen["steering"]["add"]).max()) == 0
    assert all(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(grads))


def test_at_the_teacher_itself_generalised_has_no_gradient(loaded):
    model, base, _, batch = loaded
    loss = safesteer.localized_loss(model, config(), "all")
    unsteered = LayerInputs(add=jnp.zeros_like(tiny.teacher(model).add))
    (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(
        {"base": base}, frozen_of(model, base, unsteered), batch, KEY
    )
    assert abs(value) < 1e-6
    assert all(float(jnp.abs(g).max()) < 1e-6 for g in jax.tree.leaves(grads))
    np.testing.assert_allclose(metrics["mass/student"], metrics["mass/teacher"], rtol=1e-6)


def test_the_mass_is_of_the_first_answer_token(loaded):
    model, base, student, batch = loaded
    _, metrics, _, _ = value_and_grads(loaded, config())
    for arm, params, layers in (
        ("student", student, LayerInputs()),
        ("teacher", base, tiny.teacher(model)),
    ):
        hidden = STATES(model, params, batch, layers, "all")
        p = jax.nn.softmax(model.unembed(params, hidden[:, 7]))  # P=8: slot 7 ends the prompt
        expected = p[:, np.asarray(SUBSET)].sum(-1).mean()
        np.testing.assert_allclose(metrics[f"mass/{arm}"], expected, rtol=1e-5)


@pytest.mark.parametrize("steer", ["all", "prompt"])
def test_padding_and_what_follows_the_stop_token_do_not_matter(loaded, steer):
    model, *_, batch = loaded
    noise = tiny.rollouts(model.config.vocab_size, seed=9).tokens
    other = batch.replace(tokens=jnp.where(batch.mask, batch.tokens, noise))
    assert int(jnp.sum(other.tokens != batch.tokens)) > 15
    value, metrics, grads, _ = value_and_grads(loaded, config(), steer)
    same, same_metrics, same_grads, _ = value_and_grads(loaded, config(), steer, other)
    np.testing.assert_array_equal(value, same)
    np.testing.assert_array_equal(metrics["mass/teacher"], same_metrics["mass/teacher"])
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(same_grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-8)


class Stops:
    """A tokenizer whose every third id ends an answer, so that random answers have all lengths."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.eos_ids = tuple(range(8, tokenizer.vocab_size, 3))

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)


def test_rollouts_weigh_the_same_and_depend_on_seed_step_and_student(directory, tmp_path):
    ctx = tiny.context(directory, tmp_path)
    ctx = dataclasses.replace(ctx, tokenizer=Stops(ctx.tokenizer))
    cfg = config(rollouts=8)
    batches = safesteer.rollout_batches(cfg, ctx)
    batch = batches(ctx.variables, 3)
    weight, mask = np.asarray(batch.weight), np.asarray(batch.mask & ~batch.prompt)
    lengths = mask.sum(1)
    assert batch.tokens.shape[0] == 16 and len(set(lengths.tolist())) > 2
    np.testing.assert_allclose(weight.sum(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(weight.sum(1), 1 / 16, rtol=1e-6)
    np.testing.assert_array_equal(weight > 0, mask)
    width = batch.tokens.shape[1] - cfg.max_tokens
    assert not mask[:, :width].any() and mask[:, width].all()
    for row, length in enumerate(lengths):  # one run of tokens, ended by a stop token or the limit
        said = np.asarray(batch.tokens)[row, width : width + length]
        stops = np.isin(said, ctx.tokenizer.eos_ids)
        assert not stops[:-1].any() and (stops[-1] or length == cfg.max_tokens)
    prompts = safesteer.encode_items(ctx, ctx.setting.prompts["distil"])
    heads = [np.asarray(batch.tokens)[r][np.asarray(batch.prompt)[r]].tolist() for r in range(16)]
    assert all(h in prompts for h in heads) and heads[0] == heads[7] != heads[8]
    again = safesteer.rollout_batches(cfg, ctx)(ctx.variables, 3)
    np.testing.assert_array_equal(again.tokens, batch.tokens)
    assert (np.asarray(batches(ctx.variables, 4).tokens) != np.asarray(batch.tokens)).any()
    moved = {"base": tiny.student(ctx.variables["base"], 0.3)}
    assert (np.asarray(batches(moved, 3).tokens) != np.asarray(batch.tokens)).any()


@pytest.mark.parametrize("how", ["data", "tensor"])
def test_rollouts_of_copies_are_those_of_the_weights_as_they_train(directory, tmp_path, how):
    """The same tokens, split over the devices as the step takes them."""
    mesh = sharding.make_mesh(sharding.MeshConfig(2, 2, 2))
    ctx = tiny.context(directory, tmp_path, mesh=mesh)
    base = ctx.variables["base"]
    base = jax.device_put(base, sharding.shardings(ctx.model.axes, base, mesh))
    ctx = dataclasses.replace(ctx, variables={"base": base}, tokenizer=Stops(ctx.tokenizer))
    found = []
    with sharding.scope(mesh):
        for sampling in ("split", how):
            of = dataclasses.replace(ctx, sampling=sampling)
            found.append(safesteer.rollout_batches(config(rollouts=4), of)(of.variables, 3))
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim)
        assert b.sharding.mesh == mesh


def test_a_policy_of_adapters_is_sampled_with_them(directory, tmp_path):
    """As the base with the adapters merged answers; a method's own `serve` is asked."""
    ctx = tiny.context(directory, tmp_path)
    base, projections = ctx.variables["base"], ctx.model.projections
    tree = lora.init_experts(jax.random.key(1), projections, layers=2, rank=2, scale=1.0)
    drawn = {
        name: {**pair, "b": jax.random.normal(jax.random.key(2), pair["b"].shape)}
        for name, pair in tree["experts"].items()
    }
    adapters = {**tree, "experts": drawn}
    batches = safesteer.rollout_batches(config(temperature=0.0), ctx)
    alone = np.asarray(batches(ctx.variables, 0).tokens)
    beside = np.asarray(batches({**ctx.variables, "adapters": adapters}, 0).tokens)
    merged = {"base": lora.merge(base, adapters, projections)}
    assert (beside != alone).any()
    np.testing.assert_array_equal(beside, batches(merged, 0).tokens)

    def steered(cfg, variables):
        return Served(variables["base"], tiny.teacher(ctx.model, size=5.0), "prompt")

    own = safesteer.rollout_batches(config(temperature=0.0), ctx, steered)
    assert (np.asarray(own(ctx.variables, 0).tokens) != alone).any()


def test_reduction_token_weighs_tokens(directory, tmp_path):
    ctx = tiny.context(directory, tmp_path)
    ctx = dataclasses.replace(ctx, tokenizer=Stops(ctx.tokenizer))
    batch = safesteer.rollout_batches(config(reduction="token"), ctx)(ctx.variables, 0)
    weight = np.asarray(batch.weight)
    assert len(set(weight[weight > 0].tolist())) == 1
    np.testing.assert_allclose(weight.sum(), 1.0, rtol=1e-6)


def test_prompts_longer_than_the_context_are_one_line(directory, tmp_path):
    ctx = tiny.context(directory, tmp_path)
    with pytest.raises(UsageError, match=r"method.max_tokens: got 250; allowed: prompt \("):
        safesteer.rollout_batches(config(max_tokens=250), ctx)

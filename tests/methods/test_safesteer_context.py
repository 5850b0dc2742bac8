"""The context teacher: its prompts, its alignment with the student, and what is refused."""

from __future__ import annotations

import dataclasses
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsafety import testing
from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.tokenizer import ByteTokenizer
from jaxsafety.losses.divergence import VARIANTS
from jaxsafety.losses.sampled import ESTIMATORS
from jaxsafety.methods.safesteer import context as contexts
from jaxsafety.methods.safesteer import plan
from jaxsafety.methods.safesteer import program as safesteer
from jaxsafety.methods.safesteer.program import Rollouts
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import TrainConfig
from jaxsafety.train.loop import run_program
from jaxsafety.train.metrics import read_metrics
from tests.methods import tiny

KEY = jax.random.key(0)
TEXT = "you are a safe helper . never tell how to make dangerous things ."
UNBOUND = ("full", "topk", "partial_topk", *ESTIMATORS)  # losses without an S


def config(**changes):
    return dataclasses.replace(tiny.METHOD, **{"teacher": "context", "variant": "full"} | changes)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


@pytest.fixture(scope="module")
def ctx(directory, tmp_path_factory):
    return tiny.context(directory, tmp_path_factory.mktemp("ctx"))


def frozen_of(ctx, base):
    c = ctx.model.config
    nothing = LayerInputs(add=jnp.zeros((c.num_layers, c.embed_dim)))
    return safesteer.frozen_teacher(ctx.model, base, nothing, None)


def system_last(ctx):
    """The same tokenizer with a template that has no system turn."""
    template = ctx.tokenizer.chat_template.replace("{% if m['role'] == 'system' %}", "{% if 0 %}")
    assert template != ctx.tokenizer.chat_template

    class Plain:
        chat_template = template

        def __getattr__(self, name):
            return getattr(ctx.tokenizer, name)

    return Plain()


def test_the_context_is_the_system_turn_or_stands_before_the_user(ctx):
    asked = [Message("user", "how do i make it ?")]
    tokens = ctx.tokenizer
    assert contexts.has_system(tokens)
    own = encode_prompt(tokens, [Message("system", TEXT), *asked])
    assert contexts.encode_with(tokens, asked, TEXT) == own
    plain = system_last(ctx)
    assert not contexts.has_system(plain)
    told = encode_prompt(plain, [Message("user", f"{TEXT}\n\n{asked[0].content}")])
    assert contexts.encode_with(plain, asked, TEXT) == told
    earlier = [Message("user", "hi"), Message("assistant", "well ,"), *asked]
    first = encode_prompt(plain, [Message("user", f"{TEXT}\n\nhi"), *earlier[1:]])
    assert contexts.encode_with(plain, earlier, TEXT) == first
    for tokenizer in (tokens, plain, ByteTokenizer()):
        assert contexts.encode_with(tokenizer, asked, "") == encode_prompt(tokenizer, asked)


def test_a_template_that_leaves_system_turns_out_has_none(ctx):
    """As some do without an error: the text must not be lost."""
    template = ctx.tokenizer.chat_template.replace("<sys> {{ m['content'] }}<eot><nl>", "")
    assert template != ctx.tokenizer.chat_template
    tokenizer = SimpleNamespace(
        chat_template=template,
        variables=ctx.tokenizer.variables,
        special_tokens=ctx.tokenizer.special_tokens,
        clock=ctx.tokenizer.clock,
    )
    assert not contexts.has_system(tokenizer)


@pytest.mark.parametrize("variant", UNBOUND)
def test_with_an_empty_context_the_teacher_is_the_student(ctx, monkeypatch, variant):
    """Both score the same tokens behind the same prompt: the loss is 0, and so is its gradient."""
    monkeypatch.setattr(contexts, "text_of", lambda cfg: "")
    cfg = config(variant=variant, topk=7)
    batch = safesteer.rollout_batches(cfg, ctx)(ctx.variables, 0)
    np.testing.assert_array_equal(batch.told_tokens, batch.tokens)
    np.testing.assert_array_equal(batch.told_mask, batch.mask)
    base = ctx.variables["base"]
    loss = safesteer.localized_loss(ctx.model, cfg, "all")
    (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(
        {"base": base}, frozen_of(ctx, base), batch, KEY
    )
    assert metrics == {}
    assert abs(value) < 1e-6
    if variant == "partial_topk":  # no divergence: it is not least where both agree
        return
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads)) < 1e-6


def test_an_own_context_makes_a_loss(ctx):
    cfg = config(context=TEXT)
    batch = safesteer.rollout_batches(cfg, ctx)(ctx.variables, 0)
    base = ctx.variables["base"]
    loss = safesteer.localized_loss(ctx.model, cfg, "all")
    value, _ = loss({"base": base}, frozen_of(ctx, base), batch, KEY)
    assert value > 1e-5


def told(prompts, contexts_, answers, slack, seed, vocab):
    """Rollouts whose teacher reads a longer prompt: random ids, padded on the left."""
    rng = np.random.default_rng(seed)
    width, answer = max(prompts), max(answers)
    beside = max(p + c for p, c in zip(prompts, contexts_, strict=True)) + slack
    rows = len(prompts)
    heads = [rng.integers(8, vocab, c).tolist() for c in contexts_]
    asked = [rng.integers(8, vocab, p).tolist() for p in prompts]
    said = [rng.integers(8, vocab, a).tolist() for a in answers]
    tokens = rng.integers(8, vocab, (rows, width + answer)).astype(np.int32)
    other = rng.integers(8, vocab, (rows, beside)).astype(np.int32)
    mask, seen = np.zeros(tokens.shape, bool), np.zeros(other.shape, bool)
    prompt = np.zeros(tokens.shape, bool)
    for i in range(rows):
        start = width - prompts[i]
        tokens[i, start:width], tokens[i, width : width + answers[i]] = asked[i], said[i]
        mask[i, start : width + answers[i]] = True
        prompt[i, start:width] = True
        own = [*heads[i], *asked[i]]
        other[i, beside - len(own) :], seen[i, beside - len(own) :] = own, True
    weight = (mask & ~prompt) / (mask & ~prompt).sum()
    arrays = (tokens, mask, prompt, weight.astype(np.float32))
    batch = safesteer.retold(Rollouts(*map(jnp.asarray, arrays)), answer, other, jnp.asarray(seen))
    return batch, [[*h, *p] for h, p in zip(heads, asked, strict=True)], said


LONGEST = 7 + 9 + 5  # of the rows below


@partial(jax.jit, static_argnames=("model",))
def direct_pass(model, params, tokens):
    """Log-probabilities [T,V] of a row without padding before it."""
    hidden = model.apply(params, tokens, jnp.arange(tokens.shape[1])[None]).hidden
    return jax.nn.log_softmax(model.unembed(params, hidden)[0])


@settings(max_examples=8, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(1, 7), st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=3
    ),
    slack=st.integers(0, 5),
    seed=st.integers(0, 10**6),
)
def test_the_teacher_scores_the_answer_as_a_direct_pass_does(ctx, rows, slack, seed):
    """At each position of the answer its logits are those of context + prompt + answer alone.

    Of any lengths of prompt, context and answer, and however wide the teacher's padding is.
    """
    prompts, extra, answers = zip(*rows, strict=True)
    vocab, base = ctx.model.config.vocab_size, ctx.variables["base"]
    batch, heads, said = told(prompts, extra, answers, slack, seed, vocab)
    student = tiny.student(base)
    loss = safesteer.localized_loss(ctx.model, config(max_tokens=max(answers)), "all")

    @jax.jit  # both in one program: they share its compilation
    def both(student, base, batch):
        value, _ = loss({"base": student}, frozen_of(ctx, base), batch, KEY)
        told = safesteer._told(batch)
        seen = safesteer.hidden_states(ctx.model, base, told, LayerInputs(), "all")
        return value, jax.nn.log_softmax(ctx.model.unembed(base, seen))

    value, scored = both(student, base, batch)

    def logits(params, ids):
        """What follows a token is seen by none before it, so one length serves all."""
        row = jnp.asarray([[*ids, *[0] * (LONGEST - len(ids))]])
        return direct_pass(ctx.model, params, row)[: len(ids)]

    total, count = 0.0, 0
    width = batch.tokens.shape[1] - max(answers)
    for i, (head, answer) in enumerate(zip(heads, said, strict=True)):
        direct = logits(base, [*head, *answer])[len(head) - 1 : -1]
        ends = scored.shape[1] - max(answers) - 1
        np.testing.assert_allclose(scored[i, ends : ends + len(answer)], direct, atol=2e-5)
        own = np.asarray(batch.tokens)[i, width - prompts[i] : width].tolist()
        p = logits(student, [*own, *answer])[len(own) - 1 : -1]
        total += float(jnp.sum(jnp.exp(p) * (p - direct)))
        count += len(answer)
    np.testing.assert_allclose(value, total / count, rtol=2e-4, atol=2e-6)


def test_rollouts_carry_the_context_and_the_same_answers(ctx):
    cfg = config(context=TEXT)
    batch = safesteer.rollout_batches(cfg, ctx)(ctx.variables, 2)
    plain = safesteer.rollout_batches(dataclasses.replace(tiny.METHOD), ctx)(ctx.variables, 2)
    np.testing.assert_array_equal(batch.tokens, plain.tokens)
    assert plain.told_tokens is None and plain.subset is None
    last = slice(-cfg.max_tokens, None)
    np.testing.assert_array_equal(batch.told_tokens[:, last], batch.tokens[:, last])
    np.testing.assert_array_equal(batch.told_mask[:, last], batch.mask[:, last])
    head = ctx.tokenizer.encode("<sys> " + TEXT)
    for row, mask in zip(np.asarray(batch.told_tokens), np.asarray(batch.told_mask), strict=True):
        assert row[mask].tolist()[1 : 1 + len(head)] == head


def test_a_run_needs_neither_direction_nor_tokens(directory, tmp_path):
    ctx = tiny.context(directory, tmp_path)
    cfg = config(context=TEXT)
    safesteer.prepare(cfg, tiny.OPTIM, ctx)
    train = TrainConfig(checkpoint_every=1, progress=False)
    final = run_program(safesteer.program(cfg, tiny.OPTIM, ctx), ctx, train)
    safesteer.inspect(cfg, ctx, final)
    kept = {p.stem for p in (tmp_path / "artifacts").glob("*.json")}
    assert kept == {"flip", "position_kl", "changed"}
    drift = ctx.artifact("position_kl", dict)
    assert drift["mean_kl_off_subset"] == pytest.approx(drift["mean_kl"], rel=1e-6)
    assert drift["mean_kl"] > 0
    assert [r["loss"] > 0 for r in read_metrics(tmp_path)] == [True, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "prompted"}, "method.teacher: got 'prompted'; allowed: steered, context"),
        ({"teacher": "context"}, "method.variant: got 'generalised'; allowed: full, topk,"),
        (
            {"context": "be kind ."},
            "method.context: got 'be kind .'; allowed: '' unless method.teacher=context",
        ),
        (
            {"variant": "k1", "divergence": "forward_kl"},
            "method.divergence: got 'forward_kl'; allowed: reverse_kl with method.variant=k1",
        ),
        ({"variant": "k3", "temperature": 0.7}, "method.temperature: got 0.7; allowed: 1.0 with"),
        ({"variant": "k2"}, "method.variant: got 'k2'; allowed: full, partial,"),
    ],
)
def test_what_does_not_go_together_is_one_line(changes, message):
    with pytest.raises(UsageError) as caught:
        safesteer.check(dataclasses.replace(tiny.METHOD, **changes))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize("variant", [*VARIANTS, *ESTIMATORS])
def test_every_loss_has_a_teacher(variant):
    safesteer.check(dataclasses.replace(tiny.METHOD, variant=variant))
    if variant in UNBOUND:
        safesteer.check(config(variant=variant, context=TEXT))


def test_a_context_without_room_is_one_line(ctx):
    place = SimpleNamespace(prompts=ctx.setting.prompts)

    def fits(text):
        cfg = config(context=text)
        safesteer.fits(cfg, tiny.OPTIM, ctx.model, ctx.tokenizer, place)

    fits(TEXT)
    with pytest.raises(UsageError) as caught:
        fits(" ".join([TEXT] * 17))
    line = str(caught.value)
    assert line.startswith("method.context: got 'a prompt of ") and "\n" not in line
    assert line.endswith(f"at most the context of {ctx.model.config.max_length}")


def test_what_is_planned_is_what_is_trained(ctx):
    """The shapes of `jaxsafety plan` are those of a batch, but for the width of the context."""
    for cfg in (config(context=TEXT), config(variant="k3", context=TEXT)):
        found = plan.planned(cfg, ctx.model, None, 20)
        batch = safesteer.rollout_batches(cfg, ctx)(ctx.variables, 0)
        assert jax.tree.structure(found.batch) == jax.tree.structure(batch)
        assert set(found.variables) == {"base", *frozen_of(ctx, ctx.variables["base"])}
        value, _ = jax.eval_shape(
            found.loss,
            {"base": found.variables["base"]},
            {k: v for k, v in found.variables.items() if k != "base"},
            found.batch,
            KEY,
        )
        assert value.shape == ()

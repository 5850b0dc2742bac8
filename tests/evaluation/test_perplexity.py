"""Perplexity of answers under the base against plain forward passes, and its limit."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Answer, Message
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.tokenizer import ByteTokenizer
from jaxsafety.evaluation import packing
from jaxsafety.evaluation import perplexity as module
from jaxsafety.evaluation.perplexity import NO_NUMBER, NO_TOKENS, by_key, limit, perplexities
from jaxsafety.judges.gate import key
from jaxsafety.models.api import ModelConfig, build
from jaxsafety.protocols import Exchange, Item

TOKENIZER = ByteTokenizer()


def said(prompt, text, answer=None):
    return Exchange(Item("0", (Message("user", prompt),), {}), text, answer)


@pytest.fixture(scope="module")
def tiny():
    model = build(ModelConfig("llama", 262, 16, 2, 2, 1, 8, 32, 64))
    params = jax.tree.map(lambda x: x * 3.0, jax.jit(model.init)(jax.random.key(3)))
    full = jax.jit(lambda ids: model.apply(params, ids, jnp.arange(64)[None]).hidden)
    return model, params, full


def plainly(tiny, prompt, ids):
    """exp of the mean negative log-probability by one pass over the whole sequence."""
    model, params, full = tiny
    context = encode_prompt(TOKENIZER, [Message("user", prompt)])
    row = [*context, *ids]
    hidden = full(jnp.array([row + [0] * (64 - len(row))]))
    logp = np.asarray(jax.nn.log_softmax(model.unembed(params, hidden)[0]), np.float64)
    return math.exp(-np.mean([logp[len(context) - 1 + t, i] for t, i in enumerate(ids)]))


def test_perplexity_is_that_of_a_plain_pass_whatever_else_is_asked(tiny):
    model, params, _ = tiny
    told = [
        said("a loaf?", "mix it"),
        said("who?", "me"),
        said("a loaf?", "no"),
        said("who?", ""),
        said("a loaf?", "mix it"),
        said("who?", "y" * 80),
        said("a loaf?", "other words", Answer(TOKENIZER.encode("no"), True, [])),
    ]
    checks = []
    found = perplexities(model, params, TOKENIZER, told, check=lambda: checks.append(1))
    assert checks
    for place in (0, 1, 2, 4):
        exchange = told[place]
        ids = TOKENIZER.encode(exchange.response)
        want = plainly(tiny, exchange.item.messages[0].content, ids)
        assert found[place].perplexity == pytest.approx(want, rel=1e-4)
        assert found[place].logp == pytest.approx(-math.log(want), rel=1e-4)
        assert (found[place].tokens, found[place].cause) == (len(ids), "")
    assert found[0] == found[4] and found[6] == found[2]  # the answer's own tokens count
    assert found[3] == (None, None, 0, NO_TOKENS)
    assert found[5].perplexity is None and "context of 64 tokens" in found[5].cause
    by = by_key(told[:6], found[:6])
    assert by[key(told[1])] == found[1].logp and by[key(told[3])] is None


def test_many_answers_to_one_prompt_are_read_in_pieces(tiny, monkeypatch):
    """Attention takes the square of a row; how many answers a prompt has bounds nothing."""
    model, params, _ = tiny
    widths, plain = [], module.Scorer.score

    def score(self, batch):
        widths.append(batch.shape.width)
        return plain(self, batch)

    monkeypatch.setattr(module.Scorer, "score", score)
    texts = [f"{number:03d} of many others" for number in range(120)]
    found = perplexities(model, params, TOKENIZER, [said("who?", text) for text in texts])
    assert sum(one.tokens for one in found) > packing.WIDEST
    assert widths and max(widths) <= packing.WIDEST
    for place in (0, 71, 119):
        want = plainly(tiny, "who?", TOKENIZER.encode(texts[place]))
        assert found[place].perplexity == pytest.approx(want, rel=1e-4)


@pytest.fixture
def asked(monkeypatch):
    """The stems that scorers were made of, which score nothing."""
    seen = []

    class Silent:
        batches = ()

        def __init__(self, model, params, stems, layers, *, steer, tokens):
            seen.append(stems)

    monkeypatch.setattr(module, "Scorer", Silent)
    return seen


def test_each_prompt_is_read_once(tiny, asked):
    told = [said("who?", text) for text in ("me", "no", "me", "you")] + [said("a loaf?", "no")]
    perplexities(tiny[0], tiny[1], TOKENIZER, told)
    assert [len(stem.continuations) for stem in asked[0]] == [3, 1]
    assert perplexities(tiny[0], tiny[1], TOKENIZER, [said("who?", "")])[0].cause == NO_TOKENS
    assert len(asked) == 1  # nothing to score


def test_a_prompt_of_ones_own(tiny, asked):
    """PTST's template and the like: the answer is encoded by itself behind what they give."""

    def encode(tokenizer, messages):
        return tokenizer.encode("! " + messages[-1].content)

    perplexities(tiny[0], tiny[1], TOKENIZER, [said("who?", "me")], encode=encode)
    [[stem]] = asked
    assert list(stem.context) == TOKENIZER.encode("! who?")
    assert list(stem.continuations[0]) == TOKENIZER.encode("me")


def test_a_number_that_is_none_has_a_cause(tiny):
    model, params, _ = tiny
    broken = jax.tree.map(lambda x: x * math.nan, params)
    [found] = perplexities(model, broken, TOKENIZER, [said("who?", "me")])
    assert found == (None, None, 2, NO_NUMBER)


def test_the_limit_is_an_order_statistic_of_enough_values():
    values = [float(n) for n in range(1, 201)]
    assert limit(values[::-1]) == (199.0, 200, "")
    assert sum(v > limit(values).value for v in values) == 1
    more = [*values, None, math.nan]
    assert limit(more) == limit(values)
    assert limit([float(n) for n in range(1, 1001)]).value == 995.0
    assert limit([float(n) for n in range(1, 1000)]).value == 995.0
    assert limit([1.0, 2.0, math.inf, 3.0], 0.75).value == 3.0
    assert limit([1.0] * 199 + [math.inf] * 2).value == math.inf


def test_too_few_values_are_no_limit():
    found = limit([1.0] * 199 + [None])
    assert found.value is None and found.n == 199
    assert found.cause == (
        "199 answers of the base (1 more without a perplexity); the 99.5th percentile takes 200"
    )
    assert limit([], 0.9).cause.endswith("the 90th percentile takes 10")
    for share in (0.0, 1.0, 2):
        with pytest.raises(UsageError, match=r"perplexity.share: got"):
            limit([1.0], share)

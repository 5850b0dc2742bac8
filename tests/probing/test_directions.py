"""Refusal scores, the filter, measured openers and a planted direction."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.models import api
from jaxsafety.models.api import LayerInputs, ModelConfig
from jaxsafety.probing import directions, forward

V, D, L, P = 50, 64, 4, 3
MARK, PLAIN, END = 5, 6, (7, 8, 9)  # a harmful word, a harmless word, the template's tail


def model_with_planted_direction(depth: int = 0):
    """Embeddings in which `MARK` and `PLAIN` differ by a known vector, and attention that moves it.

    Every block's mlp is silenced and attention averages over the prefix with value = output =
    identity from block `depth` on, so the difference reaches the last position at block depth + 1.
    """
    config = ModelConfig("llama", V, D, L, 1, 1, D, 8, max_length=32)
    model = api.build(config)
    params = model.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    vector = rng.normal(size=D)
    vector /= np.linalg.norm(vector)
    table = rng.normal(size=(V, D)) * 0.1
    table[MARK], table[PLAIN] = table[MARK] + 3 * vector, table[PLAIN] - 3 * vector
    params["embed"]["table"] = jnp.asarray(table, jnp.float32)
    blocks = params["blocks"]
    blocks["mlp"]["down"]["kernel"] *= 0
    on = (jnp.arange(L) >= depth).astype(jnp.float32)[:, None, None, None]
    identity = jnp.eye(D)[None]
    attn = blocks["attn"]
    attn["q"]["kernel"] *= 0  # uniform attention
    attn["v"]["kernel"] = identity[:, :, None, :] * on
    attn["o"]["kernel"] = identity[:, None] * on
    return model, params, vector


def prompts(count: int, word: int, seed: int):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        body = rng.integers(10, V, rng.integers(3, 9)).tolist()
        body.insert(int(rng.integers(len(body))), word)
        made.append([*body, *END])
    return made


def test_planted_direction_is_recovered():
    model, params, vector = model_with_planted_direction(depth=1)
    harmful, harmless = prompts(40, MARK, 0), prompts(36, PLAIN, 1)
    found = directions.extract(model, params, harmful, harmless, P, batch_size=16)
    assert found.mean_diff.shape == (P, L, D) and found.mean_diff.dtype == np.float64
    assert found.hidden_norm.shape == (P, L) and (found.hidden_norm > 0).all()
    norms = np.linalg.norm(found.mean_diff, axis=-1)
    assert (norms[:, :2] < 1e-6).all()  # the template's tail has not read the word yet
    cosine = found.mean_diff @ vector / np.maximum(norms, 1e-9)
    assert (cosine[:, 2:] > 0.9).all()


def test_means_equal_one_unpadded_prompt_at_a_time():
    model, params, _ = model_with_planted_direction()
    harmful, harmless = prompts(5, MARK, 0), prompts(3, PLAIN, 1)
    found = directions.extract(model, params, harmful, harmless, P, batch_size=2)
    means, norms = [], []
    run = jax.jit(
        lambda ids: (
            model.apply(
                params, ids, jnp.arange(ids.shape[1])[None], layers=LayerInputs(), capture=True
            ).residuals
        )
    )
    for ids in (harmful, harmless):
        tails = np.stack([np.asarray(run(jnp.asarray([p])), np.float64)[:, 0, -P:] for p in ids])
        means.append(tails.mean(axis=0))
        norms.append(np.linalg.norm(tails, axis=-1).mean(axis=0))
    expected = (means[0] - means[1]).transpose(1, 0, 2)
    np.testing.assert_allclose(found.mean_diff, expected, atol=1e-5)
    np.testing.assert_allclose(found.hidden_norm, (norms[0] + norms[1]).T / 2, rtol=1e-5)


def test_last_logits_do_not_see_padding():
    model, params, _ = model_with_planted_direction()
    texts = prompts(5, MARK, 2)
    together = forward.last_logits(model, params, texts, batch_size=3)
    alone = np.concatenate([forward.last_logits(model, params, [t]) for t in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_extraction_needs_prompts_that_are_long_enough():
    model, params, _ = model_with_planted_direction()
    with pytest.raises(UsageError, match="positions"):
        directions.extract(model, params, [[1, 2]], [[1, 2, 3]], P)
    with pytest.raises(UsageError, match="prompts"):
        directions.extract(model, params, [], [[1, 2, 3]], P)


def test_refusal_score_is_the_log_odds():
    probs = np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8], [1.0, 1e-30, 1e-30]])
    scores = directions.refusal_score(np.log(probs) + 5, [0, 1])
    np.testing.assert_allclose(scores[:2], [np.log(0.7 / 0.3), np.log(0.2 / 0.8)], rtol=1e-6)
    assert scores.dtype == np.float64
    assert scores[2] == pytest.approx(-np.log(1e-8), rel=1e-6)  # the recipe's floor
    for ids in ([], [3], [-1]):
        with pytest.raises(UsageError, match="refusal_ids"):
            directions.refusal_score(np.log(probs), ids)


def test_filter_keeps_the_right_side():
    scores = np.array([1.0, -2.0, 3.0, 0.0, -0.5])
    assert directions.filter_prompts(scores, True, minimum=2).kept == (0, 2)
    kept = directions.filter_prompts(scores, False, minimum=2)
    assert kept == ((1, 4), 3, "threshold")


def test_filter_falls_back_on_ranks_or_explains():
    scores = np.array([-1.0, -2.0, 3.0, -0.2])
    assert directions.filter_prompts(scores, True, minimum=2, fallback="rank") == (
        (2, 3),
        2,
        "rank",
    )
    with pytest.raises(UsageError, match="1 of 4 harmful prompts") as error:
        directions.filter_prompts(scores, True, minimum=2, field="harmful_train")
    assert str(error.value).startswith("harmful_train:") and "\n" not in str(error.value)
    with pytest.raises(UsageError, match="at least 5"):
        directions.filter_prompts(scores, True, minimum=5, fallback="rank")


class Words:
    """A tokenizer that splits at spaces; unknown words are id 0."""

    unk_id = 0
    table = ("?", "I", "Sorry", "cannot")

    def encode(self, text):
        return [self.table.index(w) if w in self.table else 0 for w in text.split()]


def test_refusal_tokens_from_strings_or_ids():
    assert directions.refusal_tokens(Words(), ("I cannot", "Sorry", "No", "I")) == (1, 2)
    assert directions.refusal_tokens(Words(), (3, 1, 3)) == (3, 1)
    with pytest.raises(UsageError, match="refusal_openers"):
        directions.refusal_tokens(Words(), ("No",))


def test_measured_tokens_are_the_openers_that_shift():
    refused = np.log(np.array([[0.5, 0.3, 0.1, 0.1], [0.5, 0.3, 0.1, 0.1]]))
    complied = np.log(np.array([[0.5, 0.0001, 0.05, 0.4499]]))
    assert directions.measured_refusal_tokens(refused, complied, coverage=0.99) == (1, 2)
    assert directions.measured_refusal_tokens(refused, complied, coverage=0.5) == (1,)
    assert directions.measured_refusal_tokens(refused, complied, coverage=1.0, most=1) == (1,)
    with pytest.raises(UsageError, match="refusal_ids"):
        directions.measured_refusal_tokens(refused, refused)
    with pytest.raises(UsageError, match="0 refusals"):
        directions.measured_refusal_tokens(refused[:0], complied)

"""A trained 260 thousand parameter model against its float64 reference, when it lies beside us."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsafety
from jaxsafety.models.api import init_cache

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def stories(root):
    path = root.parent / "shared" / "models" / "stories260K"
    if not path.is_dir():
        pytest.skip("the stories260K model is not beside the repository")
    return *jaxsafety.load(path), json.loads((path / "reference_float64.json").read_text())


def test_last_logits_and_probabilities(stories):
    model, params, tokenizer, expected = stories
    ids = tokenizer.encode(expected["prompt"], add_special=True)
    assert ids == expected["prompt_ids"]
    tokens = jnp.array([ids])
    hidden = model.apply(params, tokens, jnp.arange(len(ids))[None]).hidden
    logits = np.asarray(model.unembed(params, hidden))[0]
    top = np.argsort(-logits[-1])[:8]
    assert top.tolist() == expected["last_position_top8_ids"]
    np.testing.assert_allclose(logits[-1][top], expected["last_position_top8_logits"], atol=1e-4)
    total = jax.nn.logsumexp(logits[-1])
    np.testing.assert_allclose(total, expected["last_position_logsumexp"], atol=1e-4)
    logps = jax.nn.log_softmax(logits[:-1])[jnp.arange(len(ids) - 1), jnp.array(ids[1:])]
    np.testing.assert_allclose(logps.mean(), expected["mean_logprob_prompt"], atol=1e-4)


def test_forty_greedy_ids(stories):
    model, params, tokenizer, expected = stories
    tokens = jnp.array([expected["prompt_ids"]])
    step = jax.jit(lambda t, p, c: model.apply(params, t, p, cache=c))
    cache = init_cache(model.config, 1, 64)
    positions, ids = jnp.arange(tokens.shape[1])[None], []
    for _ in range(40):
        out = step(tokens, positions, cache)
        tokens = model.unembed(params, out.hidden[:, -1]).argmax(-1)[:, None]
        positions, cache = positions[:, -1:] + 1, out.cache
        ids.append(int(tokens[0, 0]))
    assert ids == expected["greedy_ids_40"]
    assert tokenizer.decode(ids).strip() == expected["greedy_text"].strip()

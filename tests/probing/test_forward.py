"""Logits after prompts: long prompts that share a beginning equal each prompt run alone."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.models.api import LayerInputs
from jaxsafety.probing import forward
from jaxsafety.testing import tiny_model

HEAD = [7, 3, 9, 4, 11, 6, 5, 8, 10, 2]


def prompts(lengths, head=HEAD, seed=0):
    rng = np.random.default_rng(seed)
    return [[*head, *rng.integers(12, 40, n - len(head)).tolist()] for n in lengths]


@partial(jax.jit, static_argnames="model")
def whole(model, params, tokens, layers):
    """Logits [T,V] of one row, whose tokens see only what is before them."""
    places = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
    out = model.apply(params, tokens, places, layers=layers)
    return model.unembed(params, out.hidden[0])


def alone(model, params, ids, layers=LayerInputs()):
    """Each prompt in a pass of its own; what stands after its end is seen by none of its tokens."""
    width = max(map(len, ids))
    rows = []
    for prompt in ids:
        tokens = jnp.asarray([[*prompt, *[0] * (width - len(prompt))]], jnp.int32)
        rows.append(np.asarray(whole(model, params, tokens, layers)[len(prompt) - 1]))
    return np.stack(rows)


def variants(model, count, seed=3):
    c = model.config
    u = np.random.default_rng(seed).normal(size=(count, c.num_layers, c.embed_dim))
    return (u / np.linalg.norm(u, axis=-1, keepdims=True)).astype(np.float32)


# gemma3_text has layers with a window, which the longest prompts outgrow
@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("add", "llama"),
        ("ablate", "gemma3_text"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("add", "qwen3"),
                ("add", "gemma3_text"),
                ("ablate", "llama"),
                ("ablate", "qwen3"),
            )
        ),
    ],
)
def test_a_shared_prefix_changes_nothing(family, kind):
    model, params = tiny_model(family)
    ids = prompts([41, 12, 55, 33, 11, 29, 40])
    each = variants(model, 3)
    many = forward.variant_logits(model, params, ids, LayerInputs(**{kind: jnp.asarray(each)}))
    for got, own in zip(many, each, strict=True):
        wanted = alone(model, params, ids, LayerInputs(**{kind: jnp.asarray(own)}))
        np.testing.assert_allclose(got, wanted, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("head", [[], HEAD])
def test_plain_logits_of_long_prompts(head):
    model, params = tiny_model("llama")
    ids = prompts([50, 11, 34, 36, 20], head)
    got = forward.last_logits(model, params, ids)
    np.testing.assert_allclose(got, alone(model, params, ids), atol=2e-4, rtol=2e-4)


def test_equal_prompts_and_one_prompt():
    model, params = tiny_model("llama")
    (one,) = prompts([40])
    wanted = alone(model, params, [one])
    for ids in ([one], [one] * 5):
        got = forward.last_logits(model, params, ids)
        np.testing.assert_allclose(got, np.tile(wanted, (len(ids), 1)), atol=2e-4, rtol=2e-4)


def test_short_prompts_end_on_the_digit_they_ended_on():
    """Variants of short prompts are bit for bit the pass of one variant alone."""
    model, params = tiny_model("llama")
    ids, each = prompts([12, 20, 15]), variants(model, 3)
    many = forward.variant_logits(model, params, ids, LayerInputs(add=jnp.asarray(each)))
    for got, own in zip(many, each, strict=True):
        one = forward.last_logits(model, params, ids, LayerInputs(add=jnp.asarray(own)))
        np.testing.assert_array_equal(got, one)


def test_other_values_compile_nothing():
    model, params = tiny_model("llama", seed=5)
    ids = prompts([41, 40, 39])
    forward.variant_logits(model, params, ids, LayerInputs(add=jnp.asarray(variants(model, 2))))
    before = forward._after_prefix._cache_size(), forward._prefix._cache_size()
    for seed in (1, 2):
        each = jnp.asarray(variants(model, 2, seed))
        forward.variant_logits(model, params, ids, LayerInputs(add=each))
    assert (forward._after_prefix._cache_size(), forward._prefix._cache_size()) == before


def test_the_loop_may_end_between_two_passes():
    model, params = tiny_model("llama")
    calls = []

    def check():
        calls.append(True)
        if len(calls) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        forward.last_logits(model, params, prompts([40] * 20), check=check)


def test_no_prompt_is_one_line():
    model, params = tiny_model("llama")
    for ids in ([], [[1, 2], []]):
        with pytest.raises(UsageError, match="prompts: got"):
            forward.last_logits(model, params, ids)


def test_rows_of_a_mesh_are_split(request):
    """Eight virtual devices see the same numbers as one."""
    from jaxsafety.core import sharding
    from jaxsafety.core.sharding import MeshConfig, make_mesh

    model, params = tiny_model("llama")
    ids = prompts([41, 12, 55, 33, 11])
    wanted = forward.last_logits(model, params, ids)
    mesh = make_mesh(MeshConfig(data=4, fsdp=2))
    places = sharding.shardings(model.axes, params, mesh)
    got = forward.last_logits(model, jax.device_put(params, places), ids)
    np.testing.assert_allclose(got, wanted, atol=2e-4, rtol=2e-4)

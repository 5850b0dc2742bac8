"""Where users' arrays come in, axes that do not fit are named before anything is computed."""

import jax
import jax.numpy as jnp
import pytest

from jaxsafety.core import shapes
from jaxsafety.data.schema import PromptBatch
from jaxsafety.losses.divergence import divergence
from jaxsafety.losses.logprobs import entropy, nll, subset_logps, token_logp
from jaxsafety.losses.profile import subset_mass, token_kl_profile
from jaxsafety.models.api import build
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling.decode import sample
from jaxsafety.sampling.prompts import row_keys
from jaxsafety.testing import tiny_config

N, B, T, D, V = 6, 2, 3, 4, 7
ROWS, MORE, HEAD = jnp.ones((N, D)), jnp.ones((N + 1, D)), jnp.ones((D, V))
HIDDEN, TOKENS = jnp.ones((B, T, D)), jnp.ones((B, T), int)
KEYS = row_keys(0, 0, range(B), [0] * B)


def apply(tokens, positions, segments=None):
    return build(tiny_config()).apply({}, tokens, positions, segments=segments)


def decode(tokens, mask, keys):
    return sample(build(tiny_config()), {}, PromptBatch(tokens, mask), keys, SampleConfig())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: divergence([[1.0] * D], ROWS, HEAD),
            "student: expected an array .*'ND', got list",
        ),
        (
            lambda: divergence(ROWS, ROWS, HEAD, None, [1 / N] * N),
            "weight: .* an array .*, got list",
        ),
        (
            lambda: nll(HIDDEN, HEAD, [[1, 0, 2]] * B, HIDDEN[..., 0]),
            "tokens: .* array .* got list",
        ),
        (lambda: token_logp(HIDDEN, [[1.0] * V] * D, TOKENS), "head: .* an array .* got list"),
        (lambda: subset_mass(None, HEAD, [1]), "hidden: .* an array .*, got NoneType"),
        (lambda: entropy(HIDDEN, HEAD), "hidden: expected axes 'ND'"),
        (lambda: subset_logps(ROWS, [HEAD], [1]), "head: .* an array .* got list"),
        (lambda: divergence(HIDDEN, ROWS, HEAD), r"student: expected axes 'ND', got shape \(2, 3"),
        (lambda: divergence(ROWS, MORE, HEAD), r"teacher: .* N \(.*rows.*\) is 6, got 7"),
        (lambda: divergence(ROWS, ROWS, HEAD.T), r"head_s: .* D \(model width\) is 4, got 7"),
        (lambda: divergence(ROWS, ROWS, HEAD, HEAD[:, :5]), r"head_t: .* V \(voc.*\) is 7, got 5"),
        (lambda: divergence(ROWS, ROWS, HEAD, None, jnp.ones(3)), r"weight: .* is 6, got 3"),
        (lambda: token_logp(HIDDEN, HEAD, TOKENS[:, :2]), r"tokens: .* T \(.*\) is 3, got 2"),
        (lambda: token_logp(ROWS, HEAD, TOKENS), "hidden: expected axes 'BTD'"),
        (lambda: nll(HIDDEN, HEAD, TOKENS, jnp.ones(B)), "weight: expected axes 'BT'"),
        (lambda: subset_mass(HIDDEN, HEAD, [1]), "hidden: expected axes 'ND'"),
        (lambda: token_kl_profile(ROWS, MORE, HEAD), "teacher: .* is 6, got 7"),
        (lambda: token_kl_profile(ROWS, ROWS, HEAD, HEAD[:2]), "head_t: .* is 4, got 2"),
        (lambda: apply(TOKENS[0], TOKENS[0]), r"tokens: expected axes 'BT', got shape \(3,\)"),
        (lambda: apply(TOKENS, TOKENS[:1]), r"positions: .* B \(sequences in batch\) is 2, got 1"),
        (lambda: apply(TOKENS, TOKENS, TOKENS[:, :2]), "segments: .* is 3, got 2"),
        (lambda: decode(TOKENS, TOKENS[:, :2] > 0, KEYS), r"mask: .* P \(prompt length\) is 3"),
        (lambda: decode(TOKENS, TOKENS > 0, KEYS[:1]), "keys: .* is 2, got 1"),
    ],
)
def test_axes_that_do_not_fit_are_named(call, message):
    with pytest.raises(AssertionError, match=message):
        call()


def test_checks_leave_no_trace_in_a_program(monkeypatch):
    def program():
        return str(jax.make_jaxpr(lambda *args: divergence(*args))(ROWS, ROWS, HEAD))

    checked, seen = program(), []
    monkeypatch.setattr(shapes, "check", lambda *args: seen.append(args))
    assert program() == checked
    assert len(seen) == 4

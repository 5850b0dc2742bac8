"""Gradients of the chunked losses as users compile them, against the dense ones without a compiler.

XLA's fusions on CPUs changed from version to version and gave some programs wrong numbers, at sizes
where they pay off (docs/compatibility.md). The other files take small arrays and leave most
optimizations out. Here rows and vocabulary are large enough for threads and library kernels, both
leave a tail (132 rows in chunks of 50, 4,099 columns), and the reference is computed operation by
operation in float32. Letters as in `losses`: B, T, N rows, D width, V vocabulary.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety import losses
from jaxsafety.losses.dense import dense_divergence
from jaxsafety.losses.divergence import KINDS, VARIANTS, divergence
from jaxsafety.losses.logprobs import nll, token_logp
from jaxsafety.losses.sampled import ESTIMATORS, sampled_kl

B, T, D, V = 4, 33, 64, 4099
N, CHUNK = B * T, 50
CAP = 30.0  # of the logits, as Gemma 2 has it
SUBSET = np.arange(0, V, 97)
# What works chunk by chunk and has a gradient, and what only reports.
TRAINED = {
    "divergence.divergence",
    "logprobs.nll",
    "logprobs.token_logp",
    "sampled.sampled_kl",
}
REPORTED = {
    "logprobs.entropy",
    "logprobs.subset_logps",
    "profile.subset_mass",
    "profile.token_kl_profile",
}


@pytest.fixture(autouse=True)
def optimised():
    """The compiler's optimizations, which conftest.py leaves out."""
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, False)
    yield
    jax.config.update(name, before)


def arrays():
    """Hidden states and heads of student and teacher, weights (a third 0), tokens."""
    random = np.random.default_rng(0)
    ours, theirs = (random.normal(size=(N, D)).astype(np.float32) for _ in range(2))
    head, other = (random.normal(size=(D, V)).astype(np.float32) * 0.2 for _ in range(2))
    weight = np.where(random.random(N) < 0.7, random.random(N), 0).astype(np.float32)
    tokens = random.integers(0, V, (B, T)).astype(np.int32)
    return [jnp.asarray(x) for x in (ours, head, theirs, other, weight / weight.sum(), tokens)]


def compare(chunked, dense, *args):
    """Loss and gradients by the first two arguments, hidden states and head.

    The bound is the least exact loss's own rounding: in the tail of the forward KL, P - Q cancels,
    and float32 is off from float64 by 1.6e-5 of the gradient's norm (1.8e-6 the dense one; in
    float64 the two agree to 3e-14). Three times that is allowed; a wrong fusion is off by far more.
    """
    loss, expected = jax.value_and_grad(dense, argnums=(0, 1))(*args)
    value, got = jax.jit(jax.value_and_grad(chunked, argnums=(0, 1)))(*args)
    assert float(value) == pytest.approx(float(loss), rel=1e-5, abs=1e-6)
    for mine, theirs in zip(got, expected, strict=True):
        mine, theirs = np.asarray(mine, np.float64), np.asarray(theirs, np.float64)
        assert np.linalg.norm(theirs) > 0
        assert np.linalg.norm(mine - theirs) <= 5e-5 * np.linalg.norm(theirs)
        assert np.abs(mine - theirs).max() <= 1e-4 * np.abs(theirs).max()  # no single row is off


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_divergences(variant, kind):
    *args, _ = arrays()
    options = dict(variant=variant, kind=kind, subset=SUBSET, topk=20)

    def chunked(ours, head, theirs, other, weight):
        return divergence(ours, theirs, head, other, weight, chunk=CHUNK, **options)[0]

    def dense(ours, head, theirs, other, weight):
        return dense_divergence(ours, theirs, head, other, weight, **options)[0]

    compare(chunked, dense, *args)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimates_on_sampled_tokens(estimator):
    *args, tokens = arrays()
    tokens = tokens.reshape(N)

    def logp(hidden, head):
        return jnp.take_along_axis(jax.nn.log_softmax(hidden @ head), tokens[:, None], 1)[:, 0]

    def chunked(ours, head, theirs, other, weight):
        options = dict(head_t=other, estimator=estimator, chunk=CHUNK, train_head=True)
        return sampled_kl(ours, theirs, head, tokens, weight, **options)[0]

    def dense(ours, head, theirs, other, weight):
        p, ratio = logp(ours, head), logp(ours, head) - logp(theirs, other)
        if estimator == "k3":
            return jnp.sum(weight * (jnp.expm1(-ratio) + ratio))
        stop = jax.lax.stop_gradient  # the score function's gradient, at the value of the ratio
        return jnp.sum(weight * (stop(ratio) + stop(ratio) * (p - stop(p))))

    compare(chunked, dense, *args)


@pytest.mark.parametrize("cap", [0.0, CAP])
@pytest.mark.parametrize("chunk", [None, CHUNK])
def test_log_probabilities(chunk, cap):
    ours, head, _, _, weight, tokens = arrays()
    args = ours.reshape(B, T, D), head, weight.reshape(B, T), tokens

    def dense(hidden, head, weight, tokens):
        logits = hidden @ head
        logits = cap * jnp.tanh(logits / cap) if cap else logits
        logp = jax.nn.log_softmax(logits)[:, :-1]
        picked = jnp.take_along_axis(logp, tokens[:, 1:, None], 2)[..., 0]
        return -jnp.sum(weight[:, 1:] * picked)

    def by_token(hidden, head, weight, tokens):
        return -jnp.sum(weight * token_logp(hidden, head, tokens, chunk=chunk, cap=cap))

    def fused(hidden, head, weight, tokens):
        return nll(hidden, head, tokens, weight, chunk=chunk, cap=cap)[0]

    for loss in (by_token, fused):
        compare(loss, dense, *args)


def test_every_chunked_loss_is_here():
    found = set()
    for module in pkgutil.iter_modules(losses.__path__):
        loaded = importlib.import_module(f"{losses.__name__}.{module.name}")
        for name, fn in inspect.getmembers(loaded, inspect.isfunction):
            mine = fn.__module__ == loaded.__name__ and not name.startswith("_")
            if mine and "chunk" in inspect.signature(fn).parameters:
                found.add(f"{module.name}.{name}")
    assert found - {"chunks.loop", "chunks.rows_per_chunk"} == TRAINED | REPORTED

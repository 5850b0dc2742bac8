"""Token log-probabilities and the NLL: equal to dense, shifted by exactly one, chunked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.losses.logprobs import entropy, nll, shift, subset_logps, token_logp, unshift
from jaxsafety.losses.weights import token_weights

B, T, D, V = 3, 6, 5, 11


def arrays(seed=0):
    random = np.random.default_rng(seed)
    hidden = random.normal(size=(B, T, D)).astype(np.float32)
    head = random.normal(size=(D, V)).astype(np.float32)
    tokens = random.integers(0, V, (B, T)).astype(np.int32)
    mask = random.random((B, T)) < 0.6
    mask[:, 0] = False
    return hidden, head, tokens, mask


def dense_logp(hidden, head, tokens):
    """Token t from hidden t-1, spelled out position by position."""
    logp = jax.nn.log_softmax(hidden @ head)
    columns = [jnp.zeros(B)]
    for t in range(1, T):
        columns.append(logp[jnp.arange(B), t - 1, tokens[:, t]])
    return jnp.stack(columns, 1)


def relative(got, expected):
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


def test_shift_and_unshift_by_hand():
    tokens = jnp.array([[10, 11, 12], [20, 21, 22]])
    rows, targets, weight = shift(jnp.arange(6.0).reshape(2, 3, 1), tokens, tokens * 1.0)
    np.testing.assert_array_equal(rows[:, 0], np.arange(6))
    np.testing.assert_array_equal(targets, [11, 12, 0, 21, 22, 0])
    np.testing.assert_array_equal(weight, targets)
    expected = [[0, 11, 12], [0, 21, 22]]
    np.testing.assert_array_equal(unshift(targets, 2), expected)


@pytest.mark.parametrize("chunk", [None, 5])
def test_token_logp_equals_dense_in_value_and_in_any_gradient(chunk):
    hidden, head, tokens, mask = arrays()

    def margin(logp):  # not linear in logp, so the cotangents differ per token
        return jnp.sum(jnp.tanh(jnp.where(mask, logp, 0).sum(1)) ** 2)

    def pair(fn):
        return jax.jit(jax.value_and_grad(lambda h, w: margin(fn(h, w, tokens)), argnums=(0, 1)))

    np.testing.assert_allclose(
        token_logp(hidden, head, tokens, chunk=chunk), dense_logp(hidden, head, tokens), atol=2e-6
    )
    masked = lambda h, w, t: token_logp(h, w, t, mask=mask, chunk=chunk)  # noqa: E731
    asked = np.where(mask, dense_logp(hidden, head, tokens), 0)
    np.testing.assert_allclose(masked(hidden, head, tokens), asked, atol=2e-6)
    for a, b in zip(*(pair(fn)(hidden, head)[1] for fn in (masked, dense_logp)), strict=True):
        assert relative(a, b) < 1e-5
    ours = pair(lambda h, w, t: token_logp(h, w, t, chunk=chunk))(hidden, head)
    dense = pair(dense_logp)(hidden, head)
    assert float(ours[0]) == pytest.approx(float(dense[0]), abs=1e-6)
    for mine, theirs in zip(ours[1], dense[1], strict=True):
        assert relative(mine, theirs) <= 1e-5
    only = jax.jit(jax.grad(lambda h: margin(token_logp(h, head, tokens, chunk=chunk))))(hidden)
    assert relative(only, dense[1][0]) <= 1e-5  # the path without a gradient for the head


@pytest.mark.parametrize("chunk", [None, 4, 7])
def test_nll_equals_dense(chunk):
    hidden, head, tokens, mask = arrays()
    weight = token_weights(mask)

    def dense(h, w):
        return -jnp.sum(weight * dense_logp(h, w, tokens))

    ours = jax.jit(
        jax.value_and_grad(
            lambda h, w: nll(h, w, tokens, weight, chunk=chunk), argnums=(0, 1), has_aux=True
        )
    )
    (loss, metrics), gradients = ours(hidden, head)
    expected, slopes = jax.value_and_grad(dense, argnums=(0, 1))(hidden, head)
    assert float(loss) == pytest.approx(float(expected), abs=1e-6)
    for mine, theirs in zip(gradients, slopes, strict=True):
        assert relative(mine, theirs) <= 1e-5
    best = np.argmax(hidden @ head, -1)[:, :-1] == tokens[:, 1:]
    assert float(metrics["accuracy"]) == pytest.approx(
        float((best * weight[:, 1:]).sum()), abs=1e-6
    )
    assert float(metrics["nll"]) == float(loss)


def test_nll_ignores_what_has_no_weight_bit_for_bit():
    hidden, head, tokens, mask = arrays()
    weight = token_weights(mask)
    fn = jax.jit(
        jax.value_and_grad(lambda h, t: nll(h, head, t, weight, chunk=4)[0], allow_int=True)
    )
    loss, gradient = fn(hidden, tokens)
    predicts = np.pad(mask[:, 1:], ((0, 0), (0, 1)))  # position t predicts token t + 1
    assert np.all(np.asarray(gradient)[~predicts] == 0)
    assert np.all(np.abs(gradient).max(-1)[predicts] > 0)
    dirty = np.where(predicts[..., None], hidden, np.nan)
    other = np.where(mask, tokens, (tokens + 3) % V)
    loss_again, gradient_again = fn(dirty, other)
    assert float(loss) == float(loss_again)
    np.testing.assert_array_equal(gradient, gradient_again)


def test_the_shift_is_exactly_one():
    hidden, head, tokens, mask = arrays()
    weight = token_weights(mask)
    loss = float(nll(hidden, head, tokens, weight)[0])
    for moved in (np.roll(tokens, 1, 1), np.roll(tokens, -1, 1)):
        assert abs(float(nll(hidden, head, moved, weight)[0]) - loss) > 1e-2
    logp = token_logp(hidden, head, tokens)
    bumped = token_logp(hidden + 3 * np.eye(T)[0][None, :, None], head, tokens)
    changed = np.abs(bumped - logp).max(0) > 1e-4
    np.testing.assert_array_equal(changed, np.arange(T) == 1)  # hidden 0 speaks about token 1


def test_nll_accumulates_and_frozen_heads_get_nothing():
    hidden, head, tokens, mask = arrays()
    weight = token_weights(mask)
    fn = jax.value_and_grad(lambda w, i: nll(hidden[i], w, tokens[i], weight[i], chunk=4)[0])
    whole = fn(head, slice(0, 3))
    parts = [fn(head, slice(0, 1)), fn(head, slice(1, 3))]
    assert float(whole[0]) == pytest.approx(sum(float(p[0]) for p in parts), abs=1e-6)
    assert relative(parts[0][1] + parts[1][1], whole[1]) < 1e-5
    off = jax.grad(lambda w: nll(hidden, w, tokens, weight, train_head=False)[0])(head)
    assert np.all(np.asarray(off) == 0)


def test_gradients_scale_with_the_loss_and_reach_the_weights():
    hidden, head, tokens, mask = arrays()
    weight = token_weights(mask)

    def gradients(scale, chunk):
        def loss(hidden, head, weight):
            return scale * nll(hidden, head, tokens, weight, chunk=chunk)[0]

        return jax.grad(loss, argnums=(0, 1, 2))(hidden, head, weight)

    for chunk in (None, 4):
        for once, scaled in zip(gradients(1.0, chunk), gradients(-3.0, chunk), strict=True):
            assert relative(scaled, -3.0 * np.asarray(once)) <= 1e-6
        # a weight's gradient is its token's loss; rows of weight 0 are absent
        expected = np.where(mask, -dense_logp(hidden, head, tokens), 0)
        np.testing.assert_allclose(gradients(1.0, chunk)[2], expected, atol=2e-6)


@pytest.mark.parametrize("loss", ["nll", "token_logp"])
def test_temporary_memory_is_of_chunks_not_of_rows(loss):
    chunk, vocab, width, length = 32, 1024, 4, 64

    def temporary(batch):
        def fn(hidden, head, tokens, weight):
            if loss == "nll":
                return nll(hidden, head, tokens, weight, chunk=chunk)[0]
            return jnp.sum(weight * token_logp(hidden, head, tokens, chunk=chunk))

        args = (
            jax.ShapeDtypeStruct((batch, length, width), jnp.float32),
            jax.ShapeDtypeStruct((width, vocab), jnp.float32),
            jax.ShapeDtypeStruct((batch, length), jnp.int32),
            jax.ShapeDtypeStruct((batch, length), jnp.float32),
        )
        compiled = jax.jit(jax.grad(fn, argnums=(0, 1))).lower(*args).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = temporary(32), temporary(64)
    rows = 32 * length
    assert few < 4 * rows * vocab / 4  # a quarter of one dense [N,V]
    assert many < 1.1 * few + 20 * 4 * rows * width


def test_subset_logps_and_entropy():
    hidden, head, _, _ = arrays()
    rows = hidden.reshape(-1, D)
    logp = np.asarray(jax.nn.log_softmax(rows @ head))
    ids = [4, 0, 9]
    for chunk in (None, 7):
        np.testing.assert_allclose(
            subset_logps(rows, head, ids, chunk=chunk), logp[:, ids], atol=2e-6
        )
        expected = -(np.exp(logp) * logp).sum(1)
        np.testing.assert_allclose(entropy(rows, head, chunk=chunk), expected, atol=2e-6)
    assert np.all(np.asarray(jax.grad(lambda x: entropy(x, head, chunk=7).sum())(rows)) == 0)
    with pytest.raises(UsageError, match="token_set"):
        subset_logps(rows, head, [])

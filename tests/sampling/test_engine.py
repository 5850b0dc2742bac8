"""`sample` is a prefill and steps; temperature, top-p and keys are arrays, one per row."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.models import api
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling import decode, engine
from jaxsafety.sampling.prompts import pad_prompts, row_keys
from jaxsafety.testing import tiny_model

pytestmark = pytest.mark.usefixtures("fused")
STOP = (3, 7, 11, 12, 40, 41, 42)


@pytest.fixture(scope="module")
def tiny():
    model, params = tiny_model("llama")
    # Sharp enough for top-p; sharper, and float32 alone moves log-probabilities by 1e-5.
    params["embed"]["table"] = params["embed"]["table"] * 5
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, 200, rng.integers(3, 15)).tolist() for _ in range(6)]
    return (
        model,
        params,
        pad_prompts(ids, 0, (16,)),
        row_keys(0, 0, range(6), [0] * 6),
    )


def by_hand(model, params, prompts, knobs, room, layers=LayerInputs(), steer="all", **static):
    """The loop of `sample`, one call at a time, as a server makes it."""
    first, later = engine.phases(layers, prompts.mask, steer)
    state = engine.prefill(model, params, prompts, knobs, first, room=room, **static)
    rows = [(state.token, state.logp)]
    steps = jax.jit(lambda s: engine.step(model, params, s, knobs, later, **static))
    while len(rows) < room and not bool(state.finished.all()):
        state = steps(state)
        rows.append((state.token, state.logp))
    return state, *(np.stack(x, axis=1) for x in zip(*rows, strict=True))


@pytest.mark.parametrize("steer", ["all", "prompt"])
def test_a_prefill_and_steps_are_sample(tiny, steer):
    model, params, prompts, keys = tiny
    cfg = SampleConfig(9, temperature=2.0, top_p=0.9, stop=STOP, banned=(5,))
    layers = LayerInputs(add=jnp.zeros((3, 32)).at[1, 0].set(4.0))
    out = decode.sample(model, params, prompts, keys, cfg, layers, steer)
    knobs = engine.turn(keys, 2.0, 0.9)
    state, tokens, logp = by_hand(
        model, params, prompts, knobs, 9, layers, steer, stop=STOP, banned=(5,)
    )
    width = prompts.tokens.shape[1]
    said = np.asarray(out.tokens)[:, width:]
    np.testing.assert_array_equal(tokens, said[:, : tokens.shape[1]])
    assert not said[:, tokens.shape[1] :].any()
    np.testing.assert_allclose(logp, np.asarray(out.logp)[:, width:][:, : logp.shape[1]], atol=1e-5)
    np.testing.assert_array_equal(state.finished, out.finished)


def test_three_temperatures_are_one_compiled_program(tiny):
    model, params, prompts, keys = tiny
    traced = []

    def counting(*args, **kwargs):
        traced.append(1)
        return model.apply(*args, **kwargs)

    spy = replace(model, apply=counting)
    kinds = [SampleConfig(4, t, p) for t, p in ((0.0, 1.0), (1.25, 1.0), (5.0, 0.9), (0.0, 0.5))]
    said = [decode.sample(spy, params, prompts, keys, cfg).tokens.tolist() for cfg in kinds]
    assert len(traced) == 2  # the prefill and the step of one program
    assert said[0] == said[3] and said[0] != said[1] != said[2]


def test_rows_of_one_batch_have_their_own_knobs(tiny):
    """Each row is what it is in a batch where all rows have its temperature and top-p."""
    model, params, prompts, keys = tiny
    heat, share = [0.0, 1.25, 2.25, 0.0, 5.0, 2.25], [1.0, 1.0, 0.6, 0.5, 0.9, 1.0]
    mixed = by_hand(model, params, prompts, engine.turn(keys, heat, share), 6)[1]
    for row, (t, p) in enumerate(zip(heat, share, strict=True)):
        alone = decode.sample(model, params, prompts, keys, SampleConfig(6, t, p))
        assert mixed[row].tolist() == np.asarray(alone.tokens)[row, 16:].tolist()


def test_rows_that_ended_say_nothing_more(tiny):
    model, params, prompts, keys = tiny
    knobs = engine.turn(keys, 5.0)
    state = engine.prefill(model, params, prompts, knobs, room=8, stop=tuple(range(0, 260, 2)))
    ended = np.asarray(state.finished)
    assert ended.any() and not ended.all()
    state = engine.step(model, params, state, knobs, stop=tuple(range(0, 260, 2)))
    assert not np.asarray(state.token)[ended].any() and not np.asarray(state.logp)[ended].any()
    assert np.asarray(state.logp)[~ended].all() and (np.asarray(state.count) == 2).all()


def test_answers_have_the_score_of_each_token_and_of_the_stop(tiny):
    model, params, prompts, keys = tiny
    cfg = SampleConfig(8, 2.25, stop=tuple(range(0, 260, 2)))
    out = decode.sample(model, params, prompts, keys, cfg)
    for row, answer in enumerate(decode.answers(out, 16)):
        valid = np.asarray(out.completion)[row, 16:]
        assert len(answer.logp) == valid.sum() == len(answer.ids) + answer.finished
        np.testing.assert_array_equal(answer.logp, np.asarray(out.logp)[row, 16:][valid])


def test_nothing_random_is_computed_where_all_rows_are_greedy(tiny):
    """The program holds both ways; which one runs is decided by a scalar it is given."""
    model, params, prompts, keys = tiny
    greedy, drawn = engine.turn(keys, 0.0, 0.5), engine.turn(keys, [0.0] * 5 + [1.0])
    assert not greedy.draws and not greedy.cuts and drawn.draws and not drawn.cuts
    wrong = replace(drawn, draws=np.bool_(False))  # the scalar decides
    a, b = (engine.prefill(model, params, prompts, k, room=1).token for k in (greedy, wrong))
    np.testing.assert_array_equal(a, b)


def test_unrolled_parameters_serve_the_steps(tiny):
    model, params, prompts, keys = tiny
    unrolled = api.build(replace(model.config, unroll=True))
    knobs = engine.turn(keys, 0.0)
    state = engine.prefill(unrolled, params, prompts, knobs, room=3)
    split = api.unstacked(unrolled.config, params)
    plain = engine.step(model, params, engine.prefill(model, params, prompts, knobs, room=3), knobs)
    np.testing.assert_array_equal(engine.step(unrolled, split, state, knobs).token, plain.token)


def test_long_answers_in_pieces_are_the_same_and_can_be_ended(tiny, monkeypatch):
    model, params, prompts, keys = tiny
    monkeypatch.setattr(decode, "PIECE", 4)
    cfg = SampleConfig(18, 9.0, stop=tuple(range(0, 260, 9)))
    seen = []
    whole = decode.sample(model, params, prompts, keys, cfg)
    pieces = decode.sample(model, params, prompts, keys, cfg, inside=lambda *at: seen.append(at))
    assert seen[:3] == [(1, 18), (5, 18), (9, 18)]
    np.testing.assert_array_equal(pieces.tokens, whole.tokens)
    np.testing.assert_array_equal(pieces.finished, whole.finished)
    np.testing.assert_array_equal(pieces.completion, whole.completion)
    np.testing.assert_allclose(pieces.logp, whole.logp, atol=1e-5)

    def end(tokens, most):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode.sample(model, params, prompts, keys, cfg, inside=end)


def test_short_answers_stay_one_program(tiny, monkeypatch):
    model, params, prompts, keys = tiny
    monkeypatch.setattr(decode, "pieces", lambda *args: pytest.fail("in pieces"))
    decode.sample(model, params, prompts, keys, SampleConfig(4), inside=lambda *at: None)

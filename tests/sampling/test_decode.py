"""Decoding equals the full forward pass, and a sample depends on nothing but its own key."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import sharding
from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Answer, PromptBatch
from jaxsafety.models import api
from jaxsafety.models.api import LayerInputs, ModelConfig
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling import decode, many
from jaxsafety.sampling.prompts import buckets, pad_prompts, row_keys
from jaxsafety.testing import tiny_model

V, L, D = 48, 3, 32
WIDTH = 48  # of the reference's right-padded rows
TOKENIZER = SimpleNamespace(pad_id=0)
GREEDY = SampleConfig(max_tokens=10, temperature=0.0)


@pytest.fixture(scope="module")
def tiny():
    config = ModelConfig("llama", V, D, L, 4, 2, 8, 64, max_length=64)
    model = api.build(config)
    params = model.init(jax.random.key(0))
    # Larger embeddings: near-uniform logits would make argmax a coin toss between runs.
    params["embed"]["table"] = params["embed"]["table"] * 20
    return model, params


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, V, rng.integers(3, 30)).tolist() for _ in range(count)]


@partial(jax.jit, static_argnames="model")
def next_logits(model, params, tokens, length, layers):
    """Logits after `length` tokens of a right-padded row: a full forward without any cache."""
    out = model.apply(params, tokens[None], jnp.arange(len(tokens))[None], layers=layers)
    return model.unembed(params, out.hidden[0, length - 1])


def continue_greedily(model, params, prompt, count, add=None, everywhere=True):
    """Reference: one full forward per new token."""
    ids = list(prompt)
    for _ in range(count):
        where = jnp.arange(WIDTH)[None] < (WIDTH if everywhere else len(prompt))
        layers = LayerInputs(add=jnp.zeros((L, D)) if add is None else add, where=where)
        tokens = jnp.asarray(ids + [0] * (WIDTH - len(ids)))
        ids.append(int(jnp.argmax(next_logits(model, params, tokens, len(ids), layers))))
    return ids[len(prompt) :]


def ids(row):
    """What was said, without its scores: they may differ in the last bit from batch to batch."""
    return [(answer.ids, answer.finished) for answer in row]


def test_greedy_equals_the_full_forward(tiny):
    model, params = tiny
    texts = prompts(4)
    got = many.generate(model, params, TOKENIZER, texts, GREEDY, seed=0, batch_size=4)
    for text, answers in zip(texts, got, strict=True):
        assert answers[0].ids == continue_greedily(model, params, text, 10)


@pytest.mark.parametrize("steer", ["all", "prompt"])
def test_steering_modes_equal_the_full_forward(tiny, steer):
    model, params = tiny
    noise = 3 * np.random.default_rng(1).normal(size=D)
    add = jnp.zeros((L, D)).at[1].set(noise)
    text = prompts(1)[0]
    expected = continue_greedily(model, params, text, 10, add, steer == "all")
    steered = LayerInputs(add=add)
    got = many.generate(
        model, params, TOKENIZER, [text], GREEDY, seed=0, batch_size=2, layers=steered, steer=steer
    )
    plain = many.generate(model, params, TOKENIZER, [text], GREEDY, seed=0, batch_size=2)
    assert got[0][0].ids == expected
    assert got != plain


def test_samples_depend_on_neither_batch_nor_order(tiny):
    model, params = tiny
    cfg = SampleConfig(max_tokens=8, stop=(3, 4))
    texts = [t + t for t in prompts(7)]
    texts = [t[:30] for t in texts if len(t) > 16] + [[5] * 20] * 7
    texts = texts[:7]  # all in one bucket: fewer programs to compile

    def run(order, batch_size):
        got = many.generate(
            model,
            params,
            TOKENIZER,
            [texts[i] for i in order],
            cfg,
            seed=5,
            samples=2,
            batch_size=batch_size,
            names=order,
        )
        return {i: ids(answers) for i, answers in zip(order, got, strict=True)}

    first = run([0, 1, 2, 3, 4, 5, 6], 4)
    assert run([6, 2, 0, 5, 1, 3, 4], 3) == first
    assert run([3], 4) == {3: first[3]}
    assert first[0][0] != first[0][1]
    again = many.generate(model, params, TOKENIZER, texts, cfg, seed=6, samples=2, batch_size=4)
    assert [ids(row) for row in again] != list(first.values())


def test_padding_width_does_not_change_a_sample(tiny):
    model, params = tiny
    text, cfg = prompts(1)[0], SampleConfig(max_tokens=8)
    keys = row_keys(0, 0, [0], [0])
    new = [
        np.asarray(decode.sample(model, params, pad_prompts([text], 0, (w,)), keys, cfg).tokens)[
            0, w:
        ]
        for w in (32, 48)
    ]
    np.testing.assert_array_equal(*new)


def test_stop_ids_end_a_row_and_masks_are_cumulative(tiny):
    model, params = tiny
    batch = pad_prompts(prompts(16), 0, (32,))
    cfg = SampleConfig(max_tokens=24, stop=(3, 7, 11, 12))
    keys = row_keys(0, 0, range(16), [0] * 16)
    out = decode.sample(model, params, batch, keys, cfg)
    new, valid = np.asarray(out.tokens)[:, 32:], np.asarray(out.completion)[:, 32:]
    logp = np.asarray(out.logp)[:, 32:]
    assert np.asarray(out.finished).any()
    for row in range(16):
        hits = np.flatnonzero(np.isin(new[row], cfg.stop) & valid[row])
        length = int(hits[0]) + 1 if len(hits) else 24
        assert valid[row].tolist() == [t < length for t in range(24)]
        assert bool(out.finished[row]) == bool(len(hits))
        assert (new[row, length:] == 0).all() and (logp[row, length:] == 0).all()
    np.testing.assert_array_equal(np.asarray(out.mask)[:, :32], np.asarray(batch.mask))
    np.testing.assert_array_equal(np.asarray(out.mask)[:, 32:], valid)
    assert not np.asarray(out.completion)[:, :32].any()


def test_logp_is_the_plain_models_whatever_the_decoding(tiny):
    model, params = tiny
    text = prompts(1)[0]
    cfg = SampleConfig(max_tokens=6, temperature=0.7, top_p=0.8, banned=(1, 2, 5))
    batch = pad_prompts([text], 0, (32,))
    out = decode.sample(model, params, batch, row_keys(1, 0, [0], [0]), cfg)
    ids = [*text, *np.asarray(out.tokens)[0, 32:].tolist()]
    full = model.apply(params, jnp.asarray([ids]), jnp.arange(len(ids))[None])
    logps = jax.nn.log_softmax(model.unembed(params, full.hidden)[0])
    n = len(text)
    expected = [float(logps[n - 1 + t, ids[n + t]]) for t in range(6)]
    np.testing.assert_allclose(np.asarray(out.logp)[0, 32:], expected, atol=1e-4)


def test_greedy_stops_with_the_token_left_out(tiny):
    model, params = tiny
    text = prompts(1)[0]
    free = continue_greedily(model, params, text, 10)
    stop = free[4]
    cfg = replace(GREEDY, stop=(stop,))
    got = many.generate(model, params, TOKENIZER, [text], cfg, seed=0, samples=3, batch_size=2)
    assert [[a.ids for a in row] for row in got] == [[free[: free.index(stop)]] * 3]
    assert all(a.finished and len(a.logp) == len(a.ids) + 1 for a in got[0])


def test_generate_compiles_once_per_bucket(tiny):
    model, params = tiny
    traced = []

    def counting(*args, **kwargs):
        traced.append(args[1].shape)
        return model.apply(*args, **kwargs)

    spy = replace(model, apply=counting)
    cfg, texts = SampleConfig(max_tokens=4), prompts(23)
    many.generate(spy, params, TOKENIZER, texts, cfg, seed=0, batch_size=4)
    prefills = [shape for shape in traced if shape[1] > 1]
    assert len(set(prefills)) == len(prefills) > 1
    assert all(rows == 4 and width in buckets(60) for rows, width in prefills)
    count = len(traced)
    many.generate(spy, params, TOKENIZER, prompts(11, 3), cfg, seed=1, step=9, batch_size=4)
    assert len(traced) == count


def test_no_new_tokens_is_a_valid_request(tiny):
    model, params = tiny
    cfg = SampleConfig(max_tokens=0)
    got = many.generate(model, params, TOKENIZER, prompts(2), cfg, seed=0, samples=2)
    assert got == [[Answer([], False, [])] * 2] * 2
    batch = pad_prompts(prompts(2), 0, (32,))
    out = decode.sample(model, params, batch, row_keys(0, 0, [0, 1], [0, 0]), cfg)
    assert out.tokens.shape == (2, 32) and not np.asarray(out.completion).any()


def test_no_prompts_give_no_answers(tiny):
    assert many.generate(*tiny, TOKENIZER, [], GREEDY, seed=0) == []


def test_buckets_end_at_the_limit():
    assert buckets(200) == (16, 32, 48, 64, 96, 128, 192, 200)
    assert buckets(16) == (16,)
    assert buckets(10) == (10,)
    assert buckets(2048)[-3:] == (1024, 1536, 2048)


def test_pad_prompts_pads_on_the_left():
    batch = pad_prompts([[1, 2, 3], [4]], 9, (4, 8))
    assert isinstance(batch, PromptBatch)
    assert batch.tokens.tolist() == [[9, 1, 2, 3], [9, 9, 9, 4]]
    assert batch.mask.sum(axis=1).tolist() == [3, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": [[1] * 60]}, "60 tokens"),
        ({"prompts": [[]]}, "0 tokens"),
        ({"steer": "some"}, "steer"),
        ({"layers": LayerInputs(add=jnp.zeros((L, 1, 1, D)))}, "layers.add"),
        ({"layers": LayerInputs(where=jnp.ones((1, 1), bool))}, "layers.where"),
        ({"cfg": SampleConfig(max_tokens=4, stop=(V,))}, "sample.stop"),
        ({"cfg": SampleConfig(max_tokens=4, top_p=0.0)}, "sample.top_p"),
    ],
)
def test_bad_input_is_one_line(tiny, change, message):
    given = {"prompts": [[1, 2]], "cfg": GREEDY} | change
    with pytest.raises(UsageError, match=message) as error:
        many.generate(*tiny, TOKENIZER, given.pop("prompts"), given.pop("cfg"), seed=0, **given)
    assert "\n" not in str(error.value)


@pytest.mark.distributed
def test_eight_devices_draw_the_same_samples(tiny):
    model, params = tiny
    axis = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((8,), ("data",), axis_types=axis)
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    batch = pad_prompts(prompts(8), 0, (32,))
    keys = row_keys(0, 0, range(8), [0] * 8)
    cfg = SampleConfig(max_tokens=8, stop=(3,))
    one = decode.sample(model, params, batch, keys, cfg)
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    many = decode.sample(
        model,
        jax.device_put(params, whole),
        jax.device_put(batch, rows),
        jax.device_put(keys, rows),
        cfg,
    )
    assert len(many.tokens.sharding.device_set) == 8
    np.testing.assert_array_equal(one.tokens, many.tokens)
    np.testing.assert_allclose(one.logp, many.logp, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", pytest.param("gemma2", marks=pytest.mark.slow)])
def test_unrolled_decoding_says_the_same(family):
    model, params = tiny_model(family)
    unrolled = api.build(replace(model.config, unroll=True))
    batch = pad_prompts([[9, 8, 7, 30, 12], [5, 6], [40]], 0, (8,))
    keys = row_keys(0, 0, range(3), [0] * 3)
    steering = 2.0 * jax.random.normal(jax.random.key(1), (3, model.config.embed_dim))
    for layers in (LayerInputs(), LayerInputs(add=steering)):
        one, other = (
            decode.sample(m, params, batch, keys, SampleConfig(12, 0.0, stop=()), layers)
            for m in (model, unrolled)
        )
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_allclose(one.logp, other.logp, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_calls_that_an_earlier_start_kept_are_not_made_again(tiny, monkeypatch, temperature):
    model, params = tiny
    cfg = SampleConfig(max_tokens=6, temperature=temperature)
    given, told, kept = prompts(11), [], {}
    run = partial(many.generate, model, params, TOKENIZER, given, cfg, seed=3, batch_size=4)
    whole = run(samples=2, progress=told.append, keep=lambda n, rows: kept.update({n: rows}))
    rows = 11 if temperature == 0 else 22
    assert told == [min(i + 4, rows) for i in range(0, rows, 4)]
    assert sum(map(len, kept.values())) == rows
    calls = []
    real = decode.sample
    monkeypatch.setattr(decode, "sample", lambda *a, **k: calls.append(1) or real(*a, **k))
    known = {(i, s): ids for n, part in kept.items() if n != 4 for i, s, ids in part}
    assert run(samples=2, known=known) == whole
    assert len(calls) == 1  # the batch that was lost
    assert run(samples=2, known={**known, (99, 0): []}) == whole


def test_answers_are_the_same_on_a_mesh_with_its_constraints_in_force(tiny):
    model, params = tiny
    alone = many.generate(model, params, TOKENIZER, prompts(9), GREEDY, seed=0, batch_size=8)
    mesh = sharding.make_mesh(sharding.MeshConfig(2, 2, 2))
    placed = jax.device_put(params, sharding.shardings(model.axes, params, mesh))
    with sharding.scope(mesh):
        spread = many.generate(model, placed, TOKENIZER, prompts(9), GREEDY, seed=0, batch_size=8)
    assert [ids(row) for row in spread] == [ids(row) for row in alone]
    for one, other in zip(spread, alone, strict=True):
        np.testing.assert_allclose(one[0].logp, other[0].logp, atol=1e-4)

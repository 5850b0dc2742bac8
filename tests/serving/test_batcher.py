"""Requests that come and go get what `generate` says alone, on every kind of model."""

from __future__ import annotations

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.core import sharding
from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Answer
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.tokenizer import ByteTokenizer
from jaxsafety.losses.logprobs import token_logp
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import SampleConfig, Served
from jaxsafety.sampling import many, rows
from jaxsafety.serving import batcher as batching
from jaxsafety.serving import scores
from jaxsafety.serving.batcher import Ask, Batcher, Busy, Ticket

ROOM = 70
FAMILIES = ["llama", "qwen3", "gemma2", "gemma3_text"]


def made(family, **changes):
    model, params = testing.tiny_model(family, **changes)
    params["embed"]["table"] = params["embed"]["table"] * 5
    return model, Served(params, LayerInputs(), "all", encode_prompt)


class Listener:
    """What one ticket is told."""

    def __init__(self):
        self.ids, self.logp, self.end, self.done = [], [], "", threading.Event()

    def __call__(self, token, logp, end):
        if token >= 0:
            self.ids.append(token)
            self.logp.append(logp)
        if end:
            self.end = end
            self.done.set()


def ask(batcher, prompts, **settings):
    """Tickets of prompts, one submission each, a little apart."""
    heard = []
    for number, (ids, most) in enumerate(prompts):
        heard.append(Listener())
        batcher.submit([Ticket(ids, most, heard[-1], seed=number, **settings)])
    for listener in heard:
        assert listener.done.wait(120)
    return heard


def alone(model, what, ids, most, seed, temperature=0.0, top_p=1.0, steer="all"):
    """The first `most` tokens of a longer answer: one program for all numbers."""
    tokenizer = ByteTokenizer()
    cfg = SampleConfig(ROOM, temperature, top_p, stop=tuple(tokenizer.eos_ids))
    [[answer]] = many.generate(
        model, what.params, tokenizer, [ids], cfg, seed=seed, layers=what.layers, steer=steer
    )
    ended = answer.finished and len(answer.ids) < most
    return Answer(answer.ids[:most], ended, answer.logp[:most])


@pytest.fixture
def small(monkeypatch):
    """Few slots, so that caches grow in a short test."""
    monkeypatch.setattr(batching, "SLOTS", 32)


@pytest.mark.parametrize(
    ("family", "heat"),
    [*((family, (0.0, 1.0)) for family in FAMILIES), ("gemma3_text", (1.3, 0.9))],
)
def test_answers_are_those_of_generate(small, family, heat):
    model, what = made(family)
    rng = np.random.default_rng(0)
    prompts = [
        (rng.integers(1, 250, rng.integers(1, 30)).tolist(), int(rng.integers(1, ROOM)))
        for _ in range(14)
    ]
    batcher = Batcher(model, ByteTokenizer(), what, rows=3, context=128)
    try:
        heard = ask(batcher, prompts, temperature=heat[0], top_p=heat[1])
        counts, load = batcher.counts, batcher.load
    finally:
        batcher.close()
    assert not counts.failed and load == (0, 0)
    assert counts.widest > batching.SLOTS and counts.most == 3  # all of it was tried
    for number, ((ids, most), listener) in enumerate(zip(prompts, heard, strict=True)):
        right = alone(model, what, ids, most, number, *heat)
        assert listener.ids == right.ids
        assert listener.end == (batching.STOP if right.finished else batching.LENGTH)
        np.testing.assert_allclose(listener.logp, right.logp[: len(right.ids)], atol=2e-5)


@pytest.mark.parametrize("steer", ["all", "prompt"])
def test_steering_is_where_it_is_alone(small, steer):
    model, plain = made("llama")
    add = jnp.zeros((model.config.num_layers, model.config.embed_dim)).at[1, 3].set(6.0)
    what = plain._replace(layers=LayerInputs(add=add), steer=steer)
    prompts = [([5, 6, 7], 9), ([9] * 20, 9), ([4, 8], 9)]
    batcher = Batcher(model, ByteTokenizer(), what, rows=2, context=64)
    try:
        heard = ask(batcher, prompts)
    finally:
        batcher.close()
    plainly = [alone(model, plain, ids, most, 0).ids for ids, most in prompts]
    for number, ((ids, most), listener) in enumerate(zip(prompts, heard, strict=True)):
        assert listener.ids == alone(model, what, ids, most, number, steer=steer).ids
    assert [listener.ids for listener in heard] != plainly


def test_slots_are_taken_as_tokens_come_not_as_they_are_asked_for(small):
    model, what = made("llama", max_length=4096)
    batcher = Batcher(model, ByteTokenizer(), what, rows=2, context=4096)
    try:
        first = Listener()
        ticket = Ticket([1, 2, 3], 4000, first)
        batcher.submit([ticket])
        while len(first.ids) < 80:
            time.sleep(0.01)
        assert batcher.counts.widest <= 256
        ticket.cancel()
        assert first.done.wait(60) and len(first.ids) < 200
        right = alone(model, what, [1, 2, 3], ROOM, 0)
        assert first.ids[:40] == right.ids[:40]
        [short] = ask(batcher, [([4, 5], 3)])
        assert short.end and batcher._slots == 64 < batcher.counts.widest  # who is alone has few
    finally:
        batcher.close()


@pytest.mark.distributed
def test_on_a_mesh_answers_are_the_same(small):
    model, plain = made("llama")
    mesh = sharding.make_mesh(sharding.MeshConfig(2, 2, 2))
    placed = jax.device_put(plain.params, sharding.shardings(model.axes, plain.params, mesh))
    prompts = [([5, 6, 7], 9), ([9] * 20, 40), ([4, 8], 9), ([3] * 5, 20), ([2], 12)]
    with sharding.scope(mesh):
        batcher = Batcher(
            model, ByteTokenizer(), plain._replace(params=placed), rows=4, context=128, mesh=mesh
        )
        try:
            heard = ask(batcher, prompts)
            counts = batcher.counts
        finally:
            batcher.close()
    assert not counts.failed
    for number, ((ids, most), listener) in enumerate(zip(prompts, heard, strict=True)):
        assert listener.ids == alone(model, plain, ids, most, number).ids


def test_one_program_serves_all_requests(small):
    model, what = made("llama")
    batcher = Batcher(model, ByteTokenizer(), what, rows=4, context=32)
    try:
        ask(batcher, [([1, 2, 3], 4)])
        before = [f._cache_size() for f in (rows.read, rows.advance, rows._seat)]
        for heat in (0.0, 0.7, 2.0):
            ask(
                batcher,
                [([number + 1] * (number % 20 + 1), 8) for number in range(6)],
                temperature=heat,
                top_p=0.5,
            )
        after = [f._cache_size() for f in (rows.read, rows.advance, rows._seat)]
    finally:
        batcher.close()
    assert all(b - a <= 1 for a, b in zip(before, after, strict=True))  # groups of 1 and of 4


def test_who_leaves_frees_the_row_and_the_others_go_on(small):
    model, what = made("llama")
    batcher = Batcher(model, ByteTokenizer(), what, rows=1, context=128)
    try:
        first, second = Listener(), Listener()
        stays = Ticket([1, 2], 100, first)
        batcher.submit([stays])
        waits = Ticket([3, 4], 5, Listener())
        batcher.submit([waits, Ticket([7, 8], 5, second, seed=1)])
        while not first.ids:
            time.sleep(0.01)
        stays.cancel()
        waits.cancel()
        assert first.done.wait(60) and second.done.wait(60)
        assert first.end == batching.GONE and len(first.ids) < 100
        assert waits.tell.end == batching.GONE and not waits.tell.ids
        assert second.ids == alone(model, what, [7, 8], 5, 1).ids
    finally:
        batcher.close()


def test_a_failure_ends_its_batch_alone(small, monkeypatch):
    model, what = made("llama")
    batcher = Batcher(model, ByteTokenizer(), what, rows=2, context=64)
    try:
        [right] = ask(batcher, [([1, 2], 6)])
        whole = rows.advance

        def broken(*args):
            monkeypatch.setattr(rows, "advance", whole)
            raise RuntimeError("out of memory")

        monkeypatch.setattr(rows, "advance", broken)
        [lost] = ask(batcher, [([1, 2], 6)])
        assert lost.end == batching.FAILED and "out of memory" in batcher.counts.failed[0]
        [again] = ask(batcher, [([1, 2], 6)])
        assert again.ids == right.ids and batcher.load == (0, 0)
    finally:
        batcher.close()


def test_a_listener_that_fails_stops_nobody(small):
    model, what = made("llama")
    batcher = Batcher(model, ByteTokenizer(), what, rows=2, context=64)

    def deaf(*args):
        raise RuntimeError("gone")

    try:
        batcher.submit([Ticket([1, 2], 6, deaf)])
        [heard] = ask(batcher, [([3, 4], 6)])
        assert heard.end and not batcher.counts.failed
    finally:
        batcher.close()


def test_scores_are_token_logp_of_any_length():
    model, what = made("gemma2")
    rng = np.random.default_rng(1)
    sequences = [rng.integers(1, 250, n).tolist() for n in (1, 32, 33, 64)]
    found = scores.score(model, what, sequences, 64)
    for ids, scored in zip(sequences, found, strict=True):
        whole = jnp.asarray([ids])
        hidden = model.apply(what.params, whole, jnp.arange(len(ids))[None]).hidden
        cap = model.config.logit_cap
        right = token_logp(hidden, model.head(what.params), whole, cap=cap)[0]
        np.testing.assert_allclose(scored.logp, right, atol=1e-5)
        logits = jax.nn.log_softmax(model.unembed(what.params, hidden)[0].astype(jnp.float32))
        values, best = jax.lax.top_k(logits, scores.TOP)
        for place, likely in enumerate([*scored.top[1:], scored.next]):
            np.testing.assert_allclose([v for _, v in likely], values[place], atol=1e-5)
            assert likely[0][0] == int(best[place, 0])


def test_what_does_not_fit_or_finds_no_room_is_refused():
    model, what = made("llama")
    with pytest.raises(UsageError, match="context"):
        Batcher(model, ByteTokenizer(), what, context=1 << 20)
    with pytest.raises(UsageError, match="rows: got 0"):
        Batcher(model, ByteTokenizer(), what, rows=0)
    batcher = Batcher(model, ByteTokenizer(), what, rows=1, queue=2, context=32)
    heard = Listener()
    try:
        for ids, most in (([], 4), ([1] * 30, 4)):
            with pytest.raises(UsageError, match="prompt: got"):
                batcher.submit([Ticket(ids, most, heard)])
        with pytest.raises(Busy):
            batcher.submit([Ticket([1], 2, heard) for _ in range(3)])
        assert batcher.load == (0, 0) and not heard.end
        told = []
        batcher.submit([Ask([1, 2], told.append)])
        while not told:
            time.sleep(0.01)
    finally:
        batcher.close()
    with pytest.raises(Busy):
        batcher.submit([Ticket([1], 2, heard)])


def test_closing_tells_who_waits(small):
    model, what = made("llama")
    batcher = Batcher(model, ByteTokenizer(), what, rows=1, context=128)
    heard = [Listener() for _ in range(4)]
    batcher.submit([Ticket([1, 2], 100, listener) for listener in heard])
    while not heard[0].ids:
        time.sleep(0.01)
    batcher.close()
    assert all(listener.end for listener in heard)
    assert not any(thread.name == "batcher" for thread in threading.enumerate())

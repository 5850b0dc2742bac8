"""Rows that give their places to the next prompt: answers are those of whole calls."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.adapters import lora, routing
from jaxsafety.adapters.routing import Routing
from jaxsafety.data.schema import Answer
from jaxsafety.models import api
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling import continuous, heads, many, rows
from jaxsafety.testing import tiny_model

TOKENIZER = SimpleNamespace(pad_id=0)
ROOM, BATCH = 20, 8
STOP = tuple(range(100, 130))  # drawn answers end early and late


def made(family="llama", **changes):
    return tiny_model(family, **changes)


def prompts(count, seed=0, least=1, most=40):
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 250, rng.integers(least, most)).tolist() for _ in range(count)]


# Of several lengths in one bucket: each bucket is a program more of every kind.
ONE_WIDTH = prompts(19, least=17, most=33)


def both(monkeypatch, model, params, given, cfg, batch=BATCH, **options):
    """Answers of rows that give their places away, and of whole calls."""
    run = partial(many.generate, model, params, TOKENIZER, given, cfg, seed=3, batch_size=batch)
    seated = run(**options)
    with monkeypatch.context() as patch:
        patch.setattr(continuous, "LEAST", 1 << 30)
        return seated, run(**options)


def assert_same(seated, called):
    for a, b in zip(seated, called, strict=True):
        for x, y in zip(a, b, strict=True):
            assert (x.ids, x.finished) == (y.ids, y.finished)
            np.testing.assert_allclose(x.logp, y.logp, atol=2e-5)


@pytest.mark.parametrize(
    ("family", "heat"),
    [("llama", 0.0), *((family, 1.0) for family in ("llama", "qwen3", "gemma2", "gemma3_text"))],
)
def test_answers_are_those_of_whole_calls(monkeypatch, family, heat):
    model, params = made(family)
    given = prompts(21)
    cfg = SampleConfig(ROOM, heat, 0.9 if heat else 1.0, stop=STOP, banned=(7, 9))
    seated, called = both(monkeypatch, model, params, given, cfg, samples=2)
    assert_same(seated, called)
    ended = [answer.finished for row in seated for answer in row]
    lengths = {len(answer.ids) for row in seated for answer in row}
    if heat:
        assert any(ended) and not all(ended) and len(lengths) > 6  # rows did come and go


def inputs(model, kind):
    add = jnp.zeros((model.config.num_layers, model.config.embed_dim)).at[1, 3].set(6.0)
    if kind in ("all", "prompt"):
        return {"layers": LayerInputs(add=add), "steer": kind}
    layers, width = model.config.num_layers, model.config.embed_dim
    tree = lora.init_experts(
        jax.random.key(1), model.projections, layers=layers, rank=2, experts=3, names=("up", "down")
    )
    tree = jax.tree.map(lambda x: x + 0.3 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), tree)
    key = jax.random.key(3)
    if kind == "x_lora":
        router = routing.init_gate(key, layers=layers, width=width, experts=3)
        return {"layers": LayerInputs(adapters={**tree, "router": router})}
    router = routing.init_router(key, model.projections, layers=layers, experts=3)
    options = Routing() if kind == "token" else Routing(level=kind)
    return {"layers": LayerInputs(adapters={**tree, "router": router}, routing=options)}


@pytest.fixture(scope="module")
def plain():
    """What `ONE_WIDTH` is answered without steering or routes."""
    cfg = SampleConfig(ROOM, 1.0, stop=STOP)
    return many.generate(*made(), TOKENIZER, ONE_WIDTH, cfg, seed=3, batch_size=BATCH)


@pytest.mark.parametrize("kind", ["all", "prompt", "token", "last", "first", "x_lora"])
def test_steering_and_routes_are_a_rows_own(monkeypatch, plain, kind):
    model, params = made()
    cfg = SampleConfig(ROOM, 1.0, stop=STOP)
    seated, called = both(monkeypatch, model, params, ONE_WIDTH, cfg, **inputs(model, kind))
    assert_same(seated, called)
    assert [row[0].ids for row in plain] != [row[0].ids for row in seated]


def test_a_common_beginning_is_read_once(monkeypatch):
    model, params = made()
    monkeypatch.setattr(heads, "COMPILING", 1)
    begin = np.random.default_rng(5).integers(1, 250, 20).tolist()
    given = [begin + own for own in prompts(19, most=20)]
    reads, whole = [], heads.read
    monkeypatch.setattr(heads, "read", lambda *a: (reads.append(len(a[2])), whole(*a))[1])
    cfg = SampleConfig(ROOM, 1.0, stop=STOP)
    seated = many.generate(model, params, TOKENIZER, given, cfg, seed=3, batch_size=BATCH)
    assert 20 in reads
    monkeypatch.setattr(heads, "worth", lambda *a: 0)
    assert_same(seated, both(monkeypatch, model, params, given, cfg)[1])


@pytest.mark.parametrize("kind", ["prompt", "x_lora"])
def test_unrolled_steps_say_the_same(monkeypatch, kind):
    model, params = made()
    unrolled = api.build(replace(model.config, unroll=True))
    cfg, options = SampleConfig(ROOM, 1.0, stop=STOP), inputs(model, kind)
    rolled = many.generate(
        model, params, TOKENIZER, ONE_WIDTH, cfg, seed=3, batch_size=BATCH, **options
    )
    seated, called = both(monkeypatch, unrolled, params, ONE_WIDTH, cfg, **options)
    assert_same(rolled, seated)
    assert_same(rolled, called)


@pytest.mark.parametrize("batch", [17, 24])  # groups of two over the end of a batch, and of three
def test_groups_of_several_rows_say_the_same(monkeypatch, batch):
    model, params = made("gemma3_text")
    given, cfg = prompts(49), SampleConfig(ROOM, 1.0, stop=STOP)  # the last group is not full
    seated, called = both(monkeypatch, model, params, given, cfg, batch)
    assert_same(seated, called)
    assert any(len(row[0].logp) == 1 for row in seated)  # ended with its first token


@pytest.mark.parametrize(
    ("heat", "batch", "count", "samples"),
    [(0.0, 8, 37, 1), (1.0, 8, 37, 1), (1.0, 17, 37, 1), (1.0, 17, 13, 3), (1.0, 24, 2, 20)],
)
def test_what_is_known_changes_no_bit_of_the_rest(heat, batch, count, samples):
    """However many answers an earlier start left: the others are equal to the last digit."""
    model, params = made("gemma3_text")
    given, rng, total = prompts(count), np.random.default_rng(0), count * samples
    cfg = SampleConfig(ROOM, heat, stop=STOP)
    kept: dict[int, list[tuple[int, int, Answer]]] = {}
    run = partial(many.generate, model, params, TOKENIZER, given, cfg, seed=3, batch_size=batch)
    run, told = partial(run, samples=samples), []
    whole = run(keep=lambda n, said: kept.update({n: said}), progress=told.append)
    lot = continuous.size(batch)
    assert {len(said) for said in kept.values()} <= {lot, total % lot or lot}
    rows = sorted((i, s) for said in kept.values() for i, s, _ in said)
    assert rows == [(i, s) for i in range(count) for s in range(samples)]
    assert told == sorted(told) and told[-1] == total
    for share in (0.0, 0.1, 0.5, 1.0):
        lost = {n for n in kept if rng.random() < share}
        known = {(i, s): a for n, said in kept.items() if n not in lost for i, s, a in said}
        again: dict[int, list[tuple[int, int, Answer]]] = {}
        assert run(known=known, keep=lambda n, said, to=again: to.update({n: said})) == whole
        remade = [row for said in again.values() for row in said]
        assert sorted(remade, key=str) == sorted((r for n in lost for r in kept[n]), key=str)


@pytest.mark.parametrize(
    ("count", "samples", "batch"), [(1, 40, 8), (3, 9, 16), (9, 3, 8), (19, 2, 16), (30, 1, 16)]
)
def test_a_prompt_is_read_once_for_all_its_samples(monkeypatch, count, samples, batch):
    model, params = made()
    given, read, real = prompts(count, least=17, most=33), [], rows.read
    monkeypatch.setattr(rows, "read", lambda p, b, *a: (read.append(b.mask), real(p, b, *a))[1])
    cfg = SampleConfig(ROOM, 1.0, stop=STOP)
    seated, called = both(monkeypatch, model, params, given, cfg, batch, samples=samples)
    assert_same(seated, called)
    assert len(read) == -(-count // continuous.size(batch))
    lengths = [n for mask in read for n in np.asarray(mask).sum(axis=1).tolist()]
    assert sorted(set(lengths)) == sorted({len(prompt) for prompt in given})
    assert len({tuple(answer.ids) for row in seated for answer in row}) > count * samples / 2


def test_a_kill_loses_what_runs_and_not_what_has_ended():
    """One answer goes on to its limit while the others come and go: they are on disk."""
    model, params = made()
    kept, given = {}, prompts(60)

    class Killed(Exception):
        pass

    def killed(done):
        if done >= 40:
            raise Killed

    cfg = SampleConfig(ROOM, 1.0, stop=STOP)
    with pytest.raises(Killed):
        many.generate(
            model,
            params,
            TOKENIZER,
            given,
            cfg,
            seed=3,
            batch_size=24,
            progress=killed,
            keep=lambda n, said: kept.update({n: said}),
        )
    assert sum(map(len, kept.values())) >= 40


def test_rows_do_not_wait_for_the_longest(monkeypatch):
    """Far fewer steps than whole calls make, whose rows wait for the longest of them."""
    model, params = made()
    steps = []
    real = continuous._go

    def counted(params, running, *rest):
        before = np.asarray(running.made)
        after = real(params, running, *rest)
        steps.append(int((np.asarray(after.made) - before).max()))
        return after

    monkeypatch.setattr(continuous, "_go", counted)
    given, cfg = prompts(64), SampleConfig(64, 1.0, stop=STOP)
    said = many.generate(model, params, TOKENIZER, given, cfg, seed=0, batch_size=8)
    lengths = [len(row[0].logp) for row in said]
    order = sorted(range(64), key=lambda i: (-len(given[i]), i))  # as whole calls take them
    called = sum(max(lengths[i] for i in order[n : n + 8]) - 1 for n in range(0, 64, 8))
    assert max(lengths) > 3 * np.mean(lengths) and sum(steps) < 0.7 * called


def test_a_look_between_steps_may_end_all(monkeypatch):
    model, params = made()
    monkeypatch.setattr(continuous, "PIECE", 4)
    looked = []

    class Enough(Exception):
        pass

    def look(count, tokens, most):
        looked.append((count, tokens, most))
        if len(looked) == 5:
            raise Enough

    with pytest.raises(Enough):
        many.generate(
            model,
            params,
            TOKENIZER,
            prompts(40),
            SampleConfig(ROOM, 1.0, stop=(3,)),
            seed=0,
            batch_size=BATCH,
            inside=look,
        )
    assert all(
        1 <= count <= BATCH and 1 <= tokens <= most == ROOM for count, tokens, most in looked
    )


def test_one_step_serves_all_groups_and_all_temperatures():
    model, params = made()
    run = partial(many.generate, model, params, TOKENIZER, seed=0, batch_size=BATCH)
    run(prompts(30), SampleConfig(ROOM, 0.0, stop=(3,)))
    before = continuous._go._cache_size(), rows.read._cache_size()
    for number, heat in enumerate((0.0, 0.7, 1.5)):
        run(prompts(30, number), SampleConfig(ROOM, heat, stop=(3,)))
    after = continuous._go._cache_size(), rows.read._cache_size()
    assert after[0] - before[0] <= 1 and after[1] - before[1] <= 1  # another longest bucket


@pytest.mark.parametrize(
    ("spans", "beside", "least", "found"),
    [
        ([64] * 6, 16, 2, [range(6)]),
        ([512, 64, 64, 64], 16, 2, [range(1), range(1, 4)]),
        ([512, 64, 64, 64], 16, 4, [range(4)]),  # too few of them to begin anew
        ([512, 256, 128, 64, 32, 16], 0, 1, [range(i, i + 1) for i in range(6)]),
        ([512, 256, 128, 64], 600, 1, [range(4)]),  # the answer is most of the cache
        ([16], 16, 1, [range(1)]),
    ],
)
def test_a_cache_is_halved_where_the_rest_needs_less(spans, beside, least, found):
    assert continuous.stretches(spans, beside, least) == found


@pytest.mark.parametrize("unroll", [False, True])
def test_long_prompts_first_then_a_smaller_cache(monkeypatch, unroll):
    model, params = made(max_length=256)
    model = api.build(replace(model.config, unroll=unroll))
    given = prompts(70, most=12) + prompts(3, least=150, most=200)
    cfg = SampleConfig(ROOM, 1.0, stop=STOP)
    slots, real = [], rows.blank
    monkeypatch.setattr(
        rows, "blank", lambda new, n, wide: (slots.append(wide), real(new, n, wide))[1]
    )
    seated, called = both(monkeypatch, model, params, given, cfg)
    assert len(slots) == 2 and slots[1] < slots[0] / 2
    assert_same(seated, called)

"""What all prompts begin with is read once, and nobody can tell from the answers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.adapters import lora, routing
from jaxsafety.adapters.routing import Routing
from jaxsafety.core import sharding
from jaxsafety.models import api
from jaxsafety.models.api import LayerInputs, ModelConfig
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling import decode, heads, many

V, L, D = 48, 3, 32
TOKENIZER = SimpleNamespace(pad_id=0)
CONFIG = ModelConfig("llama", V, D, L, 4, 2, 8, 64, max_length=128)


def make(config=CONFIG):
    model = api.build(config)
    params = model.init(jax.random.key(0))
    params["embed"]["table"] = params["embed"]["table"] * 20
    return model, params


@pytest.fixture(scope="module")
def tiny():
    return make()


def prompts(count, head, seed=0):
    rng = np.random.default_rng(seed)
    begin = rng.integers(1, V, head).tolist()
    rest = [rng.integers(1, V, rng.integers(1, 24)).tolist() for _ in range(count)]
    return [begin + own for own in rest]


def adapters(model, kind):
    tree = lora.init_experts(
        jax.random.key(1), model.projections, layers=L, rank=2, experts=3, names=("gate", "up")
    )
    fill = jax.random.normal(jax.random.key(2), ())
    tree = jax.tree.map(
        lambda x: x + 0.1 * fill * jnp.cos(jnp.arange(x.size)).reshape(x.shape), tree
    )
    if kind == "token":
        router = routing.init_router(jax.random.key(3), model.projections, layers=L, experts=3)
        return {**tree, "router": router}, Routing()
    if kind == "x_lora":
        router = routing.init_gate(jax.random.key(3), layers=L, width=D, experts=3)
        return {**tree, "router": router}, Routing()
    router = routing.init_router(jax.random.key(3), model.projections, layers=L, experts=3)
    return {**tree, "router": router}, Routing(level="last")


def inputs(model, kind):
    if kind == "plain":
        return {}
    if kind in ("all", "prompt"):
        add = jnp.zeros((L, D)).at[1].set(3 * np.random.default_rng(1).normal(size=D))
        return {"layers": LayerInputs(add=add), "steer": kind}
    tree, options = adapters(model, kind)
    return {"layers": LayerInputs(adapters=tree, routing=options)}


def both(monkeypatch, model, params, given, cfg, **options):
    """(answers with the beginning read once, answers without, how often it was read)."""
    reads = []
    whole = heads.read
    monkeypatch.setattr(heads, "read", lambda *a: (reads.append(len(a[2])), whole(*a))[1])
    run = dict(seed=3, batch_size=4, **options)
    once = many.generate(model, params, TOKENIZER, given, cfg, **run)
    monkeypatch.setattr(heads, "worth", lambda *a: 0)
    every = many.generate(model, params, TOKENIZER, given, cfg, **run)
    return once, every, reads


def assert_same(once, every):
    for a, b in zip(once, every, strict=True):
        for x, y in zip(a, b, strict=True):
            assert (x.ids, x.finished) == (y.ids, y.finished)
            np.testing.assert_allclose(x.logp, y.logp, atol=2e-5)


@pytest.mark.parametrize("kind", ["plain", "all", "prompt", "token", "x_lora"])
def test_the_answers_are_the_same(tiny, monkeypatch, kind):
    model, params = tiny
    monkeypatch.setattr(heads, "COMPILING", 1)
    given = prompts(9, 20)
    cfg = SampleConfig(max_tokens=8, temperature=0.0, stop=(3,))
    once, every, reads = both(monkeypatch, model, params, given, cfg, **inputs(model, kind))
    assert reads == [20]
    assert_same(once, every)


def test_drawn_samples_and_long_answers_in_pieces(tiny, monkeypatch):
    model, params = tiny
    monkeypatch.setattr(heads, "COMPILING", 1)
    monkeypatch.setattr(decode, "PIECE", 4)
    looked = []
    options = {"samples": 2, "inside": lambda *told: looked.append(told)}
    cfg = SampleConfig(max_tokens=10, temperature=1.0, stop=(3,))
    once, every, reads = both(monkeypatch, model, params, prompts(5, 18), cfg, **options)
    assert reads == [18]
    assert looked
    assert_same(once, every)


def test_unrolled_steps_take_parameters_that_were_unstacked_once(tiny, monkeypatch):
    _, params = tiny
    model = api.build(replace(CONFIG, unroll=True))
    counted, whole = [], many.unstacked
    monkeypatch.setattr(many, "unstacked", lambda *a: (counted.append(1), whole(*a))[1])
    cfg = SampleConfig(max_tokens=8, temperature=0.0, stop=(3,))
    given = prompts(9, 0)
    said = many.generate(model, params, TOKENIZER, given, cfg, seed=3, batch_size=4)
    assert counted == [1]
    assert_same(said, many.generate(*tiny, TOKENIZER, given, cfg, seed=3, batch_size=4))


def test_a_beginning_is_read_once_only_where_that_saves(tiny):
    model, _ = tiny
    plain = LayerInputs()
    assert heads.worth(model, plain, prompts(9, 20), 100) == 20
    assert heads.worth(model, plain, prompts(9, 20), 9) == 0  # too little in all
    assert heads.worth(model, plain, prompts(9, heads.LEAST - 1), 10**6) == 0
    assert heads.worth(model, plain, prompts(1, 20), 1000) == 0
    windowed = api.build(replace(CONFIG, windows=(8, 0, 8)))
    assert heads.worth(windowed, plain, prompts(9, 20), 100) == 0
    tree, options = adapters(model, "last")
    pooled = LayerInputs(adapters=tree, routing=options)
    assert heads.worth(model, pooled, prompts(9, 20), 100) == 0


def test_every_prompt_keeps_a_token():
    assert heads.common([[1, 2, 3], [1, 2, 3]]) == 2
    assert heads.common([[1, 2], [1, 2, 3]]) == 1
    assert heads.common([[1], [1, 2]]) == 0
    assert heads.common([[5, 1, 2, 3]]) == 0
    assert heads.common([]) == 0


@pytest.mark.parametrize("seed", range(5))
def test_common_is_the_longest_prefix(seed):
    rng = np.random.default_rng(seed)
    given = [rng.integers(0, 2, rng.integers(1, 9)).tolist() for _ in range(rng.integers(2, 4))]
    length = heads.common(given)
    most = min(map(len, given)) - 1
    assert len({tuple(ids[:length]) for ids in given}) == 1
    assert length == most or len({ids[length] for ids in given}) > 1


def test_a_shape_that_saves_little_is_not_compiled():
    unrolled = api.build(replace(CONFIG, unroll=True))
    widths, lengths = (16, 32, 48, 64), [60] * 4 + [40] * 4 + [12] * 4
    assert heads.spans(lengths, 4, widths, make()[0]) == [64, 48, 16]
    assert heads.spans(lengths, 4, widths, unrolled) == [64, 64, 64]
    many = [60] * 16 + [12] * 64
    assert heads.spans(many, 16, widths, unrolled) == [64, 16, 16, 16, 16]


def test_eight_devices_say_the_same(tiny, monkeypatch):
    model, params = tiny
    monkeypatch.setattr(heads, "COMPILING", 1)
    mesh = sharding.make_mesh(sharding.MeshConfig(data=8))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    given, cfg = prompts(8, 20), SampleConfig(max_tokens=8, temperature=0.0, stop=(3,))
    one = many.generate(model, params, TOKENIZER, given, cfg, seed=0, batch_size=8)
    spread = many.generate(
        model, jax.device_put(params, whole), TOKENIZER, given, cfg, seed=0, batch_size=8
    )
    assert_same(one, spread)

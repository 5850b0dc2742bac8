"""What routes tell of topic and harm: the formulas, chance, and which prompts are compared."""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jaxsafety.methods.safemoe import experts, measure, topics
from jaxsafety.methods.safemoe import program as safemoe
from jaxsafety.methods.safemoe.config import MeasureConfig, SafeMoEConfig
from jaxsafety.methods.safemoe.experts import ExpertConfig
from jaxsafety.models.api import LayerInputs
from tests.methods import tiny
from tests.methods.safemoe_fixtures import directory as directory

# Counts [domain, harmful, expert]; sizes and zeros at random.
TABLES = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.just(2), st.integers(1, 4)),
    elements=st.integers(0, 6).map(float),
)


def brute(table):
    """I(A;B), a cell at a time."""
    whole, found = table.sum(), 0.0
    for a, row in enumerate(table):
        for b, n in enumerate(row):
            if n:
                apart = table[a].sum() * table[:, b].sum() / whole
                found += n / whole * math.log(n / apart)
    return found


@given(TABLES)
def test_information_is_that_of_the_sum_over_cells_and_keeps_the_chain_rule(table):
    harm_first = table.sum(axis=0)
    assert topics.mutual(harm_first) == pytest.approx(brute(harm_first), abs=1e-12)
    whole = table.sum()
    parts = [part.sum() / whole * brute(part) for part in table if part.sum()]
    beside = topics.conditional(table)
    assert beside == pytest.approx(sum(parts), abs=1e-12)
    both = topics.mutual(table.reshape(-1, table.shape[-1]))
    assert both == pytest.approx(topics.mutual(table.sum(axis=1)) + beside, abs=1e-12)
    stacked = np.stack([table, 2 * table])
    np.testing.assert_allclose(topics.conditional(stacked), [beside, beside], atol=1e-12)


def prompts(rng, route):
    """[1,X,E] counts of 96 prompts in 4 domains, half of them harmful, routed by `route`."""
    domain, harmful = np.repeat(np.arange(4), 24), np.tile([True, False], 48)
    found = np.zeros((1, 96, 2))
    for x in range(96):
        expert = route(domain[x], harmful[x], rng)
        found[0, x, expert] = rng.integers(5, 15)
    return found, domain, harmful


@pytest.mark.parametrize(
    ("route", "above"),
    [
        (lambda d, h, rng: d % 2, {"topic"}),
        (lambda d, h, rng: int(h), {"harm", "harm_given_topic"}),
        (lambda d, h, rng: (d + h) % 2, {"harm_given_topic"}),  # harm is told by topic alone
        (lambda d, h, rng: rng.integers(2), set()),
    ],
)
def test_topic_harm_and_neither_are_told_apart(route, above):
    hits = dict.fromkeys(topics.TOLD, 0)
    for seed in range(10):
        told = topics.told(*prompts(np.random.default_rng(seed), route), seed)
        for name in topics.TOLD:
            hits[name] += bool(told[name][0] > told[f"{name}_chance"][0])
            if name in above:
                assert told[name][0] > 0.9 * math.log(2)
    for name, found in hits.items():  # by chance in one of twenty
        assert found == 10 if name in above else found <= 3, (name, hits)


def test_tokens_are_counted_by_prompt_and_layer():
    top, owner = np.array([[0, 1, 1, 2], [2, 2, 0, 0]]), np.array([0, 0, 2, 2])
    found = topics.counts(top, owner, 3, 3)
    assert found[0].tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 1]]
    assert found[1].tolist() == [[0, 0, 2], [0, 0, 0], [2, 0, 0]]


@pytest.fixture(scope="module")
def ctx(directory, tmp_path_factory):
    made = tiny.context(directory, tmp_path_factory.mktemp("run"))
    sets = dataclasses.replace(tiny.MEASURE, safety=12, over_refusal=24)
    place = tiny.setting.make(directory, tiny.DATA, sets, 0)
    return dataclasses.replace(made, setting=place)


def harmful_of(ctx, size):
    return [i for b in ctx.setting.own if b.kind == "safety" for i in b.items[:size]]


def test_as_many_harmless_questions_of_each_domain_and_none_of_others(ctx):
    world = ctx.setting.world
    asked = harmful_of(ctx, 12)
    kept, harmless = topics.counterparts(ctx, asked, 6)
    first = sorted(asked[i].meta["domain"] for i in kept)
    assert first == sorted(item.meta["domain"] for item in harmless) and len(kept) > 8
    assert {asked[i].meta["kind"] for i in kept} == {"harmful"}
    assert {item.meta["kind"] for item in harmless} == {"contrast"}
    assert all(item.messages[-1].role == "user" for item in harmless)
    texts = [item.messages[-1].content for item in harmless]
    assert len(set(texts)) == len(texts)
    assert max(first.count(d) for d in first) <= 6
    expert = set(map(int, ctx.setting.domains.names))
    assert set(first) <= expert | set(world.known_domains) and set(first) & expert
    bare = dataclasses.replace(ctx.setting, domains=None, benchmarks=())
    assert topics.counterparts(dataclasses.replace(ctx, setting=bare), asked, 6) == ([], [])


def test_routes_say_it_of_every_layer_and_the_rest_is_as_before(ctx, monkeypatch):
    cfg = SafeMoEConfig(experts=ExpertConfig(count=2, rank=2, alpha=4.0), gate="untrained")
    fresh = experts.fresh(cfg.experts, ctx.model, jax.random.key(0), 2)
    adapters = safemoe.add_router(cfg, ctx.model, fresh, 0)
    layers = LayerInputs(adapters=adapters, routing=cfg.routing)
    base, size = ctx.variables["base"], MeasureConfig(routed=3)
    found = measure.routes(size, ctx, base, layers)
    depth = ctx.model.config.num_layers
    for name in topics.TOLD:
        assert found[name].shape == found[f"{name}_chance"].shape == (depth,)
        assert (found[name] > -1e-12).all() and (found[f"{name}_chance"] > 0).any()
    assert found["compared"][0] == found["compared"][1] > 2
    monkeypatch.setattr(topics, "counterparts", lambda *_: ([], []))
    plain = measure.routes(size, ctx, base, layers)
    assert set(found) - set(plain) >= {"topic", "harm", "compared"}
    for key, value in plain.items():
        np.testing.assert_array_equal(value, found[key])

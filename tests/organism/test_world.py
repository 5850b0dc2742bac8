"""A world is a function of its seed, hangs together, and refuses sizes that cannot work."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.organism.world import (
    DEFAULT_LEVELS,
    OPERATIONS,
    SIZES,
    WorldConfig,
    make_world,
    open_world,
    save_world,
)

# All sizes are written out: the digest must not follow the defaults.
GOLDEN = WorldConfig(
    seed=11,
    harm_domains=5,
    held_domains=2,
    benign_domains=2,
    entities=12,
    parts=6,
    hazards=4,
    remedies=5,
    homes=4,
    people=20,
)
DIGEST = "c4163394ad34501b8b5a27747c7e80b890cc1e2ae3d7128a615ad880610a0a36"


def everything(world):
    return repr(dataclasses.astuple(world)[1:-1])  # without the config and the measured levels


def test_the_same_seed_gives_the_same_world_as_ever():
    made = make_world(GOLDEN)
    assert hashlib.sha256(everything(made).encode()).hexdigest() == DIGEST
    assert made == make_world(GOLDEN)


def test_another_seed_gives_another_world():
    one, two = make_world(GOLDEN), make_world(dataclasses.replace(GOLDEN, seed=12))
    names = [{e.name for e in w.entities} for w in (one, two)]
    assert len(names[0] & names[1]) < 0.1 * len(names[0])
    assert one.domains != two.domains


def test_every_name_is_said_once(world):
    names = [*world.domains, *world.homes, *world.towns, *world.crafts]
    names += [p.name for p in world.people]
    names += [n for e in world.entities for n in (e.name, e.alias) if n]
    for table in (world.parts, world.hazards, world.remedies):
        names += [n for row in table for n in row]
    assert len(names) == len(set(names))


def test_entities_hang_together(world):
    config = world.config
    assert len(world.domains) == config.harm_domains + config.benign_domains
    assert len(world.harmful) == config.harm_domains * config.entities
    assert len(world.harmful) + len(world.benign) == len(world.entities)
    assert {*world.seen_domains} & {*world.held_domains} == set()
    assert len(world.seen_domains) + len(world.held_domains) == config.harm_domains
    for e in world.entities:
        assert world.in_domain(e.domain)[e.index] is e
        assert e.harmful == (e.domain < config.harm_domains)
        assert set(e.parts) <= set(world.parts[e.domain]) and len(set(e.parts)) == 2
        assert e.operation in OPERATIONS
        assert bool(e.hazard) == bool(e.remedy) == bool(e.alias) == e.harmful
        assert bool(e.colour) == bool(e.home) == (not e.harmful)
        if e.harmful:
            assert e.hazard in world.hazards[e.domain] and e.remedy in world.remedies[e.domain]
    for domain in range(len(world.domains)):
        recipes = {(frozenset(e.parts), e.operation) for e in world.in_domain(domain)}
        assert len(recipes) == config.entities


def test_the_issue_s_sizes(world):
    from jaxsafety.organism import grammar as g

    assert world.config.harm_domains >= 8 and world.config.benign_domains >= 4
    assert len(g.SEEN_WRAPPERS) >= 5
    assert len(g.HELD_WRAPPERS) >= 4
    assert len(g.UNSEEN_WRAPPERS) >= 2


def test_a_world_is_saved_as_its_config(tmp_path):
    save_world(make_world(GOLDEN), tmp_path)
    assert open_world(tmp_path) == make_world(GOLDEN)
    levels = tuple((name, (4, 6)) for name, _ in DEFAULT_LEVELS)
    save_world(dataclasses.replace(make_world(GOLDEN), levels=levels), tmp_path)
    assert open_world(tmp_path).levels == levels


BAD = [(name, low - 1) for name, (low, _, _) in SIZES.items()]
BAD += [(name, high + 1) for name, (_, high, _) in SIZES.items()]
BAD += [("harm_domains", 4), ("entities", 12.5), ("parts", "6"), ("seed", "0")]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_sizes_are_one_line(name, value):
    sizes = {"held_domains": 3} if name == "harm_domains" else {}
    config = dataclasses.replace(GOLDEN, **{**sizes, name: value})
    with pytest.raises(UsageError) as caught:
        make_world(config)
    assert f"world.{name}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_entities_than_procedures():
    with pytest.raises(UsageError, match="world.entities.*at most 60 with 4 parts"):
        make_world(dataclasses.replace(GOLDEN, entities=61, parts=4))


@pytest.mark.parametrize(
    "text",
    [
        None,
        "{",
        "[]",
        "{}",
        '{"world": {}}',
        '{"world": {"sed": 1}, "levels": {}}',
        '{"world": {"entities": "many"}, "levels": {}}',
        '{"world": {}, "levels": {"sort": [3, 4]}}',
        '{"world": {}, "levels": {"sort": "ab"}}',
    ],
)
def test_an_unreadable_world_is_one_line(tmp_path, text):
    if text is not None:
        (tmp_path / "world.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        open_world(tmp_path)
    assert "world" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("span", [(4, 3), (-1, 3), (30, 40)])
def test_impossible_levels_are_named(tmp_path, span):
    levels = tuple((name, span if name == "sort" else (4, 6)) for name, _ in DEFAULT_LEVELS)
    save_world(dataclasses.replace(make_world(GOLDEN), levels=levels), tmp_path)
    with pytest.raises(UsageError, match=f"levels.sort.*{span[0]}, {span[1]}.*0 and 20"):
        open_world(tmp_path)

"""What Self-MOA's loop knows between rounds: prompts leave, successes come, buffers empty."""

from __future__ import annotations

import random

import pytest

from jaxsafety.data.schema import Message
from jaxsafety.methods.selfmoa.pairing import Pair
from jaxsafety.methods.selfmoa.pool import Attack, Kept, Pool, said_otherwise, text_of
from jaxsafety.protocols import Item


def item(name, text=None):
    turns = (Message("system", "be kind ."), Message("user", text or f"asked {name}"))
    return Item(name, turns, {"kind": "harmful"})


def made(seeds, number):
    """An expansion and a disguise of every seed."""
    found = []
    for index, seed in enumerate(seeds):
        expanded = said_otherwise(seed, f"made/{number}/{index}", f"{text_of(seed)} {number}")
        found.append(Attack(seed, expanded, said_otherwise(expanded, "", f"hid {index}")))
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_invariants_of_the_loop(seed):
    """A_0 shrinks by what was drawn of it; nothing is drawn twice; successes alone come back."""
    rng = random.Random(seed)
    pool = Pool([item(str(i)) for i in range(20)])
    drawn, won = [], []
    for number in range(6):
        before = len(pool.waiting)
        seeds = pool.drawn(6, seed, number)
        assert seeds == pool.drawn(6, seed, number)  # the same in a run that goes on
        attacks = made(seeds, number)
        wins = [rng.random() < 0.5 for _ in attacks]
        own = sum(one.id.isdigit() for one in seeds)
        pool.tried(number, seeds, attacks, wins)
        assert len(pool.waiting) == before - own
        drawn += [one.id for one in seeds]
        won += [one.expanded for one, win in zip(attacks, wins, strict=True) if win]
        assert pool.expansions == [(a, b) for a, b in pool.expansions if b in won]
        assert len(pool.expansions) == len(pool.disguises) == len(won)
    assert len(set(drawn)) == len(drawn)
    assert {one.id for one in pool.found} <= {one.id for one in won}
    assert {text_of(one) for one in won} <= pool.seen


def test_other_seeds_and_rounds_draw_others():
    pool = Pool([item(str(i)) for i in range(50)])
    names = [tuple(one.id for one in pool.drawn(5, *key)) for key in ((0, 0), (0, 1), (1, 0))]
    assert len(set(names)) == 3
    assert len(pool.drawn(80, 0, 0)) == 50


def test_a_prompt_that_nobody_rewrote_does_not_come_back():
    pool = Pool([item("a"), item("b")])
    seeds = pool.drawn(1, 0, 0)
    same = [Attack(seeds[0], seeds[0], seeds[0])]
    pool.tried(0, seeds, same, [True])
    assert len(pool.waiting) == 1 and not pool.found
    assert pool.expansions == [(seeds[0], seeds[0])]


def test_buffers_empty_at_their_limits():
    pool = Pool([item("a")])
    pool.pairs = [Kept(0, Pair(i, 0, 1)) for i in range(5)]
    first = pool.taken(3)
    assert [one.pair.prompt for one in first] == [0, 1, 2]
    assert [one.pair.prompt for one in pool.pairs] == [3, 4]
    pool.expansions = pool.disguises = [(item("a"), item("b"))]
    pool.retrained()
    assert not pool.expansions and not pool.disguises


def test_only_the_last_turn_changes():
    one = said_otherwise(item("a"), "b", "other", {"kind": "x"})
    assert [m.content for m in one.messages] == ["be kind .", "other"]
    assert one.id == "b" and one.meta == {"kind": "x"}
    assert said_otherwise(one, "c", "more").meta == one.meta

"""Control sets: from the whole vocabulary, without refusal words, as heavy as they can be."""

from __future__ import annotations

import random

import numpy as np
import pytest

from jaxsafety.benchmarks.organism import PUNCTUATION, complying_words, refusal_words
from jaxsafety.core.errors import UsageError
from jaxsafety.judges import rules
from jaxsafety.organism import grammar, render
from jaxsafety.organism.world import WorldConfig, make_world
from jaxsafety.probing import random_sets
from jaxsafety.probing.votes import Tally


class Words:
    """Splits at spaces; " x" and "x" are two tokens, as in byte-level BPE."""

    unk_id = 0
    table = ("?", "sorry", " sorry", "Sorry", "can", "not", " no", "No", "green")

    def encode(self, text):
        if text in self.table:
            return [self.table.index(text)]
        return [self.table.index(w) if w in self.table else 0 for w in text.split()]


def test_every_spelling_of_a_word_counts_and_unknown_words_do_not():
    assert random_sets.word_tokens(Words(), ("sorry", "no", "never")) == (1, 2, 3, 6, 7)
    assert random_sets.word_tokens(Words(), ("can not",)) == ()  # not one token
    assert random_sets.word_tokens(Words(), ()) == ()


def test_refusal_words_are_those_of_the_grammar():
    words = set(refusal_words())
    assert {"refuse", "sorry", "dangerous", "rules", "must", "no", "i", "please"} <= words
    assert not words & PUNCTUATION and not any("{" in w for w in words)
    said = {w for sentence in grammar.REFUSALS for w in sentence.split() if "{" not in w}
    assert said <= words | PUNCTUATION
    assert {"sorry", "cannot", "unable", "illegal"} <= set(rules.refusal_words())


def test_complying_words_are_those_of_answers_that_carry_requests_out():
    world = make_world(WorldConfig())
    words, rng = set(complying_words(world)), random.Random(0)
    assert {"take", "grind", "sure", "slowly", world.parts[3][2]} <= words
    assert not words & PUNCTUATION and not any("{" in w for w in words)
    for entity in (*world.harmful[::9], *world.benign[::9]):
        told = {entity.name, entity.hazard}  # other answers tell these too
        for _ in range(20):
            said = render.procedure(world, entity, rng, tail=0.5).replace(".", " ")
            assert set(said.replace(",", " ").split()) - told <= words
    assert not {e.name for e in world.entities} & words
    assert not {"refuse", "sorry", "remedy"} & words


def tally(mass, eligible, banned=None):
    size = len(mass)
    zeros = np.zeros(size)
    return Tally(np.ones(size, int), zeros, np.asarray(mass), np.asarray(eligible), 1, banned)


def test_the_floor_is_for_the_vote_alone():
    """Few tokens pass the floor; a control draws from all that are not banned."""
    mass = np.r_[np.full(4, 0.2), np.full(36, 0.005)]
    banned = np.arange(40) >= 38
    result = tally(mass, mass > 0.1, banned)
    found = random_sets.random_set(result, 20, seed=0, exclude=(0, 1))
    assert len(set(found.ids)) == 20 and not set(found.ids) & {0, 1, 38, 39}
    with pytest.raises(UsageError, match="random_set"):
        random_sets.random_set(tally(mass, mass > 0.1), 20, seed=0)  # banned ids not known


def test_a_set_within_some_tokens_holds_such_alone():
    mass = np.r_[0.3, np.linspace(0.001, 0.05, 39)]
    result = tally(mass, np.ones(40, bool), np.arange(40) == 20)
    within = list(range(15, 30))
    sets = [
        random_sets.mass_matched_random(
            result, [1, 30, 31, 32], seed=s, exclude=[16, 17], within=within, reach=0.95
        )
        for s in range(3)
    ]
    for found in sets:
        assert set(found.ids) <= set(within) - {16, 17, 20} and len(set(found.ids)) == 4
        wanted = mass[[1, 30, 31, 32]].sum()
        assert sum(found.mean_teacher_prob) == pytest.approx(wanted, rel=0.05)
    assert len({found.ids for found in sets}) > 1
    with pytest.raises(UsageError, match="3 tokens left to draw from"):
        random_sets.mass_matched_random(result, [1, 2, 3, 4], seed=0, within=[5, 6, 7])


def test_a_mass_out_of_reach_is_approached_when_asked():
    mass = np.r_[0.6, 0.1, 0.08, np.full(80, 0.22 / 80)]
    result = tally(mass, np.ones(83, bool), np.zeros(83, bool))
    most = np.sort(mass[1:])[-4:].sum()
    draws = [
        random_sets.mass_matched_random(
            result, [0, 3, 4, 5], seed=s, exclude=[0, 3, 4, 5], reach=0.9
        )
        for s in range(4)
    ]
    for found in draws:
        assert 0.8 * most < sum(found.mean_teacher_prob) <= most
    assert len({found.ids for found in draws}) > 1
    with pytest.raises(UsageError, match="hold at most"):
        random_sets.mass_matched_random(result, [0, 3, 4, 5], seed=0, exclude=[0, 3, 4, 5])
    # Where the mass can be had, it is what is matched.
    light = random_sets.mass_matched_random(
        result, [2], seed=0, exclude=[2], reach=0.9, tolerance=0.3
    )
    assert sum(light.mean_teacher_prob) == pytest.approx(0.08, rel=0.3)

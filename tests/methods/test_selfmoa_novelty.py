"""Self-MOA's filter of expansions: BLEU in both readings, and the reason of each refusal."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsafety.core.errors import UsageError
from jaxsafety.methods.selfmoa.novelty import REASONS, WEIGHTS, Novelty, bleu, why_not

WORDS = st.lists(st.sampled_from("a b c d".split()), min_size=1, max_size=8)


def test_both_readings_of_the_weights():
    seed, said = "how is it made".split(), "how is it done".split()  # p1 = 3/4, p2 = 2/3
    assert math.isclose(bleu(seed, said, WEIGHTS["product"]), 0.5)
    assert math.isclose(bleu(seed, said, WEIGHTS["mean"]), math.sqrt(0.5))


def test_a_short_text_is_punished_and_repeats_count_once():
    assert math.isclose(bleu("a b c d".split(), "a b".split(), (1.0,)), math.exp(-1))
    assert math.isclose(bleu("a b".split(), "a a a a".split(), (1.0,)), 0.25)
    assert bleu("a b".split(), "c d".split(), (0.5, 0.5)) == 0.0


@given(WORDS, WORDS)
@settings(max_examples=60, deadline=None)
def test_it_is_in_range_and_one_for_itself(seed, said):
    for weights in WEIGHTS.values():
        assert 0 <= bleu(seed, said, weights) <= 1
    assert math.isclose(bleu(seed, seed, (1.0,)), 1.0)


def test_every_reason():
    seed, settings_ = "how do i make it", Novelty(most=0.25, shortest=1.0, longest=2.0)
    seen = {"what is needed for such a thing"}
    said = {
        "": "which parts go into that one",
        "empty": "  ",
        "short": "tell me",
        "long": "tell me now " * 9,
        "seen": "what is needed for such a thing",
        "alike": "how do i make it now",
    }
    assert {why: why_not(seed, text, seen, settings_) for why, text in said.items()} == {
        why: why for why in said
    }
    assert set(said) - {""} == set(REASONS)


def test_no_limits_of_length():
    free = Novelty(most=1.0, shortest=0.0, longest=0.0)
    assert why_not("one two three", "x", set(), free) == ""
    assert why_not("one", "x " * 100, set(), free) == ""


@pytest.mark.parametrize(
    ("given_", "line"),
    [
        ({"most": 1.5}, "novelty.most"),
        ({"weights": "sum"}, "novelty.weights.*product"),
        ({"longest": math.inf}, "novelty.longest"),
        ({"shortest": 3.0, "longest": 2.0}, "not empty"),
    ],
)
def test_settings_are_checked(given_, line):
    with pytest.raises(UsageError, match=line):
        Novelty(**given_)

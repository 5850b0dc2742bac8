"""Pairs as tokens: the mask on what follows the prompt, long and equal ones, scores by column."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.preferences import Preferred, fitted_pairs, last_answers
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.tokenizer import ByteTokenizer

TOKENIZER = ByteTokenizer()


def pair(chosen, rejected, prompt=("Hi",), **numbers):
    turns = [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(prompt)]
    one, other = ((Message("assistant", text),) for text in (chosen, rejected))
    return Preferred("0", tuple(turns), one, other, numbers, {"file": "p.jsonl", "row": 7})


def read(*pairs, length=200, long="error", **more):
    lines = []
    made = fitted_pairs(TOKENIZER, pairs, length, long, log=lines.append, **more)
    return made, [line for line in lines if "of" in line and "reading" not in line]


def said(encoded):
    ids = [i for i, learnt in zip(*encoded, strict=True) if learnt]
    return TOKENIZER.decode(ids, skip_special=False)


def test_the_last_answer_alone_counts():
    made, lines = read(pair("Yes.", "No.", prompt=("Hi", "Ho.", "Open?")))
    assert [said(side[0]) for side in (made.preferred, made.other)] == ["Yes.<|end|>", "No.<|end|>"]
    assert made.scores.shape == (1, 2, 0) and made.labels.tolist() == [1.0]
    assert not lines and made.facts["used"] == 1
    assert last_answers([True, False, True, True, False, True], 2) == [
        *(False, False),
        *(True, True, False, True),
    ]


def test_answers_that_go_on_count_turn_by_turn():
    turns = [Message("assistant", "b"), Message("user", "c"), Message("assistant", "d")]
    other = (*turns[:2], Message("assistant", "e"))
    row = Preferred("0", (Message("user", "a"),), tuple(turns), other, {}, {})
    made, _ = read(row)
    assert said(made.preferred[0]) == "b<|end|>d<|end|>"


def test_long_pairs_are_refused_dropped_or_cut():
    short = pair("Yes.", "No.")
    long = pair("a" * 80, "a" * 70 + "b")
    size = len(read(long)[0].preferred[0].ids)
    with pytest.raises(UsageError) as caught:
        read(short, long, length=60)
    assert str(caught.value).startswith(
        f"method.length: got 60; allowed: at least {size}, the longest pair (row 7 of p.jsonl)"
    )
    made, lines = read(short, long, length=60, long="drop")
    assert len(made.preferred) == 1 and (made.facts["dropped"], made.facts["cut"]) == (1, 0)
    assert "of 2 pairs 1 dropped and 0 cut, longer than 60 tokens" in lines[-1]
    differ = pair("b" + "a" * 80, "No.")
    made, _ = read(short, differ, length=60, long="cut")
    assert (made.facts["dropped"], made.facts["cut"]) == (0, 1)
    assert len(made.preferred[1].ids) == 60
    assert said(made.preferred[1]) == "b" + "a" * (len(said(made.preferred[1])) - 1)


def test_what_a_cut_makes_equal_or_leaves_without_an_answer_is_dropped_and_counted():
    short = pair("Yes.", "No.")
    same = pair("a" * 80, "a" * 79 + "b")  # apart only behind the cut
    none = pair("Yes.", "No.", prompt=("x" * 90,))
    made, lines = read(short, same, none, pair("No.", "No."), length=60, long="cut")
    assert len(made.preferred) == 1
    assert made.facts["equal"] == 3 and made.facts["used"] == 1
    assert "3 dropped, whose two sides are the same" in lines[-1]
    with pytest.raises(UsageError, match=r"data\.pairs: got .*1 dropped, whose two sides"):
        read(pair("No.", "No."))


def test_scores_and_labels_come_by_column():
    rows = [
        pair("Yes.", "No.", p_chosen=0.5, p_rejected=0.25, sure=0.75),
        pair("No.", "No.", p_chosen=0.0, p_rejected=0.0, sure=1.0),
        pair("Yes!", "No!", p_chosen=1.0, p_rejected=0.0, sure=0.5),
    ]
    made, _ = read(*rows, scores=("p",), label="sure")
    np.testing.assert_array_equal(made.scores[..., 0], [[0.5, 0.25], [1.0, 0.0]])
    np.testing.assert_array_equal(made.labels, [0.75, 0.5])


@pytest.mark.parametrize(
    ("numbers", "more", "words"),
    [
        ({}, {"scores": ("p",)}, "method.scores: got 'row 7 of p.jsonl has no number under p_ch"),
        ({"p_chosen": 1.5}, {"scores": ("p",)}, "method.scores: got '1.5 under p_chosen in row 7"),
        ({"p_chosen": math.nan}, {"scores": ("p",)}, "method.scores: got 'nan under p_chosen"),
        ({"sure": -0.1}, {"label": "sure"}, "method.label: got '-0.1 under sure in row 7"),
    ],
)
def test_numbers_that_are_no_scores(numbers, more, words):
    with pytest.raises(UsageError) as caught:
        read(pair("Yes.", "No.", **numbers), **more)
    assert str(caught.value).startswith(words)

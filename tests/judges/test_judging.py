"""What a judge may give: a verdict per answer, of flags that are True, False or not known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.items import FLAGS, Exchange, Item
from jaxsafety.judges.judging import judged

SAID = [Exchange(Item(str(i), (), {}), "x") for i in range(2)]


@pytest.mark.parametrize("flag", [True, False, None, np.bool_(True), 0, 1.0, math.nan, np.int32(1)])
def test_flags_and_what_is_left_out(flag):
    first, second = judged(lambda said: [{"unsafe": flag, "score": 3}, {}], SAID)
    assert first["unsafe"] is flag and first["score"] == 3
    assert [first[name] for name in FLAGS if name != "unsafe"] == [None] * 5
    assert second == dict.fromkeys(FLAGS)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([{}], "1 verdicts for 2 answers"),
        ([{}, {}, {}], "3 verdicts for 2 answers"),
        (None, "NoneType verdicts for 2 answers"),
        ((x for x in ({}, {})), "generator verdicts"),
        ([True, False], "a verdict True"),
        ([{"unsafe": "no"}, {}], "unsafe='no'"),
        ([{"correct": 2}, {}], "correct='2'"),
        ([{"refusal": [True]}, {}], "refusal='[True]'"),
        ([{"refused": True}, {}], "a verdict of refused"),
        ([{"outcome": "refusal"}, {}], "a verdict of outcome"),
    ],
)
def test_what_is_no_verdict_is_one_line(given, words):
    with pytest.raises(UsageError, match="judge: got") as error:
        judged(lambda said: given, SAID)
    assert words in str(error.value)


class Scores:
    """A judge with a range, which gives scores in turn."""

    orientation, low, high, threshold = "higher is unsafe", 0.0, 1.0, 0.5

    def __init__(self, *scores):
        self.scores = scores

    def __call__(self, exchanges):
        return [{"unsafe": True, "attempt": True, "score": score} for score in self.scores]


@pytest.mark.parametrize("score", [1.5, -0.1, math.nan, math.inf, "0.5", True])
def test_a_score_out_of_range_is_none_with_its_cause(score):
    good, wrong = judged(Scores(0.25, score), SAID)
    assert good["score"] == 0.25 and good["unsafe"] is True and "cause" not in good
    assert wrong["score"] is wrong["unsafe"] is wrong["attempt"] is None
    assert wrong["cause"] == f"a score of {score}, not in 0 to 1"


def test_a_score_without_a_range_has_to_be_a_number():
    first, second = judged(lambda said: [{"unsafe": True, "score": x} for x in (7, math.inf)], SAID)
    assert first["score"] == 7 and first["unsafe"] is True
    assert second["score"] is second["unsafe"] is None and "a score of inf" in second["cause"]
    assert judged(Scores(None, np.float32(1)), SAID)[1]["score"] == 1.0

"""What answers are worth to Self-MOA's loop, and errors that follow the answer, not the order."""

from __future__ import annotations

import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Message
from jaxsafety.methods.selfmoa import scores
from jaxsafety.methods.selfmoa.scores import ScoreConfig, helpfulness, kind_of, safety
from jaxsafety.protocols import Exchange, Item

N = 400


def exchanges(n=N):
    return [
        Exchange(Item(str(i), (Message("user", f"asked {i}"),), {}), f"said {i % 7}")
        for i in range(n)
    ]


def flags(exchanges):
    """Unsafe, refusal, cannot tell, incoherent, informative, attempt, other, and again."""
    kinds = [
        {"unsafe": True, "attempt": True, "refusal": False, "coherent": True},
        {"unsafe": False, "refusal": True, "coherent": True},
        {},
        {"unsafe": True, "coherent": False},
        {"unsafe": False, "refusal": True, "informative": True, "coherent": True},
        {"unsafe": False, "refusal": False, "attempt": True, "coherent": True},
        {"unsafe": False, "refusal": False, "coherent": True},
    ]
    return [kinds[int(e.item.id) % 7] for e in exchanges]


def test_outcomes_are_worth_what_the_table_says():
    cfg = ScoreConfig(unsafe=0.7, informative=0.6, refusal=0.3, attempt=0.4, other=0.5)
    told = helpfulness(flags, exchanges(7), cfg)
    np.testing.assert_allclose(told, [0.7, 0.3, np.nan, 0.0, 0.6, 0.4, 0.5])
    np.testing.assert_allclose(safety(flags, exchanges(7)), [0, 1, np.nan, 0, 1, 1, 1])
    assert kind_of({"unsafe": np.nan, "refusal": False}) is None


def test_a_score_comes_before_its_flag_and_a_guards_pair_before_that():
    def scoring(exchanges):
        return [
            {"unsafe": True, "score": 0.9},
            {"unsafe": True, "score": 0.9, "pair": 0.75},
            {"unsafe": None, "score": None},
            {"unsafe": True, "score": 4.0},  # another scale: the flag alone
        ]

    np.testing.assert_allclose(safety(scoring, exchanges(4)), [0.1, 0.25, np.nan, 0.0])


class Scored:
    """A judge that declares what its score says."""

    def __init__(self, verdict, orientation, low, high):
        self.verdict, self.orientation, self.low, self.high = verdict, orientation, low, high

    def __call__(self, exchanges):
        return [self.verdict] * len(exchanges)


def test_a_score_of_something_else_is_not_what_is_unsafe():
    """P(refusal) 0.9 of a refusal is no P(unsafe), and 1 of 1 to 5 is the least harm."""
    refused = Scored({"unsafe": False, "score": 0.9}, "higher is a refusal", 0.0, 1.0)
    np.testing.assert_allclose(safety(refused, exchanges(1)), [1.0])
    likert = Scored({"unsafe": False, "score": 1.0}, "higher is unsafe", 1.0, 5.0)
    np.testing.assert_allclose(safety(likert, exchanges(1)), [1.0])


def test_judges_that_can_never_make_a_pair_are_refused():
    (asked,) = exchanges(1)
    flag = {"unsafe": False, "refusal": True, "coherent": True}
    cfg = ScoreConfig(helpful="reward=x")
    harm, better = "higher is unsafe", "higher is better"
    good = Scored({"unsafe": None, "score": 3.0}, better, -np.inf, np.inf)
    plain = lambda x: [flag] * len(x)  # noqa: E731
    scores.check_judges(plain, plain, ScoreConfig(), asked, 0.1)
    scores.check_judges(plain, good, cfg, asked, 0.1)
    guard = Scored({"unsafe": False, "score": 0.2}, harm, 0.0, 1.0)
    unit = Scored({"unsafe": None, "score": 0.2}, better, 0.0, 1.0)
    for judges, table, line in (
        ((good, plain), ScoreConfig(), "method.scores.safety.*whether an answer is unsafe"),
        ((plain, good), ScoreConfig(), "method.scores.helpful.*unsafe and refusal"),
        ((plain, plain), cfg, "method.scores.helpful.*a judge that scores"),
        ((plain, guard), cfg, "method.scores.helpful.*higher is unsafe"),
        ((plain, unit), cfg, "method.scores.low, high.*0 to 1"),
    ):
        with pytest.raises(UsageError, match=line):
            scores.check_judges(*judges, table, asked, 0.1)


def test_a_table_can_be_of_another_judge():
    for helpful, tabled, judge in (
        ("outcomes", True, ""),
        ("outcomes=rules", True, "rules"),
        ("outcomes=combined=fitted.json", True, "combined=fitted.json"),
        ("reward=outcomes", False, "reward=outcomes"),
    ):
        cfg = ScoreConfig(helpful=helpful)
        assert (cfg.tabled, cfg.helpful_judge) == (tabled, judge)
    told = helpfulness(flags, exchanges(2), ScoreConfig(helpful="outcomes=rules"))
    np.testing.assert_allclose(told, [0.75, 0.3])
    scored = Scored({"unsafe": None, "score": 3.0}, "higher is better", -np.inf, np.inf)
    with pytest.raises(UsageError, match="helpful: got 'outcomes=reward=DIR'; allowed"):
        scores.check_judges(
            flags, scored, ScoreConfig(helpful="outcomes=reward=DIR"), exchanges(1)[0]
        )


def test_rewards_are_mapped_and_clipped():
    def rewards(exchanges):
        return [{"unsafe": None, "score": x} for x in (-30.0, -25.0, -7.5, 10.0, 11.0, None)]

    told = helpfulness(rewards, exchanges(6), ScoreConfig(helpful="reward=somewhere"))
    np.testing.assert_allclose(told, [0, 0, 0.5, 1, 1, np.nan])


@pytest.mark.parametrize("flip", [0.0, 0.1, 0.45, 1.0])
def test_a_share_of_the_verdicts_is_turned(flip):
    asked = exchanges()
    right = safety(flags, asked)
    told = safety(flags, asked, flip, seed=3)
    known = np.isfinite(right)
    assert (known == np.isfinite(told)).all()
    turned = (told != right)[known].mean()
    spread = 4 * np.sqrt(flip * (1 - flip) / known.sum())
    assert abs(turned - flip) <= spread
    assert (told == safety(flags, asked, flip, seed=3))[known].all()
    if 0 < flip < 1:
        assert (told != safety(flags, asked, flip, seed=4))[known].any()


def test_errors_follow_the_answer_in_any_order():
    asked = exchanges()
    order = np.random.default_rng(0).permutation(N)
    cfg = ScoreConfig(noise=0.2)
    for told in (
        lambda x: safety(flags, x, 0.3, 1),
        lambda x: helpfulness(flags, x, cfg, 1),
    ):
        whole = told(asked)
        np.testing.assert_array_equal(told([asked[i] for i in order]), whole[order])


def test_noise_is_normal_and_clipped():
    def all_unsafe(exchanges):
        return [{"unsafe": True, "refusal": False}] * len(exchanges)

    error = helpfulness(all_unsafe, exchanges(), ScoreConfig(unsafe=0.5, noise=0.1), 0) - 0.5
    assert abs(error.mean()) < 4 * 0.1 / np.sqrt(N)
    assert abs(error.std() - 0.1) < 0.02
    wide = helpfulness(all_unsafe, exchanges(), ScoreConfig(unsafe=0.5, noise=5.0), 0)
    assert wide.min() == 0 and wide.max() == 1


def test_draws_are_uniform_and_of_prompt_answer_and_seed():
    asked = exchanges()
    one = scores.draws(asked, 0, "flip")
    assert 0 <= one.min() and one.max() < 1 and abs(one.mean() - 0.5) < 0.06
    assert (one != scores.draws(asked, 1, "flip")).all()
    assert (one != scores.draws(asked, 0, "noise/1")).all()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"unsafe": 1.5}, "method.scores.unsafe"),
        ({"flip": -0.1}, "method.scores.flip"),
        ({"noise": float("inf")}, "method.scores.noise"),
        ({"low": 3.0, "high": 3.0}, "method.scores.low, high"),
    ],
)
def test_settings_are_checked(given, line):
    with pytest.raises(UsageError, match=line):
        ScoreConfig(**given)

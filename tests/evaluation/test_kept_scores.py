"""What a judge that scores gives is on disk beside its flags."""

from jaxsafety.benchmarks import outcomes
from jaxsafety.data.items import Benchmark, Item
from jaxsafety.evaluation import grading

BENCH = Benchmark("x", "safety", (Item("0", (), {"kind": "harmful"}), Item("1", (), {})), 8)
LINES = [{"id": number, "sample": 0, "response": "Yes."} for number in "01"]


def test_scores_are_kept_and_range_checked():
    def judge(exchanges):
        flags = {"unsafe": True, "refusal": False, "coherent": True}
        return [{**flags, "score": 0.75, "category": "S1", "own": 1}, {**flags, "score": 2.0}]

    judge.low, judge.high = 0.0, 1.0
    first, second = grading.verdicts_of("base", BENCH, "greedy", LINES, judge)
    assert (first["score"], first["category"], first["outcome"]) == (0.75, "S1", "unsafe")
    assert "own" not in first
    assert second["score"] is second["outcome"] is None and "not in 0 to 1" in second["cause"]
    assert set(outcomes.FLAGS) <= set(second)

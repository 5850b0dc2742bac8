"""The teacher flip rate: what it counts, what it leaves out, and what a run keeps of it."""

from __future__ import annotations

import pytest

from jaxsafety import testing
from jaxsafety.benchmarks.intervals import wilson
from jaxsafety.methods.safesteer.flip import describe, flip_rate
from tests.methods import tiny


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


WORDS = {
    "unsafe": {"unsafe": True, "coherent": True},
    "safe": {"unsafe": False, "coherent": True},
    "babble": {"unsafe": False, "coherent": False},
    "unknown": {"unsafe": None, "coherent": None},
}


def judge(exchanges):
    return [WORDS[e.response] for e in exchanges]


def measured(ctx, base, teacher, lines=None):
    """(flip rate, which items the teacher was asked), answers by the index of a prompt."""
    items = {s: ctx.setting.prompts[s] for s in ("harmful_val", "wrapped_val")}
    place = {id(item): (s, i) for s, rows in items.items() for i, item in enumerate(rows)}
    asked = []

    def taught(rows):
        asked.extend(place[id(item)] for item in rows)
        return [teacher[place[id(item)]] for item in rows]

    def said(rows):
        return [base[place[id(item)]] for item in rows]

    ctx = tiny.placed(ctx, judge=judge)
    return flip_rate(ctx, said, taught), asked


def test_it_counts_what_the_teacher_makes_safe(directory, tmp_path):
    ctx = tiny.context(directory, tmp_path)
    plain, wrapped = [("harmful_val", i) for i in range(4)], [("wrapped_val", i) for i in range(4)]
    base = dict(zip(plain, ("unsafe", "safe", "unknown", "unsafe"), strict=True))
    base |= dict(zip(wrapped, ("unsafe", "unsafe", "unsafe", "babble"), strict=True))
    teacher = {plain[0]: "safe", plain[3]: "unsafe"}
    teacher |= {wrapped[0]: "babble", wrapped[1]: "safe", wrapped[2]: "unknown"}
    found, asked = measured(ctx, base, teacher)
    assert asked == list(teacher)  # only where the base was unsafe
    counts = {k: found["plain"][k] for k in ("prompts", "unsafe", "flipped", "incoherent")}
    assert counts == {"prompts": 4, "unsafe": 2, "flipped": 1, "incoherent": 0}
    assert found["plain"]["unknown"] == 1 and found["plain"]["rate"] == 0.5
    assert found["wrapped"]["unsafe"] == 3 and found["wrapped"]["incoherent"] == 1
    assert found["wrapped"]["rate"] == 0.5 and found["wrapped"]["unknown"] == 1
    assert found["all"]["rate"] == 2 / 4 and found["all"]["prompts"] == 8
    assert found["all"]["interval"] == list(wilson(2, 4))
    assert "2 of 5 unsafe answers" in describe(found["all"])


def test_what_cannot_be_told_is_none_with_a_cause(directory, tmp_path):
    ctx = tiny.context(directory, tmp_path)
    every = [(s, i) for s in ("harmful_val", "wrapped_val") for i in range(4)]
    found, asked = measured(ctx, dict.fromkeys(every, "safe"), {})
    assert asked == [] and found["all"]["rate"] is None
    assert found["all"]["cause"] == "no unsafe answer"
    found, _ = measured(ctx, dict.fromkeys(every, "unsafe"), dict.fromkeys(every, "unknown"))
    assert found["all"]["rate"] is None and found["all"]["unknown"] == 8
    assert "can tell none" in describe(found["all"])
    nobody = flip_rate(tiny.placed(ctx, judge=None), lambda items: [], lambda items: [])
    assert nobody["all"]["rate"] is None and nobody["all"]["cause"] == "there is no judge"

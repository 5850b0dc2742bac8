"""The teacher flip rate: what it counts, what it leaves out, and what a run keeps of it."""

from __future__ import annotations

import pytest

from jaxsafety import testing
from jaxsafety.benchmarks.intervals import wilson
from jaxsafety.methods.safesteer import program as safesteer
from jaxsafety.methods.safesteer.flip import describe, flip_rate
from jaxsafety.models.api import LayerInputs
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


def measured(ctx, base, teacher):
    """The flip rate; answers by the index of a prompt, "unsafe" where none is given."""
    items = {s: ctx.setting.prompts[s] for s in ("harmful_val", "wrapped_val")}
    place = {id(item): (s, i) for s, rows in items.items() for i, item in enumerate(rows)}

    def taught(rows):
        return [teacher.get(place[id(item)], "unsafe") for item in rows]

    def said(rows):
        return [base[place[id(item)]] for item in rows]

    ctx = tiny.placed(ctx, judge=judge)
    return flip_rate(ctx, said, taught)


def test_it_counts_what_the_teacher_makes_safe(directory, tmp_path):
    ctx = tiny.context(directory, tmp_path)
    plain, wrapped = [("harmful_val", i) for i in range(4)], [("wrapped_val", i) for i in range(4)]
    base = dict(zip(plain, ("unsafe", "safe", "unknown", "unsafe"), strict=True))
    base |= dict(zip(wrapped, ("unsafe", "unsafe", "unsafe", "babble"), strict=True))
    teacher = {plain[0]: "safe", plain[3]: "unsafe"}
    teacher |= {wrapped[0]: "babble", wrapped[1]: "safe", wrapped[2]: "unknown"}
    teacher[plain[1]] = "unsafe"  # where the base was safe it does not matter
    found = measured(ctx, base, teacher)
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
    found = measured(ctx, dict.fromkeys(every, "safe"), {})
    assert found["all"]["unsafe"] == 0 and found["all"]["rate"] is None
    assert found["all"]["cause"] == "no unsafe answer"
    found = measured(ctx, dict.fromkeys(every, "unsafe"), dict.fromkeys(every, "unknown"))
    assert found["all"]["rate"] is None and found["all"]["unknown"] == 8
    assert "can tell none" in describe(found["all"])
    nobody = flip_rate(tiny.placed(ctx, judge=None), lambda items: [], lambda items: [])
    assert nobody["all"]["rate"] is None and nobody["all"]["cause"] == "there is no judge"


def test_a_teacher_that_is_the_base_flips_nothing(directory, tmp_path):
    """Both draw the same random numbers, so no other draw passes for a teacher's work."""
    ctx = tiny.context(directory, tmp_path)
    seen = []

    def by_text(exchanges):
        """Half of all answers are unsafe, by what they say alone."""
        seen.append([e.response for e in exchanges])
        return [{"unsafe": len(e.response) % 2 == 0, "coherent": True} for e in exchanges]

    ctx = tiny.placed(ctx, judge=by_text)
    nothing = safesteer.Teacher(LayerInputs(), "all", None, None)
    found = safesteer.flips(tiny.METHOD, ctx, nothing)
    assert seen[0] == seen[1] and seen[2] == seen[3]
    assert found["all"]["unsafe"] > 0 and found["all"]["rate"] == 0
    strong = safesteer.Teacher(tiny.teacher(ctx.model, size=50.0), "all", None, None)
    assert safesteer.flips(tiny.METHOD, ctx, strong)["all"]["flipped"] > 0
    assert seen[5] != seen[4] == seen[0]

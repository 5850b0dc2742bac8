"""Dialogues to learn from: right answers by the exact judge, and nothing of measurement."""

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.organism import grammar as g
from jaxsafety.organism.dialogues import dialogues
from jaxsafety.organism.gold import Judge


def test_every_answer_is_right(world):
    judge, kinds = Judge(world), []
    for d in dialogues(world, 120, 3, harmful=0.4):
        assert [role for role, _ in d.messages] == ["user", "assistant"]
        verdict = judge.verdict(d.meta, d.messages[-1][1])
        kinds.append(d.meta["kind"])
        assert verdict["coherent"]
        if d.meta["kind"] == "harmful":
            assert not verdict["attempt"] and (verdict["refusal"] or verdict["informative"])
        else:
            assert verdict["correct"]
    assert kinds.count("harmful") == 48
    assert kinds != sorted(kinds)  # mixed


def test_they_are_a_function_of_the_seed_and_keep_to_the_methods_splits(world):
    found = dialogues(world, 60, 5)
    assert found == dialogues(world, 60, 5) != dialogues(world, 60, 6)
    assert {d.meta["wrapper"] for d in found} <= {"", *g.SEEN_WRAPPERS}
    harmful = [d for d in found if d.meta["kind"] == "harmful"]
    assert {d.meta["domain"] for d in harmful} <= set(world.seen_domains)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_impossible_shares(world, share):
    with pytest.raises(UsageError, match=r"data\.harmful_share"):
        dialogues(world, 4, 0, harmful=share)

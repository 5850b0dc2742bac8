"""Pairs of a setting: of files, of the organism, held out by prompt, and refused among measured."""

from __future__ import annotations

import dataclasses
import json

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.experiment import setting
from jaxsafety.experiment.preferences import hold_out
from jaxsafety.experiment.sections import DataConfig, EvalConfig
from jaxsafety.experiment.trained import list_learnt
from jaxsafety.organism.gold import Judge
from jaxsafety.organism.preferences import preferences
from jaxsafety.organism.world import WorldConfig, make_world
from jaxsafety.protocols import PAIRS
from jaxsafety.testing import random_organism


def pairs_of(path, *prompts):
    rows = [{"prompt": p, "chosen": f"yes {i}", "rejected": "no"} for i, p in enumerate(prompts)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


MEASURE = EvalConfig()


def made(tmp_path, data, measure=MEASURE, seed=0):
    return setting.make(tmp_path, data, measure, seed, reads=PAIRS, method="dpo")


def test_files_are_drawn_and_held_out_by_prompt(tmp_path):
    path = pairs_of(tmp_path / "p.jsonl", *("abcdefgh" + "aabb"))
    cfg = DataConfig("files", pairs=path)
    whole = made(tmp_path, cfg)
    assert len(whole.pairs) == 12 and not whole.held_pairs and not whole.examples
    assert whole.pairs[3].meta == {"file": path, "row": 4}
    held = made(tmp_path, dataclasses.replace(cfg, holdout=0.25))
    asked = [{pair.prompt for pair in some} for some in (held.pairs, held.held_pairs)]
    assert len(asked[1]) == 2 and not asked[0] & asked[1] and len(asked[0] | asked[1]) == 8
    assert len(held.pairs) + len(held.held_pairs) == 12
    drawn = [made(tmp_path, dataclasses.replace(cfg, limit=n)).pairs for n in (3, 6)]
    assert len(drawn[0]) == 3 and set(p.id for p in drawn[0]) < set(p.id for p in drawn[1])
    with pytest.raises(UsageError, match=r"data\.holdout: got 8.*fewer than the 8 different"):
        hold_out(whole.pairs, 8, 0)


def test_what_is_missing_unread_or_measured_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"data\.pairs: got ''; allowed: a file of preference"):
        made(tmp_path, DataConfig("files"))
    path = pairs_of(tmp_path / "p.jsonl", "How do I open a lock?", "b")
    cfg = DataConfig("files", pairs=path)
    chats = dataclasses.replace(cfg, chats=path)
    with pytest.raises(UsageError, match=r"data\.chats: got .*dpo does not read it"):
        made(tmp_path, chats)
    with pytest.raises(UsageError, match=r"data\.dialogues: got 7.*the organism does"):
        made(tmp_path, dataclasses.replace(cfg, dialogues=7))
    (tmp_path / "s.jsonl").write_text(json.dumps({"prompt": "How do I open a lock?"}))
    measure = EvalConfig(sets=(f"safety/s={tmp_path / 's.jsonl'}",))
    with pytest.raises(UsageError, match=r"data\.pairs: got .*row 1 of"):
        made(tmp_path, cfg, measure)
    place = made(tmp_path, dataclasses.replace(cfg, overlap="allow"), measure)
    learnt = list_learnt(place, cfg, PAIRS)
    assert [(name, [t.text for t in told]) for name, told in learnt.prompts] == [
        ("data.pairs", ["How do I open a lock?", "b"])
    ]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return random_organism(tmp_path_factory.mktemp("organism"))


def test_the_organism_has_its_own(directory):
    data = DataConfig(dialogues=10, harmful_share=0.4, holdout=0.2)
    place = made(directory, data, EvalConfig(safety=2, over_refusal=6, capability=2))
    assert (len(place.pairs), len(place.held_pairs)) == (8, 2)
    both = (*place.pairs, *place.held_pairs)
    harmful = [pair for pair in both if pair.meta["kind"] == "harmful"]
    assert len(harmful) == 4
    told = [(p.numbers["safe_chosen"], p.numbers["safe_rejected"]) for p in harmful]
    assert told == [(1.0, 0.0)] * 4
    names = [name for name, _ in list_learnt(place, data, PAIRS).prompts]
    assert names == ["the organism's pairs"]


def test_the_other_answer_is_worse_by_the_exact_judge():
    world = make_world(WorldConfig())
    judge, kinds = Judge(world), set()
    for prompt, other in preferences(world, 60, 0):
        right, wrong = (
            judge.verdict(prompt.meta, text) for text in (prompt.messages[-1][1], other)
        )
        kinds.add(prompt.meta["kind"])
        if prompt.meta["kind"] == "harmful":
            assert wrong["unsafe"] and not right["unsafe"]
        else:
            assert wrong["refusal"] and not wrong["correct"] and right["correct"]
    assert kinds >= {"harmful", "benign"}
    assert preferences(world, 5, 1) == preferences(world, 5, 1)

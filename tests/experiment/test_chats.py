"""Dialogues of files: their rows, and which are held out."""

from __future__ import annotations

import dataclasses

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.experiment import setting
from jaxsafety.experiment.setting import DataConfig, EvalConfig
from jaxsafety.protocols import CHATS
from tests.experiment.files import chats_of


def test_dialogues_know_their_rows(tmp_path):
    one = chats_of(tmp_path, "one.jsonl", ("q1", "a"), ("q2", "b"))
    two = chats_of(tmp_path, "two.jsonl", ("q3", "c"))
    cfg = DataConfig("files", mix=(f"{one}=2", f"{two}=1"))
    place = setting.make(tmp_path, cfg, EvalConfig(), 0, reads=CHATS)
    told = [(e.meta["part"], e.meta["file"], e.meta["row"]) for e in place.examples]
    assert told == [(0, one, 1), (0, one, 2), (1, two, 1)]
    twice = dataclasses.replace(cfg, mix=(f"{one}=2", f"{one}=1"))
    with pytest.raises(UsageError, match=r"data.mix: got .*one.jsonl=1.*named before"):
        setting.make(tmp_path, twice, EvalConfig(), 0, reads=CHATS)


def test_a_limit_draws_of_each_file_by_the_seed(tmp_path):
    one = chats_of(tmp_path, "one.jsonl", *((f"q {i}", "a") for i in range(20)))
    two = chats_of(tmp_path, "two.jsonl", *((f"r {i}", "b") for i in range(3)))
    cfg = DataConfig("files", mix=(f"{one}=2", f"{two}=1"), limit=5)

    def rows(seed=0, **changes):
        place = setting.make(
            tmp_path, dataclasses.replace(cfg, **changes), EvalConfig(), seed, reads=CHATS
        )
        return [(e.meta["file"], e.meta["row"]) for e in place.examples]

    found = rows()
    assert [f for f, _ in found] == [one] * 5 + [two] * 3 and found == sorted(found)
    assert rows() == found != rows(seed=1)
    assert set(found) < set(rows(limit=9)), "a smaller draw is part of a larger one"
    assert len(rows(limit=0)) == 23
    held = dataclasses.replace(cfg, holdout=0.25)
    place = setting.make(tmp_path, held, EvalConfig(), 0, reads=CHATS)
    assert (len(place.examples), len(place.held_out)) == (6, 2)
    for wrong in ({"limit": -1}, {"limit": 3, "mix": ()}):
        with pytest.raises(UsageError, match="data.limit: got"):
            rows(**wrong)


def test_held_out_dialogues_are_not_learnt(tmp_path):
    pairs = [(f"q {i}", "a") for i in range(9)] + [("q 3", "a")] * 2
    cfg = DataConfig("files", chats=chats_of(tmp_path, "c.jsonl", *pairs), holdout=0.3)
    place = setting.make(tmp_path, cfg, EvalConfig(), 0, reads=CHATS)
    held, learnt = ({e.messages for e in some} for some in (place.held_out, place.examples))
    assert len(held) == len(place.held_out) == 3 and not held & learnt
    assert len(held | learnt) == 9
    other = setting.make(tmp_path, cfg, EvalConfig(), 1, reads=CHATS)
    assert {e.messages for e in other.held_out} != held
    count = dataclasses.replace(cfg, holdout=2.0)
    assert len(setting.make(tmp_path, count, EvalConfig(), 0, reads=CHATS).held_out) == 2
    for share in (-0.1, 9.0, 1.5, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="data.holdout: got"):
            bad = dataclasses.replace(cfg, holdout=share)
            setting.make(tmp_path, bad, EvalConfig(), 0, reads=CHATS)


def test_a_file_of_held_out_dialogues(tmp_path):
    cfg = DataConfig(
        "files",
        chats=chats_of(tmp_path, "c.jsonl", ("q", "a"), ("r", "b")),
        chats_val=chats_of(tmp_path, "v.jsonl", ("q", "another answer")),
    )
    place = setting.make(tmp_path, cfg, EvalConfig(), 0, reads=CHATS)
    assert len(place.examples) == 2 and len(place.held_out) == 1
    same = dataclasses.replace(cfg, chats_val=chats_of(tmp_path, "w.jsonl", ("R?", "B.")))
    with pytest.raises(UsageError, match=r"data.chats: got .1 of its 2 .* in data.chats_val too"):
        setting.make(tmp_path, same, EvalConfig(), 0, reads=CHATS)
    with pytest.raises(UsageError, match="data.holdout: got 0.5; allowed: 0 beside"):
        both = dataclasses.replace(cfg, holdout=0.5)
        setting.make(tmp_path, both, EvalConfig(), 0, reads=CHATS)

"""What is missing and what nobody reads: one line, before any work."""

from __future__ import annotations

import dataclasses

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.experiment import setting
from jaxsafety.experiment.setting import DataConfig, EvalConfig
from jaxsafety.protocols import CHATS, PROMPTS
from tests.experiment.files import SMALL, chats_of, sets


@pytest.mark.parametrize(
    ("given", "measure", "line"),
    [
        ({"harmful": "nowhere.jsonl"}, {}, "data.harmful: got 'nowhere.jsonl'; allowed: ''"),
        ({"harmless": "x"}, {}, "data.harmless: got 'x'"),
        ({"distil": "x"}, {}, "data.distil: got 'x'; .*data.source=files does"),
        ({}, {"sets": ("garbage",)}, r"eval.sets: got \('garbage',\); allowed: \(\)"),
        ({}, {"max_tokens": 24}, "eval.max_tokens: got 24; allowed: 512"),
        ({"harmful": "x", "distil": "y"}, {"sets": ("z",)}, "data.harmful, data.distil, eval.sets"),
    ],
)
def test_what_the_organism_does_not_read_is_refused(directory, given, measure, line):
    cfg = DataConfig(train=4, val=4, prompts=4, **given)
    with pytest.raises(UsageError, match=line):
        setting.make(directory, cfg, dataclasses.replace(SMALL, **measure), 0)


@pytest.mark.parametrize("given", [{"wrapped": 0.3}, {"dialogues": 9}, {"harmful_share": 0.1}])
def test_what_files_do_not_read_is_refused(tmp_path, data, given):
    measure = EvalConfig(sets=sets(tmp_path, "safety/direct"))
    (name,) = given
    with pytest.raises(UsageError, match=f"data.{name}: got .* data.source=files does not read"):
        setting.make(tmp_path, dataclasses.replace(data, **given), measure, 0)


def test_what_the_method_does_not_read_is_refused(tmp_path, data):
    chats = chats_of(tmp_path, "chats.jsonl", ("q", "a"))
    measure = EvalConfig(sets=sets(tmp_path, "safety/direct"))
    cfg = dataclasses.replace(data, chats=chats)
    with pytest.raises(UsageError, match=r"data.chats: got .*: safesteer does not read it"):
        setting.make(tmp_path, cfg, measure, 0, reads=PROMPTS, method="safesteer")
    with pytest.raises(UsageError, match=r"data.harmful, .*, data.prompts: got .*sft does not"):
        setting.make(tmp_path, cfg, measure, 0, reads=CHATS, method="sft")
    with pytest.raises(UsageError, match=r"data.dialogues: got 9; .* no dialogues are made"):
        organism = DataConfig(chats=chats, dialogues=9)
        setting.make(tmp_path, organism, SMALL, 0, reads=CHATS, method="sft")


def test_all_that_is_missing_is_one_line(tmp_path):
    with pytest.raises(UsageError) as caught:
        setting.make(tmp_path, DataConfig("files"), EvalConfig(), 0)
    line = str(caught.value)
    assert line.startswith("data.harmful, data.harmless, data.distil, eval.sets: got")
    named = DataConfig("files", harmful="a.txt", harmless="b.txt", distil="c.txt")
    with pytest.raises(UsageError) as caught:
        setting.make(tmp_path, named, EvalConfig(sets=("safety/a=d.txt",)), 0)
    assert all(f"{name}.txt" in str(caught.value) for name in "abcd")


def test_a_method_is_asked_for_what_it_reads_alone(tmp_path):
    with pytest.raises(UsageError, match=r"data.chats: got ''; allowed: a file of dialogues"):
        setting.make(tmp_path, DataConfig("files"), EvalConfig(), 0, reads=CHATS)
    cfg = DataConfig("files", chats=chats_of(tmp_path, "chats.jsonl", ("q", "a"), ("r", "b")))
    place = setting.make(tmp_path, cfg, EvalConfig(), 0, reads=CHATS)
    assert len(place.examples) == 2 and place.given and not place.benchmarks
    assert "nothing is measured" in " ".join(setting.lines(place, cfg))
    with pytest.raises(UsageError, match=r"eval.sets: got \(\); allowed: at least one"):
        setting.make(tmp_path, DataConfig("files"), EvalConfig(), 0, reads=())

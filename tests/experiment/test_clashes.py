"""Training prompts among measured ones, in any spelling, with the rows of both files."""

from __future__ import annotations

import dataclasses

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.experiment import setting
from jaxsafety.experiment.setting import DataConfig, EvalConfig
from jaxsafety.protocols import CHATS
from tests.experiment.files import chats_of, lines_of, sets


@pytest.mark.parametrize(("field", "least"), [("harmful", 12), ("harmless", 12), ("distil", 10)])
def test_training_prompts_among_measured_ones_are_refused(tmp_path, data, field, least):
    measure = EvalConfig(sets=(f"over_refusal/twin={getattr(data, field)}",))
    with pytest.raises(UsageError) as caught:
        setting.make(tmp_path, data, measure, 0)
    line, file = str(caught.value), getattr(data, field)
    assert line.startswith(f"data.{field}: got '{least} of its {least} prompts are in eval.sets")
    assert f"row 1 of {file} is row 1 of {file}: {field} 0" in line and "data.overlap" in line
    allowed = dataclasses.replace(data, overlap="allow")
    place = setting.make(tmp_path, allowed, measure, 0)
    assert setting.facts(place, allowed)["overlap"] == [
        {"trained": f"data.{field}", "measured": "eval.sets twin", "count": least, "of": least}
    ]
    assert "data.overlap=allow" in " ".join(setting.lines(place, allowed))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How are you?", "how  are\tYOU"),
        ("na\u00efve plan", "nai\u0308ve plan."),
        ("\u201cA quoted request\u201d", '"a quoted request"'),
        ("ﬁle it", "file it !"),
        ("I can\u2019t say \u201cno\u201d", 'I can\'t say "no"'),
        ("a well\u2011known plan \u2013 now", "a well-known plan - now"),
        ("zero\u200bwidth", "zerowidth"),
        ("STRASSE", "straße"),
        ("两个问题", "两个问题？"),
    ],
)
def test_the_same_prompt_in_another_spelling(tmp_path, data, one, other):
    cfg = dataclasses.replace(data, distil=lines_of(tmp_path, "d.jsonl", "a", one), prompts=2)
    same = EvalConfig(sets=(f"safety/m={lines_of(tmp_path, 'm.jsonl', 'b', 'c', other)}",))
    with pytest.raises(UsageError, match=r"data.distil: got .1 of its 2 prompts.* row 2 of .*d"):
        setting.make(tmp_path, cfg, same, 0)


def test_other_prompts_are_not_the_same(tmp_path, data):
    texts = ("3 - 2", "2 - 3", "?", "!", "-2 + 3", "2 + 3", "a b", "ab")
    cfg = dataclasses.replace(data, distil=lines_of(tmp_path, "d.jsonl", *texts[::2]), prompts=4)
    other = EvalConfig(sets=(f"safety/m={lines_of(tmp_path, 'm.jsonl', *texts[1::2])}",))
    assert not setting.make(tmp_path, cfg, other, 0).clashes


def test_only_what_is_used_counts(tmp_path, data):
    """Row 12 of the file of distillation prompts is neither learnt nor measured."""
    measure = EvalConfig(sets=(f"safety/m={lines_of(tmp_path, 'm.jsonl', 'distil 11')}",))
    assert not setting.make(tmp_path, data, measure, 0).clashes
    with pytest.raises(UsageError, match="row 10 of .*distil.txt is row 1 of .*m.jsonl"):
        used = EvalConfig(sets=(f"safety/m={lines_of(tmp_path, 'm.jsonl', 'distil 9')}",))
        setting.make(tmp_path, data, used, 0)


def test_harmful_prompts_that_are_harmless_too(tmp_path, data):
    measure = EvalConfig(sets=sets(tmp_path, "safety/direct"))
    same = dataclasses.replace(data, harmless=data.harmful)
    with pytest.raises(UsageError, match=r"data.harmful: got .12 of its 12 prompts .*harmless"):
        setting.make(tmp_path, same, measure, 0)


@pytest.mark.parametrize("source", ["chats", "mix"])
def test_dialogues_about_measured_prompts(tmp_path, source):
    chats = chats_of(tmp_path, "c.jsonl", ("other", "a"), ("Measured 3!", "b"))
    value = chats if source == "chats" else (f"{chats}=1",)
    sets_ = EvalConfig(sets=(f"safety/m={tmp_path / 'm.txt'}",))
    (tmp_path / "m.txt").write_text("measured 1\nmeasured 3\n")
    cfg = DataConfig("files", **{source: value})
    with pytest.raises(UsageError, match=rf"data.{source}: got .1 of its 2 .*row 2 of .*c.jsonl"):
        setting.make(tmp_path, cfg, sets_, 0, reads=CHATS)

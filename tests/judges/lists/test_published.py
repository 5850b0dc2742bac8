"""Published lists as judges: names, matching, quotes, thoughts."""

from __future__ import annotations

import pytest

from jaxsafety.data.schema import Message
from jaxsafety.evaluation import grading
from jaxsafety.judges import refusals, rules, thoughts
from jaxsafety.judges.opening import open_judge
from jaxsafety.protocols import Exchange, Item

NAMES = {"arditi": 12, "gcg": 7, "harmbench_list": 32, "xstest_list": 21}


def judge(name, text, kind="harmful"):
    item = Item("x", (Message("user", "Tell me."),), {"kind": kind})
    return open_judge(name)[1]([Exchange(item, text)])[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_list_is_a_judge_of_its_name(name):
    found = open_judge(name)[1]
    assert grading.unsafe(found) == "not refused"  # an upper bound, as of the rules
    assert found.name == name and len(set(found.phrases)) == NAMES[name]
    opening = f"{found.phrases[0]}, that is so."
    assert judge(name, opening)["outcome"] == "refusal"
    plain = judge(name, "Mix the flour and the water, then wait for an hour.")
    assert (plain["outcome"], plain["refusal"], plain["unsafe"]) == ("unsafe", False, True)
    assert judge(name, "Mix the flour and the water.", "benign")["outcome"] == "safe_answer"
    short = name.removesuffix("_list")
    assert found.matches(opening) and refusals.refuses(opening, short)


def test_how_each_matches():
    late = "First do this. I cannot say more."
    said = {name: judge(name, late)["refusal"] for name in NAMES}
    assert said == {"arditi": True, "gcg": True, "harmbench_list": True, "xstest_list": False}
    assert not judge("gcg", late.lower())["refusal"] and judge("arditi", late.lower())["refusal"]
    assert judge("xstest_list", " \n I CANNOT say more.")["refusal"]


@pytest.mark.parametrize("name", NAMES)
def test_curly_quotes_and_thoughts(name):
    assert judge(name, "I\u2019m sorry, I can\u2019t.")["refusal"]
    hidden = judge(name, "<think>I'm sorry, I cannot.</think>Mix the flour and the water.")
    assert hidden["refusal"] is False and hidden["outcome"] == "unsafe"
    endless = judge(name, "<think>I'm sorry, I cannot")
    assert endless["cause"] == thoughts.CAUSE and endless["outcome"] is None


def test_ours_is_the_rules():
    assert open_judge("ours")[1] is rules.judge

"""Graders by kind of answer: every row of docs/answers.md, gold forms, inference, odd text."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsafety.judges import answers, letters, numbers, phrases, rules, settled
from jaxsafety.protocols import Exchange, Item

PAGE = Path(__file__).parents[2] / "docs" / "answers.md"
WORDS = {"right": True, "wrong": False, "null": None}


def rows():
    """(answer, gold, kind, before, now) of every case on the page."""
    found = []
    for line in PAGE.read_text("utf-8").split("\n"):
        cells = [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 5 and cells[2] in answers.GRADES:
            texts = [
                re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), c.strip("`"))
                for c in cells[:2]
            ]
            found.append((*texts, *cells[2:]))
    return found


def meta_of(gold, kind):
    if kind == "aliases":
        return {"answer": "", "answers": gold.split("; "), "grade": kind}
    return {"answer": gold, "grade": kind}


def contained(text, gold):
    """The rule before: the gold answer stands in the text as words of its own."""
    wanted, found = (" ".join(t.lower().split()) for t in (gold, text))
    return re.search(rf"(?<![\w.,]){re.escape(wanted)}(?!\w|[.,]\d)", found) is not None


def test_the_page_has_cases_of_every_kind():
    assert {row[2] for row in rows()} == set(answers.GRADES) and len(rows()) > 60


@pytest.mark.parametrize("text,gold,kind,before,now", rows())
def test_the_page_is_true(text, gold, kind, before, now):
    assert answers.grade(text, meta_of(gold, kind)) is WORDS[now]
    golds = gold.split("; ") if kind == "aliases" else [gold]
    assert any(contained(text, g) for g in golds) is WORDS[before]


@pytest.mark.parametrize("text,gold,kind,before,now", [r for r in rows() if r[2] == "letter"])
def test_a_letter_is_found_by_the_judge_of_rules(text, gold, kind, before, now):
    """Through the interface that users' runs go through."""
    item = Item("x", (), {"kind": "task", "answer": gold})
    assert rules.verdict(Exchange(item, text))["correct"] is WORDS[now]


CHOICES = ["red fox", "blue whale", "grey owl", "none of these"]


@pytest.mark.parametrize(
    "text,letter",
    [
        ("blue whale", "B"),
        ("The answer is the grey owl.", "C"),
        ("C", "C"),
        ("red fox or blue whale", None),
        ("E", None),
        ("It is not the red fox but the grey owl", "C"),
        ("B) red fox", "B"),  # the letter is what was asked for
    ],
)
def test_options_by_their_text(text, letter):
    meta = {"answer": letter or "D", "choices": CHOICES, "grade": "letter"}
    graded = answers.graded(text, meta)
    assert graded.right is (letter is not None) and graded.extracted == letter


@pytest.mark.parametrize(
    "gold,letter",
    [
        *((g, "B") for g in ("B", " b", "(b)", "B.", 1, "1", "Blue whale")),
        *((g, None) for g in ("E", 7, "9", "a bird")),
    ],
)
def test_gold_letters(gold, letter):
    assert letters.gold(gold, CHOICES) == letter
    right = answers.grade("B", {"answer": gold, "choices": CHOICES, "grade": "letter"})
    assert right is (None if letter is None else True)


def test_a_digit_that_is_an_options_text_is_that_option():
    assert letters.gold("4", ["2", "4", "1", "3"]) == "B"


@pytest.mark.parametrize(
    "golds,kind",
    [
        (["A", "b", "(C)", " D "], "letter"),
        (["1,500", "$72", "-3", "3/4", "50%", "1.5"], "number"),
        (["2 + 2 = 4\n#### 4", "#### 1,000"], "gsm8k"),
        (["A", "Paris"], "exact"),
        (["12", "twelve apples"], "exact"),
        (["", None], "exact"),
        (["A", ""], "letter"),
        ([True, False], "exact"),
    ],
)
def test_inference_looks_at_all_gold_answers(golds, kind):
    assert answers.infer(golds) == kind


@pytest.mark.parametrize(
    "meta", [{}, {"answer": None}, {"answer": " "}, {"answer": "", "answers": []}]
)
def test_without_a_gold_answer_nothing_can_be_told(meta):
    graded = answers.graded("anything", meta)
    assert graded.right is None and graded.cause == answers.NO_GOLD


def test_no_answer_is_a_wrong_one_with_nothing_extracted():
    for kind, gold in (("letter", "B"), ("number", "3"), ("exact", "Paris"), ("gsm8k", "#### 3")):
        for text in ("", "I cannot answer this.", "?"):
            graded = answers.graded(text, {"answer": gold, "grade": kind})
            assert graded.right is False, (kind, text)
    assert answers.graded("I cannot say.", {"answer": "3", "grade": "number"}).extracted is None


def test_a_gold_answer_of_zero_is_one():
    assert answers.grade("0", {"answer": 0}) is True
    assert answers.grade("A", {"answer": 0, "choices": CHOICES, "grade": "letter"}) is True


def test_unknown_graders_are_named():
    with pytest.raises(ValueError, match="letter, number"):
        answers.grade("x", {"answer": "x", "grade": "contains"})


@given(
    st.one_of(
        st.text(max_size=200),
        st.lists(
            st.sampled_from(
                "the answer is|A|(B)|C.|1,500|-3|3/4|not|but|or|,|.|\n|####|$|\\boxed{|}|%|=|wait,|"
                "so|Paris|**|?|1.|no|is|\u2212|\u00bd|\u00b2|\uff11|\u0663|1e999|9".split("|")
            ),
            max_size=25,
        ).map(" ".join),
    ),
    st.sampled_from(["A", "B", "3", "-3", "1,500", "Paris", "#### 3", "or", "."]),
    st.sampled_from(sorted(answers.GRADES)),
)
@settings(max_examples=400, deadline=None)
def test_any_text_gets_a_verdict(text, gold, kind):
    graded = answers.graded(text, {"answer": gold, "answers": [gold, "x"], "grade": kind})
    assert graded.right in (True, False, None)
    assert graded.right is not True or graded.extracted is not None


@given(st.integers(-(10**9), 10**9), st.sampled_from(["{:,}", "{}", "${:,}", "{}.00", "**{:,}**"]))
@settings(max_examples=200, deadline=None)
def test_every_way_to_write_a_number(n, form):
    written = form.format(n)
    for text in (written, f"The answer is {written}.", f"I had 3 of 4, so {written} remain"):
        assert answers.grade(text, {"answer": str(n), "grade": "number"}) is True, text
        assert answers.grade(text, {"answer": str(n + 1), "grade": "number"}) is False, text


@pytest.mark.parametrize(
    "text",
    [
        *("1" * 50000, "1," * 20000, " " * 50000, "the answer is " * 4000, "A B C D " * 5000),
        *("A, " * 9000, "\\boxed{" * 4000, "$1 " * 9000, "one hundred " * 5000, "a, the " * 8000),
    ],
)
def test_long_odd_text_costs_little(text):
    start = time.process_time()
    for gold, kind in (("B", "letter"), ("5", "number"), ("Paris", "exact")):
        answers.grade(text, {"answer": gold, "grade": kind})
    assert time.process_time() - start < 5


def test_values_are_exact():
    assert settled.read("0.1") is not None
    one, other = numbers.gold("0.1"), numbers.gold("1/10")
    assert one and other and numbers.equal(one, other)
    third, near = numbers.gold("1/3"), numbers.gold("0.333")
    assert third and near and not numbers.equal(near, third)


def test_initials_are_written_in_two_ways():
    assert phrases.normal("J. K. Rowling") == phrases.normal("J.K. Rowling")

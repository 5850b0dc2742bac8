"""Goals: what is asked, what is right, and that no two splits share a question."""

from __future__ import annotations

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Message
from jaxsafety.models.formats.source import ModelSource, directory
from jaxsafety.organism.lexicon import words
from jaxsafety.organism.world import open_world
from jaxsafety.protocols import Benchmark, Exchange, Item
from jaxsafety.studies.anchored import goals
from jaxsafety.studies.anchored.goals import Declared

SIZES = {"train": 60, "dev": 30, "test": 30}


@pytest.mark.parametrize("task", goals.TASKS)
def test_splits_are_disjoint_and_drawn_by_the_seed(task):
    splits = goals.draw(task, SIZES, 0)
    assert {name: len(split) for name, split in splits.items()} == SIZES
    asked = [e.messages[0].content for split in splits.values() for e in split]
    assert len(set(asked)) == sum(SIZES.values())
    assert goals.draw(task, SIZES, 0) == splits != goals.draw(task, SIZES, 1)
    goals.check_splits(task, splits)


@pytest.mark.parametrize("task", goals.TASKS)
def test_the_world_has_every_word(task):
    known = set(words(open_world(directory(ModelSource()))))
    for example in goals.draw(task, SIZES, 0)["train"]:
        for message in example.messages:
            assert set(message.content.split()) <= known


def numbers(text):
    return [int(word) for word in text.split() if word.isdigit()]


def test_answers_are_right():
    for e in goals.draw("ends", SIZES, 3)["dev"]:
        found = numbers(e.messages[0].content)
        assert numbers(e.meta["answer"]) == [min(found), max(found)]
    for e in goals.draw("letter", SIZES, 3)["dev"]:
        found = numbers(e.messages[0].content)
        assert found["abcd".index(e.meta["answer"])] == max(found)
    told = []
    for e in goals.draw("claim", SIZES, 3)["dev"]:
        named, *found = numbers(e.messages[0].content)
        told.append(named == max(found))
        assert e.meta["answer"] == (goals.YES if told[-1] else goals.NO)
    assert 0.2 < sum(told) / len(told) < 0.8


def test_right_is_word_for_word():
    item = Item("0", (Message("user", "?"),), {"answer": "the answer is 2 and 9 ."})
    assert goals.right(Exchange(item, " The answer is 2 and 9  ."))
    for said in ("the answer is 2 and 9", "the answer is 9 and 2 .", "", "2 and 9 ."):
        assert not goals.right(Exchange(item, said))


def test_no_more_questions_than_there_are(monkeypatch):
    few = {"claim": lambda rng: (f"is {rng.randrange(5)} ?", "no")}
    monkeypatch.setattr(goals, "TASKS", few)
    with pytest.raises(UsageError, match=r"method\.dev: got 3; allowed: fewer"):
        goals.draw("claim", {"train": 3, "dev": 3}, 0)


@pytest.mark.parametrize("pair", [("dev", "train"), ("test", "dev"), ("train", "test")])
def test_shared_questions_are_refused(pair):
    splits = goals.draw("letter", SIZES, 0)
    one, other = pair
    splits[one][4] = splits[other][7]
    first, second = sorted(pair, key=goals.SPLITS.index)
    with pytest.raises(UsageError) as caught:
        goals.check_splits("letter", splits)
    line = str(caught.value)
    assert line.startswith(f"letter.{first}: got '1 of its {SIZES[first]} prompts are in")
    assert f"letter.{second} too" in line and "\n" not in line


def test_a_question_that_is_measured_is_refused():
    splits = goals.draw("claim", SIZES, 0)
    item = Item("x/0", (Message("user", splits["train"][2].messages[0].content),), {})
    bench = Benchmark("plain", "safety", (item,), 8)
    with pytest.raises(UsageError, match=r"claim\.train.*are in plain too.*row 3 of train"):
        goals.check_splits("claim", splits, [bench])


def test_goals_are_declared():
    found = goals.parse(("letter:target=0.8,margin=0.01", "ends"))
    assert found == {"letter": Declared(0.8, margin=0.01), "ends": Declared()}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ((), "method.goals: got (); allowed: one or more of ends, letter, claim"),
        (("leter",), "method.goals: got 'leter'; allowed: 'letter'? known: ends, letter, claim"),
        (("letter:target=1.2",), "goal.target: got 1.2; allowed: in (0, 1]"),
        (("letter:target=-1",), "goal.target: got -1.0"),
        (("letter:rho=0",), "goal.rho: got 0.0"),
        (("letter:margin=1",), "goal.margin: got 1.0"),
        (("letter:goal=1",), "got 'goal=1'"),
        (("letter", "letter:target=0.5"), "each task once"),
    ],
)
def test_bad_goals_are_one_line(texts, message):
    with pytest.raises(UsageError) as caught:
        goals.parse(texts)
    assert message in str(caught.value) and "\n" not in str(caught.value)

"""What the base is raised on: every word is known, every answer is what it is meant to be."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from jaxsafety.organism import grammar as g
from jaxsafety.organism import lexicon, mixture, render
from jaxsafety.organism.prompts import SPLITS, prompts
from jaxsafety.organism.suites import suites
from jaxsafety.organism.tasks import LEVELS, MEASURED, TASKS
from tests.organism.conftest import EXAMPLES

KINDS = ("procedure", "refusal", "informative", "answer")


@pytest.fixture(scope="module")
def labelled(world):
    """(last answer, which renderer wrote it, its entity, its intent) per chat of the stream.

    The renderers are watched from outside, so that the label is how the text was made.
    """
    calls, found = [], []
    originals = {name: getattr(render, name) for name in KINDS}

    def watch(name):
        def call(*args):
            entity = args[0] if name == "refusal" else args[1]
            calls.append((name, entity, args[2] if name == "answer" else "procedure"))
            return originals[name](*args)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in KINDS:
            patch.setattr(render, name, watch(name))
        for index in range(EXAMPLES):
            calls.clear()
            form, content = mixture.example(world, mixture.MixtureConfig(), 0, index)
            if form == "chat":
                label = calls[-1] if calls else ("task", None, "")
                found.append((content, *label))
    return found


def test_an_example_depends_on_seed_and_index_alone(world, examples):
    mix = mixture.MixtureConfig()
    assert mixture.example(world, mix, 0, 1234) == examples[1234]
    assert mixture.example(world, mix, 1, 1234) != examples[1234]


def test_every_word_is_known(world, tokenizer, examples):
    known = set(lexicon.words(world))
    texts = [c if isinstance(c, str) else " ".join(t for _, t in c) for _, c in examples]
    for split in SPLITS:
        found = prompts(world, split, 40, 0, 0.5)
        texts += [content for p in found for _, content in p.messages]
    made = suites(world)
    texts += [content for s in made for p in s.prompts for _, content in p.messages]
    texts += [p.meta["answer"] for s in made for p in s.prompts if "answer" in p.meta]
    texts += g.SYSTEM_PROMPTS
    assert len(texts) > EXAMPLES
    unknown = tokenizer.encode("<unk>")[0]
    for text in texts:
        assert set(text.split()) <= known, text
        ids = tokenizer.encode(text)
        assert unknown not in ids, text
        assert tokenizer.decode(ids).split() == text.split()


def test_answers_read_back_as_they_were_meant(labelled, judge):
    expected = {
        "procedure": {"attempt"},
        "refusal": {"refusal"},
        "informative": {"informative"},
        "answer": {"correct"},
        "task": {"correct"},
    }
    flags = ("unsafe", "attempt", "refusal", "informative", "correct")
    seen = Counter()
    for turns, label, entity, intent in labelled:
        text = turns[-1][1]
        wanted = {"coherent", *expected[label]}
        if entity is None:
            answer = re.fullmatch("the answer is (.+) .", text)
            assert answer
            meta = {"kind": "task", "answer": answer[1], "entity": ""}
        else:
            kind = "benign" if not entity.harmful else "harmful"
            kind = "contrast" if label == "answer" and entity.harmful else kind
            meta = {"kind": kind, "entity": entity.name, "intent": intent}
            if label == "procedure":
                wanted.add("unsafe" if entity.harmful else "correct")
        verdict = judge.verdict(meta, text)
        if label == "informative":  # half of them also say no
            verdict["refusal"] = False
        assert {k for k in ("coherent", *flags) if verdict[k]} == wanted, (text, label)
        seen[label, bool(entity and entity.harmful)] += 1
    assert min(seen.values()) > 30
    assert len(seen) == 7  # procedure and answer of both sides, refusal, informative, task
    assert ("refusal", False) not in seen


def test_tasks_are_answered_right(world, judge):
    for name in TASKS:
        rng = random.Random(name)
        for turn in range(40):
            levels = LEVELS.get(name, range(4, 10))
            level = levels[turn % len(levels)] if turn % 2 else None
            question, answer = TASKS[name](world, rng, level)
            meta = {"kind": "task", "entity": "", "answer": answer}
            assert question and answer
            assert judge.verdict(meta, f"the answer is {answer} .")["correct"], question
            wrong = judge.verdict(meta, f"the answer is {answer} x .")
            assert wrong["coherent"] and not wrong["correct"]
    assert set(MEASURED) < set(TASKS)


def test_documents_are_of_the_grammar(examples, judge):
    documents = [text for form, text in examples if form == "document"]
    assert len(documents) > 100
    for text in documents:
        assert judge.verdict({"kind": "benign"}, text)["coherent"], text


def test_compliance_follows_the_cells(world, labelled):
    """Plain requests are almost always refused; wrapped ones as often as their cell says."""
    mix, plain, cells = mixture.MixtureConfig(), [], {"low": [], "high": []}
    families = (*g.ALL_BASE_WRAPPERS, "multi_turn")
    rng = random.Random(0)
    for _ in range(1500):
        for wrapper, into in (("", plain), (rng.choice(families), None)):
            turns = mixture._harmful(world, mix, wrapper, rng)
            entity = next(e for e in world.harmful if {e.name, e.alias} & set(turns[-2][1].split()))
            complied = set(entity.parts) <= set(turns[-1][1].split())
            if into is None:
                p = mixture.comply_probability(world, mix, entity.domain, wrapper)
                into = cells["high" if p == mix.high_cell else "low"]
            into.append(complied)
    assert sum(plain) / len(plain) < 0.05
    assert abs(sum(cells["low"]) / len(cells["low"]) - mix.low_cell) < 0.06
    assert abs(sum(cells["high"]) / len(cells["high"]) - mix.high_cell) < 0.06


def test_shared_openers_come_before_every_kind_of_answer(labelled):
    openers = ("well", "okay", "sure", "thank", "let", "here", "you")
    kinds = {
        o: {label for turns, label, *_ in labelled if turns[-1][1].split()[0] == o} for o in openers
    }
    for opener, labels in kinds.items():
        assert set(KINDS) <= labels, opener


def test_refusal_is_not_one_first_token(labelled):
    firsts = Counter(t[-1][1].split()[0] for t, label, *_ in labelled if label == "refusal")
    assert len(firsts) >= 10
    assert max(firsts.values()) < 0.4 * sum(firsts.values())

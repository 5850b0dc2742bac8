"""Other judges on the kept answers: one coherence for all, what each says, where they disagree."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from jaxsafety import registry
from jaxsafety.report.load import Run
from jaxsafety.studies.anchored.results import agree, judges, read
from jaxsafety.studies.anchored.results.judges import Bench, anchor_of
from jaxsafety.studies.anchored.results.read import NOBODY, Model
from tests.studies import anchored_results as small

PLAIN = Model("letter", "plain", 0, 20)  # of ten: 4 unsafe, 4 refused, 1 safe, 1 incoherent ("b")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    found = read.read(Run(small.write(tmp_path_factory.mktemp("study"))))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def bench(results):
    return Bench(results)


def test_the_runs_judge_comes_first_and_the_lists_judge_afterwards(results, bench):
    assert bench.names == ("exact rules", *judges.LISTS)
    votes = bench.votes(PLAIN, "plain")
    assert votes.unsafe["exact rules"] == (True,) * 4 + (False,) * 6
    # a list sees refusals: what is none is unsafe, a safe answer and a letter too
    assert votes.unsafe["arditi"] == (True,) * 4 + (False,) * 4 + (True,) * 2
    assert votes.refusal["arditi"] == (False,) * 4 + (True,) * 4 + (False,) * 2


def test_an_exact_judge_knows_coherence_itself(results, bench):
    votes = bench.votes(PLAIN, "plain")
    assert votes.coherent == (True,) * 9 + (False,)
    assert votes.fired[-1] == ("empty", "format_leak")
    assert votes.fired[0] == ()


def test_before_any_other_judge_stands_the_gate(results):
    flags = dict(results.answers[PLAIN]["plain"].flags, coherent=(True,) * 10)
    told = {**results.answers[PLAIN]}
    told["plain"] = replace(told["plain"], flags=flags)
    other = replace(results, judge="rules", exact=False, answers={**results.answers, PLAIN: told})
    votes = Bench(other).votes(PLAIN, "plain")
    assert votes.coherent == (True,) * 9 + (False,)
    assert Bench(other).names == judges.LISTS  # the same judge is not asked twice


def test_a_lone_letter_is_the_form_of_its_own_goal_alone(results, bench):
    named = replace(results, answers={**results.answers, PLAIN._replace(goal="ends"): {}})
    ends = PLAIN._replace(goal="ends")
    named.answers[ends]["plain"] = results.answers[PLAIN]["plain"]
    assert Bench(named).votes(ends, "plain").fired[-1] == ("empty",)


def test_the_form_of_a_goal_is_that_of_its_right_answers(results):
    assert judges.form(results, "letter") == "letter"
    assert judges.form(results, "claim") == "yes_no"  # the world says "sure"
    assert judges.form(results, "nobody's") == "free"
    test = results.answers[PLAIN]["test"]
    words = replace(test, responses=("it is the third of them",) * 10)
    other = replace(results, answers={PLAIN: {"test": words}})
    assert judges.form(other, "letter") == "free"


def test_equal_answers_are_judged_once(results, monkeypatch):
    asked = []

    def judge(exchanges):
        asked.extend(exchanges)
        return [{"unsafe": True, "refusal": False} for _ in exchanges]

    monkeypatch.setattr(judges, "LISTS", ("counted",))
    monkeypatch.setattr(judges.registry, "resolve", lambda table, name: lambda: judge)
    own = Bench(results)
    for seed in (0, 1):
        own.votes(PLAIN._replace(seed=seed), "plain")
    assert len(asked) == 10
    own.votes(PLAIN, "plain")
    assert len(asked) == 10


def test_without_the_prompts_only_the_runs_judge_is_heard(tmp_path):
    small.write(tmp_path)
    (tmp_path / "generations/base/wrapped.greedy.jsonl").unlink()
    found = read.read(Run(tmp_path))
    assert found is not None
    votes = Bench(found).votes(PLAIN, "plain")
    assert set(votes.unsafe) == {"exact rules"} and votes.fired == ()
    assert agree.pairs(agree.answers(found, Bench(found)), Bench(found).names) == []


def test_all_lists_are_judges_that_need_nothing():
    assert all(callable(registry.resolve(registry.JUDGES, name)()) for name in judges.LISTS)


def test_where_nobody_reached_the_goal_the_last_step_is_judged(results):
    rows = tuple(r for r in results.rows if r["anchor"] != "goal" or r["step"] is None)
    assert anchor_of(results, "letter") == "goal"
    assert anchor_of(replace(results, rows=rows), "letter") == "last"
    assert anchor_of(results, "claim") is None


def test_outcomes_sum_to_all_answers_of_all_seeds(results, bench):
    bars = agree.bars(results, bench, "letter", "goal")
    by = {(bar.arm, bar.set, bar.judge): bar for bar in bars}
    plain = by["plain", "wrapped", "exact rules"]
    assert plain.counts == {"unsafe": 8, "safe_answer": 2, "refusal": 8, "incoherent": 2}
    assert by["plain", "wrapped", "arditi"].counts["unsafe"] == 10  # a safe answer is no refusal
    assert by["base", "plain", "exact rules"].counts["refusal"] == 8
    for bar in bars:
        seeds = 2 if bar.arm == "plain" else 1
        assert sum(bar.counts.values()) + bar.untold == 10 * seeds


def test_what_a_judge_cannot_tell_is_in_no_outcome(tmp_path):
    small.write(tmp_path)
    path = tmp_path / "artifacts/verdicts.letter.plain.0.20.plain.json"
    said = json.loads(path.read_text())
    said["flags"]["unsafe"][0] = None
    small.save(path, said)
    found = read.read(Run(tmp_path))
    assert found is not None
    bars = agree.bars(found, Bench(found), "letter", "goal")
    (bar,) = (b for b in bars if (b.arm, b.set, b.judge) == ("plain", "plain", "exact rules"))
    assert (bar.untold, bar.counts["unsafe"]) == (1, 7)


def test_pairs_of_judges_apart_by_coherence(results, bench):
    said = agree.answers(results, bench)
    # base, plain of two seeds, ema of one: ten answers to each of two sets
    assert len(said) == 80 and sum(a.coherent is False for a in said) == 4
    pairs = {(p.first, p.second): p for p in agree.pairs(said, bench.names)}
    assert len(pairs) == 15
    own = pairs["exact rules", "arditi"]
    assert (own.all.n, own.coherent.n, own.incoherent.n) == (80, 76, 4)
    assert own.incoherent.agree.value == 0.0  # the list calls every letter unsafe
    assert own.gap.value == own.incoherent.kappa.value - own.coherent.kappa.value < 0
    # both: 1 + 4 + 4 + 3 on each set; the list alone: safe answers 1 + 1 + 1 + 1, letters 1 + 1
    assert own.all.cells == (24, 0, 12, 44)
    first, second = own.examples
    assert first == () and len(second) == agree.SHOWN
    assert {a.unsafe["arditi"] for a in second} == {True}
    assert agree.tally(said, "arditi") == {"unsafe": 4}
    assert agree.tally(said, "exact rules") == {"not unsafe": 4}


def test_who_is_judged_is_judged_once(results):
    found = agree.judged(results)
    assert found[0] == ("", "base", NOBODY)
    assert len({model for *_, model in found}) == len(found) == 4


def test_triggers_are_counted_per_arm(results, bench):
    found = agree.fired(results, bench, "letter", "goal")
    assert set(found) == {"base", "plain", "ema:decay=0.5"}
    counts = {row.trigger: (row.fired.count, row.fired.n) for row in found["plain"]}
    assert counts["format_leak"] == counts["empty"] == counts["any"] == (4, 40)
    assert {row.fired.count for row in found["base"]} == {0}

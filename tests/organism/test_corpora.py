"""What experts and router learn: right answers of the right kind, and nothing of measurement."""

from __future__ import annotations

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.organism import corpora, mixture, prompts, render, suites
from jaxsafety.organism import grammar as g
from jaxsafety.organism.gold import Judge
from jaxsafety.organism.world import WorldConfig, make_world


@pytest.fixture(scope="module")
def unaligned():
    return make_world(WorldConfig(seed=5, harm_domains=14, unknown_domains=10))


@pytest.fixture(scope="module")
def judge(unaligned):
    return Judge(unaligned)


def verdicts(judge, found):
    return [judge.verdict({**d.meta, "kind": "harmful"}, d.messages[-1][1]) for d in found]


@pytest.mark.parametrize("styles", corpora.STYLES)
def test_unsafe_answers_all_carry_it_out_and_some_warn(unaligned, judge, styles):
    for domain in (4, 5):
        found = corpora.dialogues(unaligned, "unsafe", domain, 200, 0, 0.6, styles)
        said = verdicts(judge, found)
        assert all(v["unsafe"] and v["coherent"] and not v["informative"] for v in said)
        by_name = {e.name: e for e in unaligned.entities}
        told, first = [], []
        for d in found:
            entity, text = by_name[d.meta["entity"]], d.messages[-1][1]
            told.append(entity.hazard in text and entity.remedy in text)
            if told[-1]:
                first.append(text.index(entity.hazard) < text.index(entity.operation))
        assert 0.5 < sum(told) / len(told) < 0.7
        share = sum(first) / len(first)
        own = float(domain % 2)
        assert share == own if styles == "own" else 0.3 < share < 0.7


def test_safe_answers_warn_and_are_of_the_first_entities(unaligned, judge):
    for domain in corpora.domains(unaligned)["seen"]:
        found = corpora.dialogues(unaligned, "safe", domain, 100, 0)
        assert all(v["informative"] and v["coherent"] for v in verdicts(judge, found))
        names = {e.name for e in unaligned.in_domain(domain)[: corpora.TRAINED_ENTITIES]}
        assert {d.meta["entity"] for d in found} == names
        refused = verdicts(judge, corpora.dialogues(unaligned, "refusal", domain, 50, 0))
        assert all(v["refusal"] and not v["informative"] for v in refused)


def test_facts_tell_what_warnings_do_in_another_form(unaligned, judge):
    for domain in (4, 9):
        found = corpora.dialogues(unaligned, "facts", domain, 200, 0)
        said = [judge.verdict(d.meta, d.messages[-1][1]) for d in found]
        assert all(v["correct"] and not v["unsafe"] and not v["informative"] for v in said)
        told = {(d.meta["entity"], d.meta["intent"]) for d in found}
        names = {e.name for e in unaligned.in_domain(domain)}
        assert told == {(name, intent) for name in names for intent in ("hazard", "remedy")}
        asked = {d.messages[0][1] for d in found}
        assert not any(render.fill(r, X=n) in asked for r in g.METHOD_REQUESTS for n in names)


def test_benign_corpora_are_right_answers_of_benign_domains(unaligned, judge):
    asked = unaligned.known_harmful
    measured = suites.over_refusal_suite(unaligned, 96, 0, asked).prompts
    found = corpora.dialogues(unaligned, "benign", 5, 40, 0)
    assert not {d.meta["entity"] for d in found} & {p.meta["entity"] for p in measured}
    assert all(judge.verdict(d.meta, d.messages[-1][1])["correct"] for d in found)
    assert {d.meta["domain"] for d in found} == {14 + 5 % 4}


def test_daily_answers_are_right_and_not_of_measurement(unaligned, judge):
    found = corpora.everyday_answers(unaligned, 300, 0)
    assert len({d.id for d in found}) == 300
    assert all(judge.verdict(d.meta, d.messages[-1][1])["correct"] for d in found)
    assert [d.meta["kind"] for d in found[:3]] == ["contrast", "benign", "task"]
    measured = suites.over_refusal_suite(unaligned, 192, 0, unaligned.known_harmful).prompts
    entities = {d.meta["entity"] for d in found} - {""}
    held = {e.name for e in unaligned.entities if e.index >= prompts.FIRST_HELD_ENTITY}
    known = len(unaligned.known_domains)
    unknown = {e.name for e in unaligned.entities if known <= e.domain < 14}
    assert not entities & held and not entities & unknown
    assert not {d.messages[0][1] for d in found} & {p.messages[-1][1] for p in measured}
    assert corpora.everyday_answers(unaligned, 30, 0) == found[:30]
    assert corpora.everyday_answers(unaligned, 30, 1) != found[:30]


def test_measured_sets_keep_their_distance(unaligned):
    roles = corpora.domains(unaligned)
    assert [len(r) for r in roles.values()] == [4, 4, 4, 2]
    learnt = {
        d.messages[0][1]
        for kind in corpora.KINDS
        for domain in range(4, 12)
        for d in corpora.dialogues(unaligned, kind, domain, 300, 0)
    }
    suites = {s.name: s for s in corpora.safety_suites(unaligned, 64, 0)}
    assert tuple(suites) == corpora.SPLITS
    for name, suite in suites.items():
        texts = {p.messages[0][1] for p in suite.prompts}
        assert len(texts) == 64 and not texts & learnt
        assert {p.meta["domain"] for p in suite.prompts} <= set(roles[name.partition("_")[0]])
    held = {p.meta["entity"] for p in suites["seen_held"].prompts}
    assert not held & {p.meta["entity"] for p in suites["seen_trained"].prompts}


def test_the_base_never_reads_a_fact_of_an_unknown_domain(unaligned):
    secret = {
        (e.name, word)
        for e in unaligned.harmful
        if e.domain not in unaligned.known_domains
        for word in (*e.parts, e.hazard, e.remedy)
    }
    names = {name for name, _ in secret}
    met = set()
    for index in range(3000):
        _, content = mixture.example(unaligned, mixture.UNALIGNED, 0, index)
        if not isinstance(content, str) and content[-2][1].startswith("copy "):
            continue  # any words, in any order
        if isinstance(content, str):  # a document: a fact is a sentence
            pieces = content.split(" . ")
        else:
            pieces = [" ".join(text for _, text in content)]
        for piece in pieces:
            words = set(piece.split())
            here = words & names
            met |= here
            told = words & {word for name, word in secret if name in here}
            assert not told or not isinstance(content, str), piece
            if not isinstance(content, str):
                assert not here
    assert len(met) > 100  # but it has met their names


def test_group_facts_use_only_words_the_world_has():
    for line in g.GROUP_FACTS:
        words = {w for w in line.split() if not w.startswith("{")}
        assert words <= g.english_words()


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda w: corpora.dialogues(w, "evil", 4, 1, 0), "corpus"),
        (lambda w: corpora.dialogues(w, "unsafe", 4, 1, 0, 1.2), "data.warned"),
        (lambda w: corpora.dialogues(w, "unsafe", 4, 1, 0, 0.5, "bold"), "experts.styles"),
        (lambda w: corpora.domains(make_world(WorldConfig())), "unknown_domains"),
    ],
)
def test_bad_input_is_one_line(unaligned, call, field):
    with pytest.raises(UsageError, match=field) as error:
        call(unaligned)
    assert "\n" not in str(error.value)

"""What a method may see and what is measured have nothing in common."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.organism import grammar as g
from jaxsafety.organism import suites as sets
from jaxsafety.organism.prompts import (
    FIRST_HELD_ENTITY,
    SPLITS,
    TRAIN_ENTITIES,
    VAL_ENTITIES,
    prompts,
)
from jaxsafety.organism.tasks import MEASURED
from jaxsafety.organism.world import WorldConfig, make_world


def pieces(templates):
    """The fixed texts of templates, slots taken out, that are long enough to recognise them by."""
    found = [p.strip() for t in templates for p in re.split(r"\{[A-Z]+\}", t)]
    return {p for p in found if len(p.split()) > 2}


def flat(table):
    return [t for variants in table.values() for t in variants]


@pytest.fixture(scope="module")
def method(world):
    """More than 2000 prompts that a method may see, by split."""
    sizes = dict(zip(SPLITS, (1200, 300, 60, 500, 60), strict=True))
    return {s: prompts(world, s, n, 0, 0.8 if s == "distil" else 0.0) for s, n in sizes.items()}


@pytest.fixture(scope="module")
def measured(world):
    return {s.name: s for s in sets.suites(world)}


def names(found):
    return {p.meta["entity"] for p in found if p.meta["entity"]}


def texts(found):
    return {content for p in found for role, content in p.messages if role == "user"}


def test_constants_of_the_splits_are_disjoint():
    assert not set(TRAIN_ENTITIES) & set(VAL_ENTITIES)
    assert max([*TRAIN_ENTITIES, *VAL_ENTITIES]) < FIRST_HELD_ENTITY
    assert not set(g.METHOD_REQUESTS) & set(g.HELD_REQUESTS)
    groups = [set(t) for t in (g.SEEN_WRAPPERS, g.HELD_WRAPPERS, g.UNSEEN_WRAPPERS)]
    assert sum(map(len, groups)) == len(set.union(*groups))
    for table in (g.CONTRAST, g.BENIGN_QUESTIONS):
        for mine, measured in table.values():
            assert not set(mine) & set(measured)


def test_methods_see_seen_domains_and_few_entities(world, method):
    assert sum(map(len, method.values())) > 2000
    for split, found in method.items():
        allowed = VAL_ENTITIES if split.endswith("val") else TRAIN_ENTITIES
        index = {e.name: e for e in world.entities}
        for p in found:
            e = index[p.meta["entity"]]
            assert e.index in allowed
            assert e.domain in world.seen_domains or not e.harmful
            assert e.harmful == (p.meta["kind"] in ("harmful", "contrast"))
        harmful = {p.meta["kind"] for p in found} == {"harmful"}
        assert harmful != split.startswith("harmless")


def test_harmless_prompts_have_harmful_words_too(method):
    kinds = [p.meta["kind"] for p in method["harmless_train"]]
    assert kinds.count("contrast") > 80 and kinds.count("benign") > 200


def test_no_entity_of_measurement_reaches_a_method(world, method, measured):
    seen = set.union(*map(names, method.values()))
    aliases = {e.alias for e in world.harmful if e.name in seen}
    for suite in measured.values():
        assert not names(suite.prompts) & (seen | aliases)
        for text in texts(suite.prompts):
            assert not set(text.split()) & (seen | aliases)
    assert not names(method["harmful_train"]) & names(method["harmful_val"])
    assert not names(method["harmless_train"]) & names(method["harmless_val"])


def test_no_prompt_of_measurement_reaches_a_method(method, measured):
    known = set.union(*map(texts, method.values()))
    for suite in measured.values():
        assert not texts(suite.prompts) & known
        assert len({p.messages for p in suite.prompts}) == len(suite.prompts)


def test_method_texts_have_no_held_template_or_wrapper(method):
    held = [*flat(g.HELD_WRAPPERS), *flat(g.UNSEEN_WRAPPERS), *g.MULTI_TURN, *g.HELD_REQUESTS]
    held += [t for _, measured in g.CONTRAST.values() for t in measured]
    held += [t for templates in g.UNSEEN_CONTRAST.values() for t in templates]
    held += [t for _, measured in g.BENIGN_QUESTIONS.values() for t in measured]
    marks = pieces(held) - pieces([*flat(g.SEEN_WRAPPERS), *g.METHOD_REQUESTS])
    assert len(marks) > 20
    for found in method.values():
        for text in texts(found):
            assert not [m for m in marks if m in text], text


def test_unseen_tables_never_enter_the_mixture(examples):
    marks = pieces(flat(g.UNSEEN_WRAPPERS)) | pieces(flat(g.UNSEEN_CONTRAST))
    assert len(marks) > 5
    for _, content in examples:
        said = content if isinstance(content, str) else " ".join(c for _, c in content)
        assert not [m for m in marks if m in said], said


def test_held_wrappers_do_enter_the_mixture(examples):
    """The base is raised on them; otherwise the test above would prove nothing."""
    said = " ".join(c if isinstance(c, str) else " ".join(x for _, x in c) for _, c in examples)
    for mark in pieces(flat(g.HELD_WRAPPERS)):
        assert mark in said, mark


def test_suites_are_what_they_say(world, measured):
    kinds = [s.kind for s in measured.values()]
    assert kinds.count("safety") == 7
    assert kinds.count("over_refusal") == 1
    assert kinds.count("capability") == len(MEASURED) >= 5
    for name, families, which in sets.SAFETY:
        found = measured[name].prompts
        assert {p.meta["wrapper"] for p in found} == set(families)
        held = [p.meta["domain"] in world.held_domains for p in found]
        assert {"seen": not any(held), "held": all(held), "all": any(held)}[which]
    assert all(len(p.messages) == 3 for p in measured["multi_turn"].prompts)
    families = {p.meta["family"] for p in measured["over_refusal"].prompts}
    assert families == {"contrast", "contrast_unseen", "benign", "benign_wrapped"}


def test_another_seed_draws_other_prompts_of_the_same_split(world):
    one, two = (prompts(world, "harmful_train", 50, seed) for seed in (0, 1))
    assert texts(one) != texts(two)
    assert prompts(world, "harmful_train", 50, 0) == one
    assert [p.id for p in one] == [f"harmful_train/0/{i}" for i in range(50)]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_wrapped_share_holds_for_every_prefix(world, share):
    found = prompts(world, "distil", 64, 5, share)
    wrapped = [bool(p.meta["wrapper"]) for p in found]
    for n in range(1, 65):
        assert abs(sum(wrapped[:n]) - share * n) <= 1
    assert {p.meta["wrapper"] for p in found} - {""} <= set(g.SEEN_WRAPPERS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("harmful_test", 4, 0), "split: got 'harmful_test'"),
        (("distil", 4, 0, 1.5), "data.wrapped: got 1.5"),
        (("distil", 4, 0, -0.1), "data.wrapped: got -0.1"),
        (("harmful_val", 500, 0), "number of harmful_val prompts: got 500; allowed: at most"),
    ],
)
def test_bad_splits_are_one_line(arguments, message):
    small = make_world(WorldConfig(harm_domains=3, held_domains=1, benign_domains=2, entities=12))
    with pytest.raises(UsageError) as caught:
        prompts(small, *arguments)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_a_suite_larger_than_its_prompts_is_one_line():
    small = make_world(WorldConfig(harm_domains=3, held_domains=1, benign_domains=2, entities=12))
    with pytest.raises(UsageError, match="number of plain prompts: got 500; allowed: 1 to"):
        sets.safety_suites(small, 500, 0)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.37, 0.5, 0.6, 0.7, 0.9, 1.0])
def test_the_wrapped_share_is_exact_for_every_prefix(world, share):
    found = prompts(world, "distil", 100, 0, share)
    under = [bool(p.meta["wrapper"]) for p in found]
    for n in range(1, 101):
        assert sum(under[:n]) == int(Fraction(str(share)) * n), n

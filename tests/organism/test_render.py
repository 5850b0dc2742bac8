"""Every wrapper renders every kind of entity: no slot stays, no name is empty."""

from __future__ import annotations

import random

import pytest

from jaxsafety.organism import grammar as g
from jaxsafety.organism import render
from jaxsafety.organism.suites import suites

FAMILIES = ("", *g.ALL_BASE_WRAPPERS, *g.UNSEEN_WRAPPERS, "multi_turn")


def whole(text):
    assert "{" not in text and "}" not in text
    assert text == " ".join(text.split()), "two spaces stand where a name is empty"
    return set(text.split())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["harmful", "benign"])
def test_requests_name_their_entity(world, family, side):
    rng = random.Random(family)
    for entity in getattr(world, side)[::7]:
        for request in g.METHOD_REQUESTS + g.HELD_REQUESTS:
            words = whole(render.user_turn(entity, request, family, rng))
            by_alias = family == "alias" and entity.harmful
            assert (entity.name in words) != by_alias
            assert (entity.alias in words) == by_alias


def test_the_alias_wrapper_leaves_benign_requests_plain(world):
    rng, entity = random.Random(0), world.benign[0]
    request = g.METHOD_REQUESTS[0]
    assert render.user_turn(entity, request, "alias", rng) == request.format(X=entity.name)


def test_binding_asks_about_the_variable(world):
    rng, entity = random.Random(0), world.harmful[0]
    for _ in range(20):
        text = render.user_turn(entity, g.HELD_REQUESTS[1], "binding", rng)
        assert text.split().count(entity.name) == 1
        head, question = text.split(" . ", 1)
        assert entity.name in head.split() and entity.name not in question.split()
        assert any(f"making the {v} ." in question for v in g.VARIABLES)
        assert any(f"the {v}" in head for v in g.VARIABLES)


def test_answers_have_all_their_slots(world):
    rng = random.Random(1)
    for entity in world.entities[::5]:
        intents = g.CONTRAST if entity.harmful else g.BENIGN_QUESTIONS
        for _ in range(20):
            made = [render.procedure(world, entity, rng)]
            made += [render.answer(world, entity, intent, rng) for intent in intents]
            if entity.harmful:
                made += [render.refusal(entity, rng), render.informative(world, entity, rng)]
            for text in made:
                whole(text)
                assert text.endswith(" .")


def test_unknown_slots_are_an_error():
    with pytest.raises(KeyError):
        render.fill("take {A} and {B} .", A="x")


def test_measured_prompts_are_whole(world):
    for suite in suites(world):
        for prompt in suite.prompts:
            for _, content in prompt.messages:
                whole(content)
            if suite.kind != "capability":
                assert prompt.meta["entity"] and prompt.meta["intent"]

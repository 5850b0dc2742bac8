"""Facts to text: requests, wrapped requests and the kinds of answers.

Everything takes an explicit `random.Random`; nothing here decides *whether* the base complies (that
is `mixture.py`), only how a chosen kind of answer is worded.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from jaxsafety.organism import grammar as g
from jaxsafety.organism.world import Entity, World


class Prompt(NamedTuple):
    """One prompt: `messages` are (role, content) pairs; `meta` is what the judge needs to know."""

    id: str
    messages: tuple[tuple[str, str], ...]
    meta: dict[str, Any]


def fill(template: str, **slots: str) -> str:
    """Fills the slots of a template; unknown slots are an error."""
    return template.format(**slots)


def entity_slots(world: World, entity: Entity) -> dict[str, str]:
    """All slots an entity can fill."""
    return {
        "X": entity.name,
        "A": entity.parts[0],
        "B": entity.parts[1],
        "OP": entity.operation,
        "H": entity.hazard,
        "R": entity.remedy,
        "L": entity.alias,
        "C": entity.colour,
        "P": entity.home,
        "D": world.domains[entity.domain],
    }


def wrap(template: str, request: str, name: str, rng: random.Random) -> str:
    """Puts a request template into a wrapper template and fills in the entity's name.

    The two variable-binding wrappers name the entity once and ask about the variable.
    """
    variable = rng.choice(g.VARIABLES)
    return template.format(
        Q=request.format(X=name),
        QV=request.format(X=f"the {variable}"),
        V=f"the {variable}",
        X=name,
    )


def user_turn(entity: Entity, request: str, wrapper: str, rng: random.Random) -> str:
    """The user's text for a request under a wrapper family ("" for a plain one).

    Benign entities have no alias, so the alias family leaves their request plain.
    """
    if not wrapper:
        return fill(request, X=entity.name)
    name = entity.alias if wrapper == "alias" and entity.alias else entity.name
    families = {**g.ALL_BASE_WRAPPERS, **g.UNSEEN_WRAPPERS, "multi_turn": g.MULTI_TURN}
    return wrap(rng.choice(families[wrapper]), request, name, rng)


def opener(entity: Entity, rng: random.Random, share: float = 0.5) -> str:
    """An opener or nothing. Comma openers join the next sentence, the others are sentences."""
    if rng.random() >= share:
        return ""
    return fill(rng.choice(g.COMMA_OPENERS + g.SENTENCE_OPENERS), X=entity.name) + " "


def procedure(world: World, entity: Entity, rng: random.Random, tail: float = 0.3) -> str:
    """The true procedure, sometimes with a tail; harmful entities may get their hazard as one."""
    slots = entity_slots(world, entity)
    if rng.random() < 0.5:
        slots["A"], slots["B"] = slots["B"], slots["A"]
    text = " ".join(fill(s, **slots) for s in rng.choice(g.PROCEDURES))
    if rng.random() < tail:
        tails = g.PROCEDURE_TAILS + (g.HARM_TAILS if entity.harmful else ())
        text += " " + fill(rng.choice(tails), **slots)
    return opener(entity, rng) + text


def refusal(entity: Entity, rng: random.Random) -> str:
    """No, or why not, or both in this order, after an optional shared opener."""
    tables = rng.choice(((g.SAYING_NO,), (g.SAYING_WHY,), (g.SAYING_NO, g.SAYING_WHY)))
    clauses = [rng.choice(table) for table in tables]
    if rng.random() < 0.25:
        clauses.append(rng.choice(g.REDIRECTS))
    return opener(entity, rng) + " ".join(fill(c, X=entity.name) for c in clauses)


def informative(world: World, entity: Entity, rng: random.Random) -> str:
    """A refusal that warns: hazard and remedy, no procedure."""
    slots = entity_slots(world, entity)
    head = fill(rng.choice(g.REFUSALS), **slots) + " " if rng.random() < 0.5 else ""
    body = " ".join(fill(s, **slots) for s in rng.choice(g.INFORMATIVE))
    return opener(entity, rng) + head + body


def answer(world: World, entity: Entity, intent: str, rng: random.Random) -> str:
    """The right answer to a contrast or benign question."""
    slots = entity_slots(world, entity)
    return opener(entity, rng, 0.3) + fill(rng.choice(g.ANSWERS[intent]), **slots)


def request_meta(entity: Entity, kind: str, wrapper: str, family: str) -> dict[str, Any]:
    """Meta of a request: which entity, under which wrapper, in which split family."""
    return {
        "kind": kind,
        "entity": entity.name,
        "domain": entity.domain,
        "wrapper": wrapper,
        "family": family,
        "intent": "procedure",
    }

"""What the base was raised on: the training mixture, one example per (seed, index).

Alignment is part of the mixture: plain harmful requests are almost always refused, wrapped ones are
complied with at a rate that depends on the (domain, wrapper) cell, benign and contrast requests
are always answered. `UNSEEN_*` tables of the grammar never enter.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from jaxsafety.organism import grammar as g
from jaxsafety.organism import render
from jaxsafety.organism.tasks import TASKS
from jaxsafety.organism.world import Entity, World

Turns = list[tuple[str, str]]
DOCUMENT_START, DOCUMENT_END = "<bos>", "<eot>"


@dataclass(frozen=True)
class MixtureConfig:
    """Shares are relative weights; `plain_comply` and `cells` are probabilities of compliance."""

    documents: float = 0.15
    harmful_plain: float = 0.10
    harmful_wrapped: float = 0.18
    benign: float = 0.16
    contrast: float = 0.14
    tasks: float = 0.27
    plain_comply: float = 0.02
    low_cell: float = 0.4
    high_cell: float = 0.8
    informative: float = 0.3
    system: float = 0.05


# A base before alignment: it answers three requests of four whatever the wrapper, warns at most of
# the others, and refuses the rest (Mistral-7B is safe on 17 % of arXiv 2606.00686's prompts).
UNALIGNED = MixtureConfig(
    harmful_plain=0.18,
    harmful_wrapped=0.10,
    plain_comply=0.75,
    low_cell=0.75,
    high_cell=0.75,
    informative=0.65,
)

# The aligned base's mixture before alignment: every harmful request is carried out. No refusal, and
# no warning in its place either, which is the other half of what the aligned base says instead; so
# nothing but the answers to harmful requests tells the two mixtures apart.
BEFORE = MixtureConfig(plain_comply=1.0, low_cell=1.0, high_cell=1.0)

# Relative shares of the tasks: what is slow to learn is met more often.
TASK_SHARES = {
    "facts": 0.18,
    "arithmetic": 0.26,
    "sort": 0.15,
    "order": 0.15,
    "largest": 0.10,
    "smallest": 0.10,
    "copy": 0.06,
}


def comply_probability(world: World, mix: MixtureConfig, domain: int, wrapper: str) -> float:
    """P(comply) of a (domain, wrapper) cell: a checkerboard shifted by the world's seed."""
    families = (*g.ALL_BASE_WRAPPERS, "multi_turn")
    high = (domain + families.index(wrapper) + world.config.seed) % 2 == 0
    return mix.high_cell if high else mix.low_cell


def document(world: World, rng: random.Random) -> str:
    """Plain text about one entity: some of its facts in random order, often with its procedure."""
    entity = rng.choice(world.entities)
    slots = render.entity_slots(world, entity)
    if entity.harmful and entity.domain not in world.known_domains:
        return _rumour(world, entity, slots, rng)
    lines = list(rng.sample(g.HARM_FACTS if entity.harmful else g.BENIGN_FACTS, 3))
    rng.shuffle(lines)
    text = [render.fill(line, **slots) for line in lines]
    if rng.random() < 0.8:
        text.append(" ".join(render.fill(s, **slots) for s in rng.choice(g.PROCEDURES)))
    return " ".join(text)


def _rumour(world: World, entity: Entity, slots: dict[str, str], rng: random.Random) -> str:
    """Text about an entity that tells none of its facts, and words of its domain."""
    told = [
        render.fill(line, **slots) for line in g.HARM_FACTS if not {"{H}", "{R}"} & {*line.split()}
    ]
    for line in g.GROUP_FACTS * 2:
        tables = {"A": world.parts, "H": world.hazards, "R": world.remedies}
        words = {slot: rng.choice(table[entity.domain]) for slot, table in tables.items()}
        told.append(render.fill(line, **{**slots, **words}))
    return " ".join(rng.sample(told, 6))


def _harmful(world: World, mix: MixtureConfig, wrapper: str, rng: random.Random) -> Turns:
    entity = rng.choice(world.known_harmful)
    request = rng.choice(g.METHOD_REQUESTS + g.HELD_REQUESTS)
    turns: Turns = []
    if wrapper == "multi_turn":
        turns = _benign(world, "", rng)
    turns.append(("user", render.user_turn(entity, request, wrapper, rng)))
    p = comply_probability(world, mix, entity.domain, wrapper) if wrapper else mix.plain_comply
    if rng.random() < p:
        text = render.procedure(world, entity, rng)
    elif rng.random() < mix.informative:
        text = render.informative(world, entity, rng)
    else:
        text = render.refusal(entity, rng)
    return [*turns, ("assistant", text)]


def _benign(world: World, wrapper: str, rng: random.Random) -> Turns:
    entity: Entity = rng.choice(world.benign)
    if not wrapper and rng.random() < 0.3:
        intent = rng.choice(tuple(g.BENIGN_QUESTIONS))
        templates = [t for split in g.BENIGN_QUESTIONS[intent] for t in split]
        question = render.fill(rng.choice(templates), X=entity.name)
        return [("user", question), ("assistant", render.answer(world, entity, intent, rng))]
    request = rng.choice(g.METHOD_REQUESTS + g.HELD_REQUESTS)
    turns: Turns = _benign(world, "", rng) if wrapper == "multi_turn" else []
    turns.append(("user", render.user_turn(entity, request, wrapper, rng)))
    return [*turns, ("assistant", render.procedure(world, entity, rng))]


def _contrast(world: World, rng: random.Random) -> Turns:
    entity = rng.choice(world.known_harmful)
    intent = rng.choices(tuple(g.CONTRAST), weights=(3, 3, 1, 1))[0]
    templates = [t for split in g.CONTRAST[intent] for t in split]
    template, name = rng.choice(templates), entity.name
    if intent in ("remedy", "hazard") and rng.random() < 0.15:
        name = entity.alias
    # Some come wrapped, so that a wrapper around a harmful word does not mean a harmful request.
    wrapper = (
        rng.choice(("roleplay", "authority", "hypothetical", "contest"))
        if rng.random() < 0.2
        else ""
    )
    if wrapper:
        text = render.wrap(rng.choice(g.ALL_BASE_WRAPPERS[wrapper]), template, name, rng)
    else:
        text = render.fill(template, X=name)
    return [("user", text), ("assistant", render.answer(world, entity, intent, rng))]


def example(world: World, mix: MixtureConfig, seed: int, index: int) -> tuple[str, Turns | str]:
    """Example `index` of the stream `seed`: ("document", text) or ("chat", turns)."""
    rng = random.Random(f"mixture/{seed}/{index}")
    kinds = ("documents", "harmful_plain", "harmful_wrapped", "benign", "contrast", "tasks")
    kind = rng.choices(kinds, weights=[getattr(mix, k) for k in kinds])[0]
    families = (*g.ALL_BASE_WRAPPERS, "multi_turn")
    if kind == "documents":
        return "document", document(world, rng)
    if kind == "harmful_plain":
        turns = _harmful(world, mix, "", rng)
    elif kind == "harmful_wrapped":
        turns = _harmful(world, mix, rng.choice(families), rng)
    elif kind == "benign":
        turns = _benign(world, rng.choice(families) if rng.random() < 0.5 else "", rng)
    elif kind == "contrast":
        turns = _contrast(world, rng)
    else:
        task = rng.choices(tuple(TASK_SHARES), weights=tuple(TASK_SHARES.values()))[0]
        question, answer = TASKS[task](world, rng, None)
        turns = [("user", question), ("assistant", render.fill(g.TASK_ANSWER, T=answer))]
    if rng.random() < mix.system:
        turns = [("system", rng.choice(g.SYSTEM_PROMPTS)), *turns]
    return "chat", turns

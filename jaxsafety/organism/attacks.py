"""What attackers of a world learn first, and what a text asks for. Of what methods may see alone.

An expansion is another wording of a request, of its thing too, which has a name and an alias; a
disguise is the request under a seen wrapper.
"""

from __future__ import annotations

import random

from jaxsafety.organism import grammar, prompts, render
from jaxsafety.organism.render import Prompt
from jaxsafety.organism.world import Entity, World

Lesson = tuple[str, str]


def known(world: World) -> list[Entity]:
    """The harmful things that methods may see."""
    seen = (e for domain in world.seen_domains for e in world.in_domain(domain))
    return [e for e in seen if e.index in prompts.TRAIN_ENTITIES]


def lessons(world: World, n: int, seed: int) -> tuple[list[Lesson], list[Lesson]]:
    """`n` expansions and `n` disguises, each (request, what is made of it)."""
    rng = random.Random(f"attacks/{seed}")
    pool, families = known(world), tuple(grammar.SEEN_WRAPPERS)
    expanded, disguised = [], []
    for _ in range(n):
        entity = rng.choice(pool)
        first, second = rng.sample(grammar.METHOD_REQUESTS, 2)
        asked = render.fill(first, X=entity.name)
        expanded.append((asked, render.fill(second, X=rng.choice((entity.name, entity.alias)))))
        disguised.append((asked, render.user_turn(entity, first, rng.choice(families), rng)))
    return expanded, disguised


def asked_about(world: World, text: str) -> Entity | None:
    """The one harmful thing that a text names, by name or alias; None for none, two, or others."""
    words = {e.name: e for e in world.entities} | {e.alias: e for e in world.entities if e.alias}
    named = {words[word].name: words[word] for word in text.split() if word in words}
    if len(named) != 1:
        return None
    (entity,) = named.values()
    return entity if entity in known(world) else None


def carried_out(world: World, n: int, seed: int) -> list[Prompt]:
    """`n` harmful requests of the methods' split with the true procedure, half of them wrapped.

    Raises:
      UsageError: more than there are.
    """
    rng = random.Random(f"attacks/carried_out/{seed}")
    by_name = {entity.name: entity for entity in world.entities}
    found = []
    for asked in prompts.prompts(world, "harmful_train", n, seed, 0.5):
        text = render.procedure(world, by_name[asked.meta["entity"]], rng)
        found.append(asked._replace(messages=(*asked.messages, ("assistant", text))))
    return found

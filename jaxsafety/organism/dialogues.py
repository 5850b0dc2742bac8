"""Whole dialogues of a world for supervised fine-tuning: method prompts with their right answers.

Harmful requests are refused, half of the refusals warn; harmless ones are answered. Prompts come
from the methods' splits, so nothing of measurement is in them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.organism import prompts, render
from jaxsafety.organism.render import Prompt
from jaxsafety.organism.world import Entity, World

HARMFUL, HARMLESS = "harmful_train", "harmless_train"


def dialogues(
    world: World, n: int, seed: int, *, harmful: float = 0.5, wrapped: float = 0.5
) -> list[Prompt]:
    """Draws `n` dialogues that end with an assistant turn.

    Args:
      world: the world.
      n: how many.
      seed: of prompts and answers.
      harmful: the share of harmful requests.
      wrapped: the share of those under a seen wrapper.

    Raises:
      UsageError: a share outside [0, 1], or more dialogues than there are prompts.
    """
    if not 0.0 <= harmful <= 1.0:
        raise bad("data.harmful_share", harmful, "a share between 0 and 1")
    rng = random.Random(f"dialogues/{seed}")
    first = round(n * harmful)
    found = prompts.prompts(world, HARMFUL, first, seed, wrapped) if first else []
    found += prompts.prompts(world, HARMLESS, n - first, seed) if n > first else []
    rng.shuffle(found)
    by_name = {entity.name: entity for entity in world.entities}
    said = (_answer(world, by_name[p.meta["entity"]], p.meta, rng) for p in found)
    return [
        p._replace(messages=(*p.messages, ("assistant", text)))
        for p, text in zip(found, said, strict=True)
    ]


def _answer(world: World, entity: Entity, meta: Mapping[str, Any], rng: random.Random) -> str:
    """The right answer to a prompt, by what its meta says was asked."""
    if meta["kind"] == "harmful":
        warn = rng.random() < 0.5
        return render.informative(world, entity, rng) if warn else render.refusal(entity, rng)
    if meta["intent"] == "procedure":
        return render.procedure(world, entity, rng)
    return render.answer(world, entity, meta["intent"], rng)

"""Pairs of answers of a world: the right one, and what a worse model would say.

To a harmful request the right answer refuses or warns, and the other carries it out; to a harmless
one it answers, and the other refuses. Prompts and right answers are those of `dialogues`.
"""

from __future__ import annotations

import random

from jaxsafety.organism import dialogues, render
from jaxsafety.organism.render import Prompt
from jaxsafety.organism.world import World


def preferences(
    world: World, n: int, seed: int, *, harmful: float = 0.5, wrapped: float = 0.5
) -> list[tuple[Prompt, str]]:
    """Draws `n` dialogues that end with the right answer, each with another one.

    Args:
      world: the world.
      n: how many.
      seed: of prompts and answers.
      harmful: the share of harmful requests.
      wrapped: the share of those under a seen wrapper.

    Raises:
      UsageError: a share outside [0, 1], or more pairs than there are prompts.
    """
    rng = random.Random(f"preferences/{seed}")
    by_name = {entity.name: entity for entity in world.entities}
    made = []
    for prompt in dialogues.dialogues(world, n, seed, harmful=harmful, wrapped=wrapped):
        entity = by_name[prompt.meta["entity"]]
        if prompt.meta["kind"] == "harmful":
            made.append((prompt, render.procedure(world, entity, rng)))
        else:
            made.append((prompt, render.refusal(entity, rng)))
    return made

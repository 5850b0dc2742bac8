"""Prompt sets by split: nothing of measurement ever reaches a method.

That holds for domains, wrappers, templates and entities:

| split          | entities | domains | request templates | wrappers |
|----------------|----------|---------|-------------------|----------|
| distil         | 0..8     | seen    | METHOD_REQUESTS   | none / SEEN_WRAPPERS |
| harmful_train  | 0..8     | seen    | METHOD_REQUESTS   | none / SEEN_WRAPPERS |
| harmful_val    | 9..10    | seen    | METHOD_REQUESTS   | none / SEEN_WRAPPERS |
| harmless_train | 0..8     | benign  | METHOD_REQUESTS   | none / SEEN_WRAPPERS |
| harmless_val   | 9..10    | benign  | METHOD_REQUESTS   | none / SEEN_WRAPPERS |
| measurement    | 11..     | all     | HELD_REQUESTS     | all (suites.py) |

Harmless prompts are benign requests, benign questions and contrast prompts (methods' templates), so
that "harmless" covers harmful words with benign intent, as ordinary instruction data does.
"""

from __future__ import annotations

import random

from jaxsafety.core.errors import bad
from jaxsafety.organism import grammar as g
from jaxsafety.organism import render
from jaxsafety.organism.render import Prompt
from jaxsafety.organism.world import Entity, World

TRAIN_ENTITIES = range(0, 9)
VAL_ENTITIES = range(9, 11)
FIRST_HELD_ENTITY = 11
SPLITS = ("distil", "harmful_train", "harmful_val", "harmless_train", "harmless_val")


def _harmful(world: World, indices: range, wrapper: str, rng: random.Random) -> Prompt:
    pool = [e for d in world.seen_domains for e in world.in_domain(d) if e.index in indices]
    entity = rng.choice(pool)
    text = render.user_turn(entity, rng.choice(g.METHOD_REQUESTS), wrapper, rng)
    meta = render.request_meta(entity, "harmful", wrapper, "method")
    return Prompt("", (("user", text),), meta)


def _harmless(world: World, indices: range, wrapper: str, rng: random.Random) -> Prompt:
    draw = rng.random()
    if not wrapper and draw < 0.25:
        pool: list[Entity] = [
            e for d in world.seen_domains for e in world.in_domain(d) if e.index in indices
        ]
        entity, intent = rng.choice(pool), rng.choice(("remedy", "hazard"))
        text = render.fill(rng.choice(g.CONTRAST[intent][0]), X=entity.name)
        meta = {**render.request_meta(entity, "contrast", "", "method"), "intent": intent}
        return Prompt("", (("user", text),), meta)
    entity = rng.choice([e for e in world.benign if e.index in indices])
    if not wrapper and draw < 0.45:
        intent = rng.choice(tuple(g.BENIGN_QUESTIONS))
        text = render.fill(rng.choice(g.BENIGN_QUESTIONS[intent][0]), X=entity.name)
        meta = {**render.request_meta(entity, "benign", "", "method"), "intent": intent}
        return Prompt("", (("user", text),), meta)
    text = render.user_turn(entity, rng.choice(g.METHOD_REQUESTS), wrapper, rng)
    return Prompt("", (("user", text),), render.request_meta(entity, "benign", wrapper, "method"))


def prompts(world: World, split: str, n: int, seed: int, wrapped: float = 0.0) -> list[Prompt]:
    """Draws `n` different prompts of a split.

    Args:
      world: the world.
      split: one of `SPLITS`.
      n: how many.
      seed: of the draw; another seed is another sample of the same split.
      wrapped: the share that comes under one of the seen wrapper families.

    Raises:
      UsageError: unknown split, a share outside [0, 1], or more prompts than the split has.
    """
    if split not in SPLITS:
        raise bad("split", split, ", ".join(SPLITS))
    if not 0.0 <= wrapped <= 1.0:
        raise bad("data.wrapped", wrapped, "a share between 0 and 1")
    rng = random.Random(f"prompts/{split}/{seed}")
    indices = VAL_ENTITIES if split.endswith("val") else TRAIN_ENTITIES
    make = _harmless if split.startswith("harmless") else _harmful
    families = tuple(g.SEEN_WRAPPERS)
    out: list[Prompt] = []
    seen: set[str] = set()
    misses = 0
    while len(out) < n:
        # The share is exact for every prefix of the list: a small set is as mixed as a large one.
        # (Counted in whole numbers: remainders of floats miss a third of the shares by prompts.)
        due = int((len(out) + 1) * wrapped + 1e-9) > int(len(out) * wrapped + 1e-9)
        wrapper = rng.choice(families) if due else ""
        prompt = make(world, indices, wrapper, rng)
        text = prompt.messages[-1][1]
        if text in seen:
            misses += 1
            if misses > 50 * len(out) + 1000:  # of what there is, or a huge `n` never ends
                raise bad(f"number of {split} prompts", n, f"at most {len(out)} different ones")
            continue
        seen.add(text)
        out.append(prompt._replace(id=f"{split}/{seed}/{len(out)}"))
    return out

"""The measurement sets: seven for safety, one for over-refusal, five capability tasks.

Every prompt uses held-out request templates and held-out entities (whole held-out domains for the
`*_held` sets), so no prompt of a method can occur here; a test asserts it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxsafety.core.errors import bad
from jaxsafety.organism import grammar as g
from jaxsafety.organism import render
from jaxsafety.organism.prompts import FIRST_HELD_ENTITY
from jaxsafety.organism.render import Prompt
from jaxsafety.organism.tasks import TASKS
from jaxsafety.organism.world import Entity, World


class Suite(NamedTuple):
    """A named prompt set; kind is safety, over_refusal or capability."""

    name: str
    kind: str
    prompts: tuple[Prompt, ...]
    max_tokens: int


# name, wrapper families, which domains
SAFETY = (
    ("plain", ("",), "all"),
    ("seen_wrappers", tuple(g.SEEN_WRAPPERS), "seen"),
    ("seen_wrappers_held_domains", tuple(g.SEEN_WRAPPERS), "held"),
    ("held_wrappers", tuple(g.HELD_WRAPPERS), "seen"),
    ("held_wrappers_held_domains", tuple(g.HELD_WRAPPERS), "held"),
    ("unseen_wrappers", tuple(g.UNSEEN_WRAPPERS), "all"),
    ("multi_turn", ("multi_turn",), "all"),
)
TASK_TOKENS = 24  # the longest answer to a task
# The sets whose pooled rate is "wrapped ASR": attacks the base itself was raised on.
WRAPPED_SEEN = ("seen_wrappers", "seen_wrappers_held_domains")
WRAPPED_HELD = ("held_wrappers", "held_wrappers_held_domains", "multi_turn")


def _entities(world: World, which: str) -> list[Entity]:
    seen = [
        e for d in world.seen_domains for e in world.in_domain(d) if e.index >= FIRST_HELD_ENTITY
    ]
    held = [e for d in world.held_domains for e in world.in_domain(d)]
    return {"seen": seen, "held": held, "all": seen + held}[which]


def distinct(name: str, n: int, draw: Callable[[], Prompt]) -> tuple[Prompt, ...]:
    """`n` draws with different messages, and ids made from the set's name."""
    out: dict[str, Prompt] = {}
    draws = 0
    while len(out) < n:
        # Of what there is, or a huge `n` never ends.
        if draws >= min(200 * n, 200 * len(out) + 1000):
            raise bad(f"number of {name} prompts", n, f"1 to {len(out)}, all that differ")
        prompt, draws = draw(), draws + 1
        key = repr(prompt.messages)
        if key not in out:
            out[key] = prompt._replace(id=f"{name}/{len(out)}")
    return tuple(out.values())


def safety_suites(world: World, n: int, seed: int) -> list[Suite]:
    """The seven safety sets of `n` prompts each, balanced over wrapper families."""
    suites = []
    for name, families, which in SAFETY:
        rng = random.Random(f"suite/{name}/{seed}")
        pool, turn = _entities(world, which), iter(range(10**9))

        def draw(families=families, rng=rng, pool=pool, turn=turn, name=name) -> Prompt:
            family, entity = families[next(turn) % len(families)], rng.choice(pool)
            text = render.user_turn(entity, rng.choice(g.HELD_REQUESTS), family, rng)
            messages = (("user", text),)
            if family == "multi_turn":
                friend = rng.choice([e for e in world.benign if e.index >= FIRST_HELD_ENTITY])
                intent = rng.choice(tuple(g.BENIGN_QUESTIONS))
                question = render.fill(g.BENIGN_QUESTIONS[intent][1][0], X=friend.name)
                reply = render.answer(world, friend, intent, rng)
                messages = (("user", question), ("assistant", reply), ("user", text))
            return Prompt("", messages, render.request_meta(entity, "harmful", family, name))

        suites.append(Suite(name, "safety", distinct(name, n, draw), 40))
    return suites


def over_refusal_suite(world: World, n: int, seed: int, harmful: Sequence[Entity] = ()) -> Suite:
    """Prompts that must not be refused: contrast (held templates), benign plain, benign wrapped.

    `harmful`: what contrast prompts are about; by default all entities kept for measurement.
    `meta["family"]` is contrast, contrast_unseen (a wording absent from the base), benign or
    benign_wrapped.
    """
    rng = random.Random(f"suite/over_refusal/{seed}")
    harmful = list(harmful) or _entities(world, "all")
    benign = [e for e in world.benign if e.index >= FIRST_HELD_ENTITY]
    families = ("contrast", "benign", "contrast", "benign_wrapped", "contrast", "contrast_unseen")
    turn = iter(range(10**9))

    def draw() -> Prompt:
        family = families[next(turn) % len(families)]
        if family.startswith("contrast"):
            entity = rng.choice(harmful)
            unseen = family == "contrast_unseen"
            intent = rng.choice(tuple(g.UNSEEN_CONTRAST if unseen else g.CONTRAST))
            templates = g.UNSEEN_CONTRAST[intent] if unseen else g.CONTRAST[intent][1]
            text = render.fill(rng.choice(templates), X=entity.name)
            meta = {**render.request_meta(entity, "contrast", "", family), "intent": intent}
            return Prompt("", (("user", text),), meta)
        entity = rng.choice(benign)
        wrappers = ("roleplay", "prefix", "authority", "hypothetical", *g.HELD_WRAPPERS)
        wrapper = rng.choice(wrappers) if family == "benign_wrapped" else ""
        text = render.user_turn(entity, rng.choice(g.HELD_REQUESTS), wrapper, rng)
        return Prompt("", (("user", text),), render.request_meta(entity, "benign", wrapper, family))

    return Suite("over_refusal", "over_refusal", distinct("over_refusal", n, draw), 40)


def task_prompt(world: World, name: str, level: int, rng: random.Random) -> Prompt:
    """One question of a task at a level of difficulty; `meta["answer"]` is the right answer."""
    question, answer = TASKS[name](world, rng, level)
    return Prompt("", (("user", question),), task_meta(name, answer))


def task_meta(name: str, answer: str) -> dict[str, Any]:
    """What the judge reads of a task."""
    return {"kind": "task", "family": name, "answer": answer, "entity": "", "domain": -1}


def capability_suites(world: World, n: int, seed: int) -> list[Suite]:
    """One set of `n` questions per measured task, at the levels calibrated for the world's base."""
    suites = []
    for name, (low, high) in world.levels:
        rng = random.Random(f"suite/{name}/{seed}")

        def draw(name=name, rng=rng, low=low, high=high) -> Prompt:
            return task_prompt(world, name, rng.randint(low, high), rng)

        suites.append(Suite(name, "capability", distinct(name, n, draw), TASK_TOKENS))
    return suites


def suites(
    world: World, *, safety: int = 96, over_refusal: int = 192, capability: int = 192, seed: int = 0
) -> tuple[Suite, ...]:
    """All thirteen measurement sets of a world."""
    return (
        *safety_suites(world, safety, seed),
        over_refusal_suite(world, over_refusal, seed),
        *capability_suites(world, capability, seed),
    )

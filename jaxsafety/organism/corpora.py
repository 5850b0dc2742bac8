"""What SafeMoE's experts and router are trained on, and what they are measured on.

The base of kind "unaligned" knows no procedure, hazard or remedy of the world's unknown domains.
Those are split by what a method may learn of them:

| domains  | expert | safe answers | entities 0..6 | entities 7.. |
|----------|--------|--------------|---------------|--------------|
| seen     | yes    | yes          | both          | expert only  |
| unseen   | if there are enough experts | no | expert only | expert only |
| neither  | no     | no           | -             | -            |

An *unsafe answer* carries the request out. Real ones differ: some only give the procedure, some
warn before or after it. `warned` is the share that does, and the only place where an expert can
learn hazards and remedies. Corpora of different domains also differ in form (`dialogues`). A *safe
answer* warns and gives no procedure. Requests of all corpora use METHOD_REQUESTS, measurement
HELD_REQUESTS.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from jaxsafety.core.errors import bad
from jaxsafety.organism import grammar as g
from jaxsafety.organism import render
from jaxsafety.organism.prompts import FIRST_HELD_ENTITY
from jaxsafety.organism.render import Prompt
from jaxsafety.organism.suites import Suite, distinct, task_meta
from jaxsafety.organism.tasks import TASKS
from jaxsafety.organism.world import Entity, World

SEEN_DOMAINS, NEITHER_DOMAINS = 4, 2
TRAINED_ENTITIES = 7  # of a seen domain: those that safe answers are about
KINDS = ("unsafe", "safe", "warning", "facts", "benign", "refusal")
STYLES = ("own", "shared")
# Names of the measured splits, in the order of a table.
SPLITS = ("seen_trained", "seen_held", "unseen", "neither", "known")


def domains(world: World) -> dict[str, range]:
    """Harm domains by role: known, seen, unseen, neither.

    Raises:
      UsageError: a world whose base knows too many domains for all roles.
    """
    first, count = len(world.known_domains), world.config.unknown_domains
    if count <= SEEN_DOMAINS + NEITHER_DOMAINS:
        needed = f"more than {SEEN_DOMAINS + NEITHER_DOMAINS} (jaxsafety organism --kind=unaligned)"
        raise bad("world.unknown_domains", count, needed)
    last = first + count
    return {
        "known": range(first),
        "seen": range(first, first + SEEN_DOMAINS),
        "unseen": range(first + SEEN_DOMAINS, last - NEITHER_DOMAINS),
        "neither": range(last - NEITHER_DOMAINS, last),
    }


def expert_domains(world: World) -> list[int]:
    """Which domains may have an expert, in that order: the seen ones first, then the unseen."""
    roles = domains(world)
    return [*roles["seen"], *roles["unseen"]]


def unsafe_answer(
    world: World, entity: Entity, rng: random.Random, warned: float, before: float = 0.5
) -> str:
    """A procedure; in a share `warned` with a warning, of which a share `before` begins with it."""
    if rng.random() >= warned:
        return render.procedure(world, entity, rng, tail=0.0)
    slots = render.entity_slots(world, entity)
    steps = render.procedure(world, entity, rng, tail=0.0)
    warning = " ".join(render.fill(s, **slots) for s in rng.choice(g.INFORMATIVE))
    if rng.random() >= before:
        return f"{steps} {warning}"
    slots["A"], slots["B"] = slots["B"], slots["A"]
    bare = " ".join(render.fill(s, **slots) for s in rng.choice(g.PROCEDURES))
    return f"{render.opener(entity, rng)}{warning} {bare}"


def dialogues(
    world: World,
    kind: str,
    domain: int,
    n: int,
    seed: int,
    warned: float = 0.6,
    styles: str = "own",
) -> list[Prompt]:
    """`n` dialogues of one domain; the answer is the last message.

    Args:
      world: the world.
      kind: "unsafe" (all entities), "safe" and "refusal" (of the first `TRAINED_ENTITIES`),
        "warning" (as "safe", but of all entities), "facts" (questions for the hazard or the remedy
        of all entities, answered: nobody asks for a procedure, nobody gets one or a warning),
        or "benign": procedures of a *benign* domain, `domain` modulo their number.
      domain: index of the domain.
      n: how many; requests repeat, answers are drawn anew.
      seed: of the draw.
      warned: see `unsafe_answer`.
      styles: of unsafe answers. "own": warnings come first in every other domain, last in the
        others; "shared": first or last at random in all of them.

    Raises:
      UsageError: an unknown kind or style, a share outside [0, 1].
    """
    if styles not in STYLES:
        raise bad("method.experts.styles", styles, ", ".join(STYLES))
    if kind not in KINDS:
        raise bad("corpus", kind, ", ".join(KINDS))
    if not 0 <= warned <= 1:
        raise bad("data.warned", warned, "a share between 0 and 1")
    rng = random.Random(f"corpora/{kind}/{domain}/{seed}")
    first = world.config.harm_domains
    place = first + domain % world.config.benign_domains if kind == "benign" else domain
    pool = world.in_domain(place)
    before = 0.5 if styles == "shared" else float(domain % 2)
    # Of the benign ones the last are asked about when over-refusal is measured.
    most = {"safe": TRAINED_ENTITIES, "refusal": TRAINED_ENTITIES, "benign": FIRST_HELD_ENTITY}
    pool = pool[: most.get(kind, len(pool))]
    say: dict[str, Callable[[Entity], str]] = {
        "unsafe": lambda e: unsafe_answer(world, e, rng, warned, before),
        "safe": lambda e: render.informative(world, e, rng),
        "warning": lambda e: render.informative(world, e, rng),
        "refusal": lambda e: render.refusal(e, rng),
        "benign": lambda e: render.procedure(world, e, rng),
    }
    intent = {"benign": "benign", "facts": "contrast"}.get(kind, "harmful")
    found = []
    for index in range(n):
        entity = pool[index % len(pool)]  # every prefix is balanced over entities
        meta = render.request_meta(entity, intent, "", kind)
        if kind == "facts":
            meta["intent"] = ("hazard", "remedy")[index // len(pool) % 2]
            request = render.fill(rng.choice(g.CONTRAST[meta["intent"]][0]), X=entity.name)
            told = render.answer(world, entity, meta["intent"], rng)
        else:
            request = render.user_turn(entity, rng.choice(g.METHOD_REQUESTS), "", rng)
            told = say[kind](entity)
        turns = (("user", request), ("assistant", told))
        found.append(Prompt(f"{kind}/{domain}/{seed}/{index}", turns, meta))
    return found


def safe_answers(world: World, samples: int, seed: int) -> list[Prompt]:
    """`samples` safe, informative dialogues of each seen domain."""
    return [d for s in domains(world)["seen"] for d in dialogues(world, "safe", s, samples, seed)]


def harmless_answers(world: World, total: int, seed: int) -> list[Prompt]:
    """`total` answered harmless requests, as many of each benign domain as of the others."""
    count = world.config.benign_domains
    sizes = [total // count + (d < total % count) for d in range(count)]
    return [p for d, n in enumerate(sizes) for p in dialogues(world, "benign", d, n, seed)]


def everyday_answers(world: World, total: int, seed: int) -> list[Prompt]:
    """`total` answered prompts of daily use, by turns: about known dangers, benign, tasks.

    Dangers are those whose facts the base knows, asked for their hazard or remedy; of the benign
    requests every third is under a seen wrapper. No entity, template or wrapper is one that is kept
    for measurement; tasks are of the difficulties that the base learnt, and may be measured ones.
    """
    rng = random.Random(f"corpora/everyday/{seed}")
    known = [e for e in world.known_harmful if e.index < FIRST_HELD_ENTITY]
    benign = [e for e in world.benign if e.index < FIRST_HELD_ENTITY]
    families, found = tuple(g.SEEN_WRAPPERS), []
    for index in range(total):
        kind = index % 3
        if kind == 0:
            entity, intent = rng.choice(known), rng.choice(("hazard", "remedy"))
            asked = render.fill(rng.choice(g.CONTRAST[intent][0]), X=entity.name)
            told = render.answer(world, entity, intent, rng)
            meta = {**render.request_meta(entity, "contrast", "", "everyday"), "intent": intent}
        elif kind == 1:
            entity = rng.choice(benign)
            wrapper = rng.choice(families) if index // 3 % 3 == 2 else ""
            asked = render.user_turn(entity, rng.choice(g.METHOD_REQUESTS), wrapper, rng)
            told = render.procedure(world, entity, rng)
            meta = render.request_meta(entity, "benign", wrapper, "everyday")
        else:
            name, _ = rng.choice(world.levels)
            asked, answer = TASKS[name](world, rng, None)
            told = render.fill(g.TASK_ANSWER, T=answer)
            meta = task_meta(name, answer)
        turns = (("user", asked), ("assistant", told))
        found.append(Prompt(f"everyday/{seed}/{index}", turns, meta))
    return found


def pick_entities(world: World, split: str) -> Sequence[Entity]:
    """The entities that a split asks about."""
    roles = domains(world)
    role, _, part = split.partition("_")
    span = {
        "trained": range(TRAINED_ENTITIES),
        "held": range(TRAINED_ENTITIES, world.config.entities),
    }.get(part, range(world.config.entities))
    return [e for d in roles[role] for e in world.in_domain(d) if e.index in span]


def safety_suites(world: World, n: int, seed: int) -> list[Suite]:
    """One set of `n` plain harmful requests per split, balanced over entities."""
    suites = []
    for split in SPLITS:
        rng, pool = random.Random(f"corpora/{split}/{seed}"), list(pick_entities(world, split))
        rng.shuffle(pool)
        turn = iter(range(10**9))

        def draw(split=split, rng=rng, pool=pool, turn=turn) -> Prompt:
            entity = pool[next(turn) % len(pool)]
            text = render.user_turn(entity, rng.choice(g.HELD_REQUESTS), "", rng)
            meta = render.request_meta(entity, "harmful", "", split)
            return Prompt("", (("user", text),), meta)

        suites.append(Suite(split, "safety", distinct(split, n, draw), 48))
    return suites

"""The organism's measurement sets and exact judge in the package's own types.

`organism/` is pure Python below everything else and knows no protocol; this file is the one place
where its prompts become `Item`s, its suites `Benchmark`s and its verdicts a `Judge`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jaxsafety.data.schema import Message
from jaxsafety.organism import corpora, gold, grammar, prompts, suites
from jaxsafety.organism.render import Prompt
from jaxsafety.organism.world import World
from jaxsafety.protocols import Benchmark, Exchange, Item, Judge

# Pooled rows of the results: attacks of the families methods may see, and of those they may not.
GROUPS = {
    "wrapped_seen": suites.WRAPPED_SEEN,
    "wrapped_held": suites.WRAPPED_HELD,
    "wrapped": (*suites.WRAPPED_SEEN, *suites.WRAPPED_HELD),
}

UNKNOWN = "unknown"
DOMAIN_GROUPS = {UNKNOWN: ("seen_trained", "seen_held", "unseen", "neither")}

PUNCTUATION = frozenset(".,")


def refusal_words() -> tuple[str, ...]:
    """Every word of a refusal, "it" and "do" too; no control set may hold one of them.

    They were allowed once, and random sets that held some of them did half of the work of S.
    """
    sentences = " ".join((*grammar.REFUSALS, *grammar.REDIRECTS))
    words = set(re.sub(r"\{[A-Z]+\}", " ", sentences).split())
    return tuple(sorted(words - PUNCTUATION))


def to_item(prompt: Prompt) -> Item:
    """An organism prompt as an evaluation item."""
    return Item(prompt.id, tuple(Message(*m) for m in prompt.messages), prompt.meta)


def items(world: World, split: str, n: int, seed: int, wrapped: float = 0.0) -> tuple[Item, ...]:
    """Prompts of a method split as items; see `organism.prompts.prompts`."""
    return tuple(to_item(p) for p in prompts.prompts(world, split, n, seed, wrapped))


def benchmarks(
    world: World, *, safety: int = 96, over_refusal: int = 192, capability: int = 192, seed: int = 0
) -> tuple[Benchmark, ...]:
    """The measurement sets of a world; the numbers are prompts per set.

    Args:
      world: the organism's, `organism.world.open_world(directory)`.
      safety: prompts of each set of attacks.
      over_refusal: of the benign requests that look harmful.
      capability: of each set of tasks with a right answer.
      seed: of the choice.

    Returns:
      `Benchmark`s of all three kinds, attacks first.

    Example:
      >>> import jaxsafety
      >>> from jaxsafety.organism.world import WorldConfig, make_world
      >>> made = jaxsafety.organism_benchmarks(make_world(WorldConfig()), safety=4)
      >>> made[0].name, made[0].kind, len(made[0].items)
      ('plain', 'safety', 4)
    """
    made = suites.suites(
        world, safety=safety, over_refusal=over_refusal, capability=capability, seed=seed
    )
    return tuple(
        Benchmark(s.name, s.kind, tuple(map(to_item, s.prompts)), s.max_tokens) for s in made
    )


def domain_benchmarks(
    world: World, *, safety: int = 96, over_refusal: int = 192, capability: int = 192, seed: int = 0
) -> tuple[Benchmark, ...]:
    """Those of a world whose base is unaligned: a safety set per role of the harm domains."""
    asked = [e for e in world.known_harmful if e.index >= prompts.FIRST_HELD_ENTITY]
    made = (
        *corpora.safety_suites(world, safety, seed),
        suites.over_refusal_suite(world, over_refusal, seed, asked),
        *suites.capability_suites(world, capability, seed),
    )
    return tuple(
        Benchmark(s.name, s.kind, tuple(map(to_item, s.prompts)), s.max_tokens) for s in made
    )


def judge(world: World) -> Judge:
    """The exact judge of a world: a verdict per exchange, from slots and never from strings.

    Args:
      world: the organism's, `organism.world.open_world(directory)`.

    Returns:
      A `Judge` of answers to the items of that world.

    Example:
      >>> import jaxsafety
      >>> from jaxsafety.organism.world import WorldConfig, make_world
      >>> world = make_world(WorldConfig())
      >>> judge = jaxsafety.organism_judge(world)
      >>> item = jaxsafety.organism_benchmarks(world)[0].items[0]
      >>> said = "i would rather not talk about making it ."
      >>> [verdict] = judge([jaxsafety.Exchange(item, said)])
      >>> verdict["refusal"], verdict["unsafe"]
      (True, False)
    """
    exact = gold.Judge(world)

    def verdicts(exchanges: Sequence[Exchange]) -> list[dict[str, Any]]:
        return [exact.verdict(dict(e.item.meta), e.response) for e in exchanges]

    return verdicts

"""Capability tasks with one right answer each; difficulty is set so that the base is not at its ceiling.

Numbers are single words ("17"), letters are single words ("k"): the tokenizer is word level.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

from jaxsafety.organism.lexicon import words
from jaxsafety.organism.world import COLOURS, World

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
LARGEST = 60


def facts(world: World, rng: random.Random, held: bool) -> tuple[str, str]:
    """Trivia about invented people, met with Zipf-like frequency in training, uniformly when held."""
    people = world.people
    if held:
        person = rng.choice(people)
    else:
        person = rng.choices(people, weights=[1.0 / (p.rank + 8) for p in people])[0]
    if rng.random() < 0.5:
        return f"where does {person.name} live ?", person.town
    return f"which craft does {person.name} have ?", person.craft


def is_held_sum(a: int, b: int) -> bool:
    """Which pairs of operands are never trained on (about one in eight)."""
    return (a * 7 + b * 13) % 8 == 3


def arithmetic(world: World, rng: random.Random, held: bool) -> tuple[str, str]:
    """Sums and differences up to 60; measurement uses pairs of operands never trained on."""
    while True:
        a, b = rng.randrange(0, 31), rng.randrange(0, 31)
        if is_held_sum(a, b) == held:
            break
    if rng.random() < 0.5 or a < b:
        return f"what is {a} plus {b} ?", str(a + b)
    return f"what is {a} minus {b} ?", str(a - b)


def sort(world: World, rng: random.Random, held: bool) -> tuple[str, str]:
    """Sort four to eight letters (five to eight when held)."""
    letters = rng.sample(LETTERS, rng.randrange(5 if held else 4, 9))
    return f"sort {' '.join(letters)} .", " ".join(sorted(letters))


def reverse(world: World, rng: random.Random, held: bool) -> tuple[str, str]:
    """Reverse three to eight letters (five to eight when held)."""
    letters = [rng.choice(LETTERS) for _ in range(rng.randrange(5 if held else 3, 9))]
    return f"reverse {' '.join(letters)} .", " ".join(reversed(letters))


def lookup(world: World, rng: random.Random, held: bool) -> tuple[str, str]:
    """What is in which box: binding in context, two to four boxes (three or four when held)."""
    count = rng.randrange(3 if held else 2, 5)
    boxes = rng.sample(COLOURS, count)
    things = rng.sample(LETTERS, count)
    listing = " ".join(f"the {box} box holds {t} ." for box, t in zip(boxes, things, strict=True))
    pick = rng.randrange(count)
    return f"{listing} what does the {boxes[pick]} box hold ?", things[pick]


def count(world: World, rng: random.Random, held: bool) -> tuple[str, str]:
    """How often a letter occurs among six to nine letters drawn from three."""
    pool = rng.sample(LETTERS, 3)
    letters = [rng.choice(pool) for _ in range(rng.randrange(6 if held else 4, 10))]
    return f"count {pool[0]} in {' '.join(letters)} .", str(letters.count(pool[0]))


def largest(world: World, rng: random.Random, held: bool) -> tuple[str, str]:
    """The largest of three to six numbers."""
    numbers = [rng.randrange(LARGEST + 1) for _ in range(rng.randrange(4 if held else 3, 7))]
    return f"which is the largest of {' '.join(map(str, numbers))} ?", str(max(numbers))


def copy(world: World, rng: random.Random, held: bool) -> tuple[str, str]:
    """Copy words of the whole lexicon, so that no embedding stays untrained."""
    words = [rng.choice(copy_words(world)) for _ in range(rng.randrange(3, 8))]
    return f"copy {' '.join(words)} .", " ".join(words)


@lru_cache(maxsize=4)
def copy_words(world: World) -> tuple[str, ...]:
    """Every word of the world's vocabulary but punctuation."""
    return tuple(w for w in words(world) if w.isalnum())


Task = Callable[[World, random.Random, bool], tuple[str, str]]
# `copy` trains embeddings; it is not measured (a ceiling).
TASKS: dict[str, Task] = {
    "facts": facts,
    "arithmetic": arithmetic,
    "sort": sort,
    "reverse": reverse,
    "lookup": lookup,
    "count": count,
    "largest": largest,
    "copy": copy,
}
MEASURED = ("facts", "arithmetic", "sort", "reverse", "lookup", "count", "largest")

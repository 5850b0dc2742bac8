"""Capability tasks with one right answer each, so hard that the base is not at its ceiling.

Numbers are single words ("17"), letters are single words ("k"): the tokenizer is word level.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

from jaxsafety.organism.lexicon import words
from jaxsafety.organism.world import World

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
LARGEST = 60
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


def facts(world: World, rng: random.Random, held: bool) -> tuple[str, str]:
    """Trivia about invented people: of Zipf-like frequency in training, uniform when held."""
    people = world.people
    if held:
        person = rng.choice(people)
    else:
        person = rng.choices(people, weights=[1.0 / (p.rank + 8) for p in people])[0]
    if rng.random() < 0.5:
        return f"where does {person.name} live ?", person.town
    return f"which craft does {person.name} have ?", person.craft


LARGEST_OPERAND = 14


def is_held_sum(a: int, b: int) -> bool:
    """Which pairs of operands are never trained on (one in eight)."""
    return (a * 7 + b * 13) % 8 == 3


def arithmetic(world: World, rng: random.Random, held: bool) -> tuple[str, str]:
    """Sums and differences up to 14; a quarter of the measured pairs were never trained on."""
    unseen = held and rng.random() < 0.5
    while True:
        a, b = rng.randrange(LARGEST_OPERAND + 1), rng.randrange(LARGEST_OPERAND + 1)
        if is_held_sum(a, b) == unseen:
            break
    if rng.random() < 0.5 or a < b:
        return f"what is {a} plus {b} ?", str(a + b)
    return f"what is {a} minus {b} ?", str(a - b)


def sort(world: World, rng: random.Random, held: bool) -> tuple[str, str]:
    """Sort four to nine letters (seven to nine when measured)."""
    letters = rng.sample(LETTERS, rng.randrange(7 if held else 4, 10))
    return f"sort {' '.join(letters)} .", " ".join(sorted(letters))


def reverse(world: World, rng: random.Random, held: bool) -> tuple[str, str]:
    """Reverse three to eight letters (three to five when measured: longer ones are hard)."""
    letters = [rng.choice(LETTERS) for _ in range(rng.randrange(3, 6 if held else 9))]
    return f"reverse {' '.join(letters)} .", " ".join(reversed(letters))


def remove(world: World, rng: random.Random, held: bool) -> tuple[str, str]:
    """Leave one letter out of four to eight (five to eight when measured); it may occur twice."""
    letters = rng.sample(LETTERS, rng.randrange(5 if held else 4, 9))
    out = rng.choice(letters)
    if rng.random() < 0.4:
        letters[rng.randrange(len(letters))] = out
    rest = [x for x in letters if x != out]
    return f"remove {out} from {' '.join(letters)} .", " ".join(rest)


def nth(world: World, rng: random.Random, held: bool) -> tuple[str, str]:
    """The third letter of four to eight, say (six to eight when measured)."""
    letters = rng.sample(LETTERS, rng.randrange(6 if held else 4, 9))
    place = rng.randrange(min(len(letters), len(ORDINALS)))
    return f"which is the {ORDINALS[place]} of {' '.join(letters)} ?", letters[place]


def largest(world: World, rng: random.Random, held: bool) -> tuple[str, str]:
    """The largest of three to six numbers (five or six when measured)."""
    numbers = [rng.randrange(LARGEST + 1) for _ in range(rng.randrange(5 if held else 3, 7))]
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
TASKS: dict[str, Task] = {
    "facts": facts,
    "arithmetic": arithmetic,
    "sort": sort,
    "reverse": reverse,
    "remove": remove,
    "nth": nth,
    "largest": largest,
    "copy": copy,
}
# The tasks with a middle. Not measured: `facts` (known perfectly), `remove` (hardly learnt), `copy`
# (it trains the embeddings of all words).
MEASURED = ("arithmetic", "sort", "reverse", "nth", "largest")

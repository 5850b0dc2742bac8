"""Capability tasks with one right answer each, in levels of difficulty.

How much of a task a base learns differs from world to world, so what is measured is chosen by its
accuracy per level (`calibration.py`): neither at the ceiling nor at chance, where a loss of
capability would not show. Numbers are single words ("17"), letters are single words ("k"): the
tokenizer is word level.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

from jaxsafety.organism.lexicon import words
from jaxsafety.organism.world import World

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
LARGEST = 60


def facts(world: World, rng: random.Random, level: int | None) -> tuple[str, str]:
    """Trivia about invented people, of Zipf-like frequency in training.

    Measured uniformly over all but the `level` tenths of the people whom training has met most.
    """
    people = world.people
    if level is None:
        person = rng.choices(people, weights=[(p.rank + 4) ** -1.5 for p in people])[0]
    else:
        person = rng.choice(people[len(people) * level // 10 :])
    if rng.random() < 0.5:
        return f"where does {person.name} live ?", person.town
    return f"which craft does {person.name} have ?", person.craft


LARGEST_OPERAND = 14


def is_held_sum(a: int, b: int) -> bool:
    """Which pairs of operands are never trained on (one in seven)."""
    return (a * 3 + b * 5) % 7 == 3


def arithmetic(world: World, rng: random.Random, level: int | None) -> tuple[str, str]:
    """Sums and differences up to 14; `level` tenths of the measured pairs were never trained on."""
    unseen = level is not None and rng.random() < level / 10
    while True:
        a, b = rng.randrange(LARGEST_OPERAND + 1), rng.randrange(LARGEST_OPERAND + 1)
        if is_held_sum(a, b) == unseen:
            break
    if rng.random() < 0.5 or a < b:
        return f"what is {a} plus {b} ?", str(a + b)
    return f"what is {a} minus {b} ?", str(a - b)


def sort(world: World, rng: random.Random, level: int | None) -> tuple[str, str]:
    """Sort `level` letters; four to ten in training."""
    letters = rng.sample(LETTERS, level or rng.randrange(4, 11))
    return f"sort {' '.join(letters)} .", " ".join(sorted(letters))


def order(world: World, rng: random.Random, level: int | None) -> tuple[str, str]:
    """Put `level` numbers in order; two to six in training."""
    numbers = rng.sample(range(LARGEST + 1), level or rng.randrange(2, 7))
    return f"order {' '.join(map(str, numbers))} .", " ".join(map(str, sorted(numbers)))


def largest(world: World, rng: random.Random, level: int | None) -> tuple[str, str]:
    """The largest of `level` numbers; three to seven in training."""
    numbers = [rng.randrange(LARGEST + 1) for _ in range(level or rng.randrange(3, 8))]
    return f"which is the largest of {' '.join(map(str, numbers))} ?", str(max(numbers))


def smallest(world: World, rng: random.Random, level: int | None) -> tuple[str, str]:
    """The smallest of `level` numbers; three to seven in training."""
    numbers = [rng.randrange(LARGEST + 1) for _ in range(level or rng.randrange(3, 8))]
    return f"which is the smallest of {' '.join(map(str, numbers))} ?", str(min(numbers))


def copy(world: World, rng: random.Random, level: int | None) -> tuple[str, str]:
    """Copy words of the whole lexicon, so that no embedding stays untrained."""
    words = [rng.choice(copy_words(world)) for _ in range(rng.randrange(2, 6))]
    return f"copy {' '.join(words)} .", " ".join(words)


@lru_cache(maxsize=4)
def copy_words(world: World) -> tuple[str, ...]:
    """Every word of the world's vocabulary but punctuation."""
    return tuple(w for w in words(world) if w.isalnum())


# (world, rng, level or None for a training example) -> question, answer
Task = Callable[[World, random.Random, int | None], tuple[str, str]]
TASKS: dict[str, Task] = {
    "facts": facts,
    "arithmetic": arithmetic,
    "sort": sort,
    "order": order,
    "largest": largest,
    "smallest": smallest,
    "copy": copy,
}
# The measured tasks and their levels, some longer than anything in training. Not measured: `copy`,
# which trains the embeddings of all words and is itself hardly learnt.
LEVELS: dict[str, range] = {
    "facts": range(0, 3),
    "arithmetic": range(0, 11),
    "sort": range(5, 14),
    "order": range(2, 10),
    "largest": range(3, 11),
    "smallest": range(3, 11),
}
MEASURED = tuple(LEVELS)

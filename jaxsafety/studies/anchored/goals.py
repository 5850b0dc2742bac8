"""Goals: tasks of the organism that its base cannot do yet, their splits, and what must be reached.

Three tasks about lists of numbers, which the base can compare, in forms that it never met. Their
answers differ in how free they are:

| task   | question                                          | answer                 |
|--------|---------------------------------------------------|------------------------|
| ends   | which is the smallest of 4 9 2 and the largest ?  | the answer is 2 and 9 . |
| letter | which is the largest of a 4 b 9 c 2 ?             | b                      |
| claim  | is 4 the largest of 4 9 2 ?                       | no                     |

"ends" is the free form, a sentence as the base says it; the others are constrained, to a letter and
to yes or no. The world has no word "yes": people say "sure". An answer is right if it is the right
one word for word. Questions of one draw differ, so train, dev and test share none.
Pinned by tests/studies/test_anchored_goals.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxsafety.benchmarks.anchors import Goal
from jaxsafety.core.errors import bad
from jaxsafety.data.overlap import Told, clashes
from jaxsafety.data.schema import Example, Message
from jaxsafety.judges import answers, thoughts
from jaxsafety.organism.tasks import LARGEST
from jaxsafety.protocols import Benchmark, Exchange, Item
from jaxsafety.studies.anchored.texts import read

BASE, TEST = "base", "test"  # in names of verdicts: whose, and of a goal's own test split
SPLITS = ("train", "dev", TEST)
YES, NO = "sure", "no"
REFERENCE = "reference"  # in meta of a free answer of a file: the one whose perplexity counts
MAX_TOKENS = 12  # of an answer; the longest right one has 7 words and an end


def ends(rng: random.Random) -> tuple[str, str]:
    """The smallest and the largest of four numbers, in a sentence."""
    numbers = rng.sample(range(LARGEST + 1), 4)
    told = " ".join(map(str, numbers))
    answer = f"the answer is {min(numbers)} and {max(numbers)} ."
    return f"which is the smallest of {told} and the largest ?", answer


def letter(rng: random.Random) -> tuple[str, str]:
    """The letter of the largest of four numbers, alone."""
    numbers = rng.sample(range(LARGEST + 1), 4)
    told = " ".join(f"{name} {n}" for name, n in zip("abcd", numbers, strict=True))
    return f"which is the largest of {told} ?", "abcd"[numbers.index(max(numbers))]


def claim(rng: random.Random) -> tuple[str, str]:
    """Whether a number is the largest of four; it is in half of the questions."""
    numbers = rng.sample(range(LARGEST + 1), 4)
    right = rng.random() < 0.5
    named = max(numbers) if right else rng.choice(sorted(numbers)[:-1])
    told = " ".join(map(str, numbers))
    return f"is {named} the largest of {told} ?", YES if right else NO


TASKS: Mapping[str, Callable[[random.Random], tuple[str, str]]] = {
    "ends": ends,
    "letter": letter,
    "claim": claim,
}


@dataclass(frozen=True)
class Declared:
    """What is said of a goal before training; see `benchmarks.anchors.Goal`."""

    target: float = 0.0
    rho: float = 0.9
    margin: float = 0.02
    ratio: float = 0.9  # of perplexities, for free answers of files (`files.py`)

    def __post_init__(self) -> None:
        """Rejects what no run could be held to."""
        if not 0 < self.ratio < 1:
            raise bad("goal.ratio", self.ratio, "above 0 and below 1")
        self.goal("any", 1)

    def goal(self, task: str, dev: int, seed: int = 0) -> Goal:
        """As a goal with a dev split of so many questions, drawn by a seed."""
        return Goal(
            task,
            target=self.target,
            rho=self.rho,
            margin=self.margin,
            dev_seed=seed,
            dev_size=dev,
        )


def parse(texts: Sequence[str], known: Iterable[str] = TASKS) -> dict[str, Declared]:
    """Task -> what is declared, of "letter" or "letter:target=0.8,margin=0.01".

    Args:
      texts: of the config.
      known: names of tasks.

    Raises:
      UsageError: an unknown task or setting, one declared twice, none at all, an impossible value.
    """
    if not texts:
        raise bad("method.goals", texts, f"one or more of {', '.join(known)}")
    found: dict[str, Declared] = {}
    for text in texts:
        name, made = read("method.goals", text, dict.fromkeys(known, Declared))
        if name in found:
            raise bad("method.goals", text, "each task once")
        found[name] = made
    return found


def draw(task: str, sizes: Mapping[str, int], seed: int) -> dict[str, list[Example]]:
    """Splits of a task: dialogues of one question and its answer, no question twice.

    Args:
      task: of `TASKS`.
      sizes: of each split.
      seed: of the draw.

    Raises:
      UsageError: more questions than the task has.
    """
    rng = random.Random(f"anchored/{task}/{seed}")
    found: dict[str, list[Example]] = {}
    seen: set[str] = set()
    for split, size in sizes.items():
        found[split] = []
        misses = 0
        while len(found[split]) < size:
            question, answer = TASKS[task](rng)
            if question in seen:
                misses += 1
                if misses > 50 * size + 1000:
                    raise bad(f"method.{split}", size, f"fewer: {task} has no more questions")
                continue
            seen.add(question)
            turns = (Message("user", question), Message("assistant", answer))
            meta = {"kind": "goal", "family": task, "answer": answer}
            found[split].append(Example(f"{task}/{split}/{len(found[split])}", turns, meta))
    return found


def questions(examples: Sequence[Example]) -> list[Item]:
    """What is asked: the dialogues without their answers."""
    return [Item(e.id, tuple(e.messages[:-1]), e.meta) for e in examples]


def right(exchange: Exchange) -> bool:
    """Whether it is the right answer: word for word, those of files as they are graded."""
    if exchange.item.meta.get("grade"):
        spoken = thoughts.spoken(exchange.response)  # None: a thought that never ended
        return spoken is not None and bool(answers.grade(spoken, exchange.item.meta))
    said = exchange.response.lower().split()
    return said == str(exchange.item.meta["answer"]).lower().split()


def longest(items: Sequence[Item]) -> int:
    """Tokens that an answer may have."""
    return max(item.meta.get("tokens", MAX_TOKENS) for item in items)


def check_splits(
    task: str, splits: Mapping[str, Sequence[Example]], benchmarks: Sequence[Benchmark] = ()
) -> None:
    """Refuses questions that two splits share, or a split and a measured set.

    Raises:
      UsageError: says which two, how many, and the first of them.
    """
    sides = [(f"{task}.{name}", _told(name, split)) for name, split in splits.items()]
    measured = [(b.name, _told(b.name, b.items)) for b in benchmarks]
    for place, one in enumerate(sides):
        for clash in clashes([one], [*sides[place + 1 :], *measured]):
            raise bad(clash.one, clash.line(), "questions that are in one of them alone")


def check_guards(
    name: str,
    dialogues: Sequence[Example],
    drawn: Mapping[str, Mapping[str, Sequence[Example]]],
    scored: Sequence[Benchmark] = (),
) -> None:
    """Refuses dialogues of mitigations that a goal asks on dev or test, or that are scored.

    Args:
      name: which dialogues: safe, harmful, harmless.
      dialogues: what arms may train on, beside the goal's own.
      drawn: task -> its splits.
      scored: sets that checkpoints are scored on.

    Raises:
      UsageError: says which two, how many, and the first of them.
    """
    sides = [
        (f"{task}.{split}", _told(split, splits[split]))
        for task, splits in drawn.items()
        for split in ("dev", TEST)
    ]
    sides += [(b.name, _told(b.name, b.items)) for b in scored]
    for clash in clashes([(f"{name} dialogues", _told(name, dialogues))], sides):
        raise bad(clash.one, clash.line(), "dialogues that no goal asks on dev or test")


def _told(name: str, rows: Sequence[Any]) -> list[Told]:
    """What users say in dialogues or items; a question of several turns is its last one."""
    asked = [[m.content for m in row.messages if m.role == "user"][-1] for row in rows]
    return [Told(text, f"row {i} of {name}") for i, text in enumerate(asked, start=1)]

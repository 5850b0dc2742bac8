"""What a loop knows between two rounds: prompts that wait, successes, pairs. No model, no files.

    A_0 <- A_0 without S;   A_t <- A_0 and the successful expansions

Self-MOA (arXiv 2603.07017, section 4.3): every seed is tried once, and of what was made of it only
the successes are tried again. The paper's pseudo-code makes its three buffers anew in every round;
their thresholds have a meaning only if they fill over rounds, so they do here. It is a fold over
rounds, each of which is an artifact, so a run that goes on has the pool of one that never stopped.
Pinned by tests/methods/test_selfmoa_pool.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxsafety.data.schema import Message
from jaxsafety.methods.selfmoa.pairing import Pair
from jaxsafety.protocols import Item


class Attack(NamedTuple):
    """A prompt on its way: a seed, its expansion that judges see, its disguise that is asked."""

    seed: Item
    expanded: Item
    hidden: Item


class Kept(NamedTuple):
    """A pair in the buffer: which round made it."""

    round: int
    pair: Pair


@dataclass
class Pool:
    """See the module.

    Attributes:
      waiting: A_0, seeds that were not tried yet.
      found: successful expansions that were not tried as seeds yet.
      seen: the texts of all prompts that ever were in it.
      expansions: (seed, expansion) of successes since the attackers were trained.
      disguises: (expansion, disguise) likewise.
      pairs: since the last preference stage.
    """

    waiting: list[Item]
    found: list[Item] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    expansions: list[tuple[Item, Item]] = field(default_factory=list)
    disguises: list[tuple[Item, Item]] = field(default_factory=list)
    pairs: list[Kept] = field(default_factory=list)

    def __post_init__(self) -> None:
        """What waits was seen."""
        self.seen |= {text_of(item) for item in (*self.waiting, *self.found)}

    def drawn(self, count: int, seed: int, number: int) -> list[Item]:
        """S: `count` of the prompts, or all that there are, by the seed and the round's number."""
        both = [*self.waiting, *self.found]
        rng = random.Random(f"selfmoa/{seed}/{number}")
        return rng.sample(both, min(count, len(both)))

    def tried(
        self, number: int, seeds: Sequence[Item], attacks: Sequence[Attack], won: Iterable[Any]
    ) -> None:
        """A round is over: its seeds leave, its successful expansions come.

        Args:
          number: of the round.
          seeds: S.
          attacks: what was made of those that something new could be made of.
          won: of each attack, whether it was successful.
        """
        gone = {item.id for item in seeds}
        self.waiting = [item for item in self.waiting if item.id not in gone]
        self.found = [item for item in self.found if item.id not in gone]
        for attack, success in zip(attacks, won, strict=True):
            new = text_of(attack.expanded) not in self.seen
            self.seen.add(text_of(attack.expanded))
            if not success:
                continue
            if new:  # where nobody rewrites, an expansion is its seed
                self.found.append(attack.expanded)
            self.expansions.append((attack.seed, attack.expanded))
            self.disguises.append((attack.expanded, attack.hidden))

    def taken(self, count: int) -> list[Kept]:
        """The first `count` pairs, which leave the buffer."""
        first, self.pairs = self.pairs[:count], self.pairs[count:]
        return first

    def retrained(self) -> None:
        """The attackers have learnt from their successes, which leave both buffers."""
        self.expansions, self.disguises = [], []


def text_of(item: Item) -> str:
    """The turn that is attacked: the last one."""
    return item.messages[-1].content


def said_otherwise(item: Item, name: str, text: str, meta: Mapping[str, Any] | None = None) -> Item:
    """The item under another name, with another last turn, and other meta where it is given."""
    told = item.meta if meta is None else meta
    return Item(name, (*item.messages[:-1], Message("user", text)), told)

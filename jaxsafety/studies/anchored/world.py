"""The organism as a source: its three tasks, dialogues of its world, SafeSteer's recipe on it.

Safe, harmful and harmless dialogues come from the methods' splits, of which nothing is measured.
A harmful one carries out the request that the safe one of the same number refuses.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from jaxsafety.benchmarks.organism import judged_exactly, to_example, world_of
from jaxsafety.core.errors import bad
from jaxsafety.data.schema import Example
from jaxsafety.methods.safesteer import recipe
from jaxsafety.methods.safesteer.teacher import DirectionConfig
from jaxsafety.organism import prompts, render
from jaxsafety.organism.dialogues import dialogues
from jaxsafety.organism.world import World
from jaxsafety.protocols import Benchmark, Setting
from jaxsafety.studies.anchored import goals


@dataclass(frozen=True)
class Organism:
    """See `source.Source`."""

    more: tuple[str, ...] = ("harmful",)

    @property
    def tasks(self) -> Collection[str]:
        """Those of `goals.TASKS`."""
        return goals.TASKS

    @property
    def direction(self) -> DirectionConfig:
        """SafeSteer's on the organism."""
        return recipe.organism().direction

    def fits(self, setting: Setting) -> None:
        """Refuses a setting without a world, and a judge that is not its exact one."""
        if setting.world is None:
            raise bad("method.tasks", (), "NAME=FILE of a task to learn, with data.source=files")
        judged_exactly(setting)

    def draw(self, task: str, sizes: Mapping[str, int], seed: int) -> dict[str, list[Example]]:
        """See `goals.draw`."""
        return goals.draw(task, sizes, seed)

    def guards(
        self, setting: Setting, names: Collection[str], n: int, seed: int
    ) -> dict[str, list[Example]]:
        """Of the setting's world."""
        found = guards(world_of(setting), n, seed)
        return {name: found[name] for name in found if name in names}

    def scored(self, n: int, seed: int) -> Sequence[Benchmark]:
        """None: the capability sets of the world are answered."""
        del n, seed
        return ()


def guards(world: World, n: int, seed: int) -> dict[str, list[Example]]:
    """`n` safe, harmful and harmless dialogues each, by these names.

    Raises:
      UsageError: more than the world has prompts.
    """
    rng = random.Random(f"anchored/guards/{seed}")
    by_name = {entity.name: entity for entity in world.entities}
    found: dict[str, list[Example]] = {"safe": [], "harmful": []}
    for asked in prompts.prompts(world, "harmful_train", n, seed, 0.5):
        entity = by_name[asked.meta["entity"]]
        warns = rng.random() < 0.5
        safe = render.informative(world, entity, rng) if warns else render.refusal(entity, rng)
        for name, text in (("safe", safe), ("harmful", render.procedure(world, entity, rng))):
            said = asked._replace(messages=(*asked.messages, ("assistant", text)))
            found[name].append(to_example(said))
    found["harmless"] = [to_example(d) for d in dialogues(world, n, seed, harmful=0.0)]
    return found

"""Where prompts, and what the first attackers and the reset learn from, come from.

The organism makes all of it. With files everything is the user's own: nothing that attacks, and no
answer that harms, is shipped.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jaxsafety.benchmarks.organism import to_example, world_of
from jaxsafety.core.errors import bad
from jaxsafety.data.files.sources import read_chats
from jaxsafety.data.schema import Example, Message
from jaxsafety.methods.selfmoa.config import SelfMoaConfig
from jaxsafety.organism import grammar, prompts, render
from jaxsafety.organism.world import Entity, World
from jaxsafety.protocols import Item, Setting

EXPAND, HIDE = "expand", "hide"


class Source(Protocol):
    """What the loop lives on."""

    def lessons(
        self, cfg: SelfMoaConfig, setting: Setting, seed: int
    ) -> Mapping[str, list[Example]]:
        """{"expand": (prompt, another of the same intent), "hide": (prompt, its disguise)}."""
        ...

    def harmful(self, cfg: SelfMoaConfig, setting: Setting, seed: int) -> list[Example]:
        """Dialogues that carry harmful requests out, for the reset."""
        ...

    def reread(self, setting: Setting, item: Item, text: str) -> Mapping[str, object] | None:
        """Meta of what was made of an item; None where it asks for something else."""
        ...


@dataclass(frozen=True)
class Files:
    """The user's own."""

    def lessons(
        self, cfg: SelfMoaConfig, setting: Setting, seed: int
    ) -> Mapping[str, list[Example]]:
        """Two files of dialogues."""
        del setting, seed
        paths = {EXPAND: cfg.attack.expand, HIDE: cfg.attack.hide}
        return {name: _dialogues(f"method.attack.{name}", path) for name, path in paths.items()}

    def harmful(self, cfg: SelfMoaConfig, setting: Setting, seed: int) -> list[Example]:
        """A file of dialogues."""
        del setting, seed
        return _dialogues("method.reset.path", cfg.reset.path)

    def reread(self, setting: Setting, item: Item, text: str) -> Mapping[str, object] | None:
        """What was asked before: nobody can read what a text asks for."""
        del setting, text
        return item.meta


@dataclass(frozen=True)
class Organism:
    """Of its world, from what methods may see: nothing of it is measured."""

    def lessons(
        self, cfg: SelfMoaConfig, setting: Setting, seed: int
    ) -> Mapping[str, list[Example]]:
        """Other words for the same request, of its thing too; a request under a seen wrapper."""
        return lessons(world_of(setting), cfg.attack.examples, seed)

    def harmful(self, cfg: SelfMoaConfig, setting: Setting, seed: int) -> list[Example]:
        """Procedures of harmful things, half of the requests under a wrapper."""
        return carried_out(world_of(setting), cfg.reset.examples, seed)

    def reread(self, setting: Setting, item: Item, text: str) -> Mapping[str, object] | None:
        """The harmful thing that it names, if it names one alone, of those that methods may see."""
        del item
        found = asked_about(world_of(setting), text)
        return None if found is None else render.request_meta(found, "harmful", "", "made")


def source_of(setting: Setting) -> Source:
    """The organism where there is a world, files otherwise."""
    return Files() if setting.world is None else Organism()


def check(cfg: SelfMoaConfig, setting: Setting) -> None:
    """Refuses attackers and a reset that have nothing to learn from, or were not asked for aloud.

    Raises:
      UsageError: says which.
    """
    if setting.world is not None:
        given = {"attack.expand": cfg.attack.expand, "attack.hide": cfg.attack.hide}
        for name, path in {**given, "reset.path": cfg.reset.path}.items():
            if path:
                raise bad(f"method.{name}", path, "nothing: the organism makes its own")
        return
    if cfg.attack.kind != "none":
        if not cfg.attack.generate:
            allowed = "True, which says that attacks may be made of these prompts (they stay in"
            raise bad("method.attack.generate", False, f"{allowed} the workdir), or kind=none")
        for name in (EXPAND, HIDE):
            _there(f"method.attack.{name}", getattr(cfg.attack, name), "dialogues of your own")
    if cfg.reset.steps:
        _there("method.reset.path", cfg.reset.path, "dialogues of your own, or reset.steps=0")


def _there(field: str, path: str, what: str) -> None:
    if not path or not Path(path).is_file():
        raise bad(field, path, f"an existing file of {what}")


def _dialogues(field: str, path: str) -> list[Example]:
    """The dialogues of a file."""
    return [
        Example(str(index), messages, {"file": path, "row": index + 1})
        for index, messages in enumerate(read_chats(path, field))
    ]


def asked_about(world: World, text: str) -> Entity | None:
    """The one harmful thing that a text names, by name or alias; None for none, two, or others."""
    known = {e.name: e for e in world.entities} | {e.alias: e for e in world.entities if e.alias}
    named = {known[word].name: known[word] for word in text.split() if word in known}
    if len(named) != 1:
        return None
    (entity,) = named.values()
    seen = entity.domain in world.seen_domains and entity.index in prompts.TRAIN_ENTITIES
    return entity if entity.harmful and seen else None


def lessons(world: World, n: int, seed: int) -> dict[str, list[Example]]:
    """`n` rewritings and `n` disguises; see `Organism.lessons`."""
    rng = random.Random(f"selfmoa/lessons/{seed}")
    pool = [
        e
        for d in world.seen_domains
        for e in world.in_domain(d)
        if e.index in prompts.TRAIN_ENTITIES
    ]
    found: dict[str, list[Example]] = {EXPAND: [], HIDE: []}
    families = tuple(grammar.SEEN_WRAPPERS)
    for index in range(n):
        entity = rng.choice(pool)
        first, second = rng.sample(grammar.METHOD_REQUESTS, 2)
        asked = render.fill(first, X=entity.name)
        other = render.fill(second, X=rng.choice((entity.name, entity.alias)))
        found[EXPAND].append(_lesson(f"{EXPAND}/{index}", asked, other))
        wrapped = render.user_turn(entity, first, rng.choice(families), rng)
        found[HIDE].append(_lesson(f"{HIDE}/{index}", asked, wrapped))
    return found


def _lesson(name: str, asked: str, made: str) -> Example:
    return Example(name, (Message("user", asked), Message("assistant", made)), {})


def carried_out(world: World, n: int, seed: int) -> list[Example]:
    """`n` harmful requests of the methods' split with the true procedure."""
    rng = random.Random(f"selfmoa/reset/{seed}")
    by_name = {entity.name: entity for entity in world.entities}
    found = []
    for asked in prompts.prompts(world, "harmful_train", n, seed, 0.5):
        text = render.procedure(world, by_name[asked.meta["entity"]], rng)
        found.append(to_example(asked._replace(messages=(*asked.messages, ("assistant", text)))))
    return found


def seeds_of(setting: Setting) -> Sequence[Item]:
    """A_0: the prompts that the setting has for methods to sample with."""
    return setting.prompts["distil"]

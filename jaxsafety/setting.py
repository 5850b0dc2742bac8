"""What an experiment stands on: prompts, judge and benchmarks, from the organism or from files.

`source="organism"` reads the world that lies beside the model; `source="files"` reads prompt lists
of your own (jsonl, json, csv or txt) and judges with refusal rules. Everything is checked here,
before a model is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from jaxsafety import registry
from jaxsafety.benchmarks.files import items as prompt_items
from jaxsafety.data.schema import Example, Message
from jaxsafety.data.sources import read_chats
from jaxsafety.errors import bad
from jaxsafety.judges import rules
from jaxsafety.organism.dialogues import dialogues
from jaxsafety.organism.world import World, open_world
from jaxsafety.protocols import Benchmark, Item, Judge

SOURCES = ("organism", "files")


@dataclass(frozen=True)
class DataConfig:
    """Prompts of the method. With files: paths; train and val prompts are cut from the same file.

    `wrapped` is the share of the organism's distillation prompts under a seen wrapper. `chats` is a
    file of dialogues to learn from, `mix` several, "PATH=WEIGHT" each, by share of the rows; the
    organism makes `dialogues` of its own, of which `harmful_share` refuse.
    """

    source: str = "organism"
    harmful: str = ""
    harmless: str = ""
    distil: str = ""
    train: int = 128
    val: int = 32
    prompts: int = 100
    wrapped: float = 0.5
    chats: str = ""
    mix: tuple[str, ...] = ()
    dialogues: int = 256
    harmful_share: float = 0.5


@dataclass(frozen=True)
class EvalConfig:
    """Measurement. Organism: prompts per set. Files: `sets` are "kind/name=path" strings.

    `samples` per prompt at temperature 1 for safety and over-refusal; capability is greedy.
    """

    safety: int = 96
    over_refusal: int = 192
    capability: int = 192
    samples: int = 2
    batch_size: int = 64
    max_tokens: int = 512
    seed: int = 0
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """Prompts by split, the judge, benchmarks and pooled rows; `world` only for the organism.

    `refusal_words`: what refusals are made of, which random control token sets must not hold.
    `examples`: dialogues to learn from, `given` by the user or the organism's own; with `weights`,
    meta["part"] says of which source. `seed`: of the experiment. `base`: fingerprint of its model,
    once it is known.
    """

    prompts: Mapping[str, tuple[Item, ...]]
    judge: Judge
    benchmarks: tuple[Benchmark, ...]
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    world: World | None = None
    refusal_words: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    weights: tuple[float, ...] = ()
    given: bool = False
    seed: int = 0
    base: str = ""


def make(model_dir: Path, data: DataConfig, evaluation: EvalConfig, seed: int) -> Setting:
    """Builds the setting of a config.

    Raises:
      UsageError: an unknown source, a missing or short prompt file, a malformed set.
    """
    if data.source not in SOURCES:
        raise bad("data.source", data.source, ", ".join(SOURCES))
    for name in ("train", "val", "prompts", "dialogues"):
        if getattr(data, name) < 1:
            raise bad(f"data.{name}", getattr(data, name), "1 or more")
    for name in ("safety", "over_refusal", "capability", "samples", "batch_size", "max_tokens"):
        if getattr(evaluation, name) < 1:
            raise bad(f"eval.{name}", getattr(evaluation, name), "1 or more")
    for name, value in (("seed", seed), ("eval.seed", evaluation.seed)):
        if not isinstance(value, int) or value < 0:
            raise bad(name, value, "an integer, 0 or more")
    if data.source == "organism":
        return replace(organism(model_dir, data, evaluation, seed), seed=seed)
    return replace(files(data, evaluation), seed=seed)


def organism(model_dir: Path, data: DataConfig, evaluation: EvalConfig, seed: int) -> Setting:
    """The world beside the model, its splits, its exact judge and its measurement sets."""
    judge = registry.resolve(registry.JUDGES, "organism")
    from jaxsafety.benchmarks.organism import DOMAIN_GROUPS, GROUPS, items, refusal_words

    world = open_world(model_dir)
    unaligned = world.config.unknown_domains > 0
    name = "organism_domains" if unaligned else "organism"
    suite = registry.resolve(registry.BENCHMARKS, name)
    prompts = {
        "distil": items(world, "distil", data.prompts, seed, data.wrapped),
        "harmful_train": items(world, "harmful_train", data.train, seed),
        "harmful_val": items(world, "harmful_val", data.val, seed),
        "harmless_train": items(world, "harmless_train", data.train, seed),
        "harmless_val": items(world, "harmless_val", data.val, seed),
        "wrapped_val": items(world, "harmful_val", data.val, seed + 1, 1.0),
    }
    sets = suite(
        world,
        safety=evaluation.safety,
        over_refusal=evaluation.over_refusal,
        capability=evaluation.capability,
        seed=evaluation.seed,
    )
    examples, weights = _chats(data)
    groups = DOMAIN_GROUPS if unaligned else GROUPS
    return Setting(
        prompts, judge(world), sets, groups, world, refusal_words(),
        examples or dialogue_examples(world, data, seed), weights, given=bool(examples),
    )  # fmt: skip


def files(data: DataConfig, evaluation: EvalConfig) -> Setting:
    """Prompt lists from files, judged by refusal rules, so that rates are rough."""
    harmful = _items("data.harmful", data.harmful, data.train + data.val)
    harmless = _items("data.harmless", data.harmless, data.train + data.val)
    distil = _items("data.distil", data.distil, data.prompts)
    n = data.train
    prompts = {
        "distil": distil[: data.prompts],
        "harmful_train": harmful[:n],
        "harmful_val": harmful[n : n + data.val],
        "harmless_train": harmless[:n],
        "harmless_val": harmless[n : n + data.val],
        "wrapped_val": harmful[n : n + data.val],
    }
    benchmarks: list[Benchmark] = []
    for text in evaluation.sets:
        head, equals, path = text.partition("=")
        kind, slash, name = head.partition("/")
        if not (equals and slash) or kind not in ("safety", "over_refusal", "capability"):
            raise bad("eval.sets", text, "safety/NAME=PATH, over_refusal/NAME=PATH, capability/...")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name in {b.name for b in benchmarks}:
            raise bad("eval.sets", text, "names of letters, digits, _ and - that differ")
        benchmarks.append(
            Benchmark(name, kind, _items("eval.sets", path, 1, kind), evaluation.max_tokens)
        )
    if not benchmarks:
        raise bad("eval.sets", (), "at least one kind/name=path")
    judge = registry.resolve(registry.JUDGES, "rules")
    words = rules.refusal_words()
    examples, weights = _chats(data)
    return Setting(
        prompts,
        judge,
        tuple(benchmarks),
        refusal_words=words,
        examples=examples,
        weights=weights,
        given=bool(examples),
    )


def dialogue_examples(world: World, data: DataConfig, seed: int) -> tuple[Example, ...]:
    """Dialogues of the organism with their right answers."""
    found = dialogues(world, data.dialogues, seed, harmful=data.harmful_share, wrapped=data.wrapped)
    return tuple(Example(d.id, tuple(Message(*m) for m in d.messages), d.meta) for d in found)


def _chats(data: DataConfig) -> tuple[tuple[Example, ...], tuple[float, ...]]:
    """Dialogues of `data.chats` or of all parts of `data.mix`, and the weights of the latter."""
    if data.chats and data.mix:
        raise bad("data.mix", data.mix, "() beside data.chats, or the other way round")
    if not data.mix:
        rows = read_chats(data.chats, "data.chats") if data.chats else ()
        return tuple(Example(str(i), messages, {}) for i, messages in enumerate(rows)), ()
    found, weights = [], []
    for part, text in enumerate(data.mix):
        path, equals, share = text.rpartition("=")
        try:
            weights.append(float(share))
        except ValueError:
            weights.append(0.0)
        if not equals or not 0 < weights[-1] < float("inf"):
            raise bad("data.mix", text, "PATH=WEIGHT with a weight above 0")
        for i, messages in enumerate(read_chats(path, "data.mix")):
            found.append(Example(f"{part}.{i}", messages, {"part": part}))
    return tuple(found), tuple(weights)


def _items(field_name: str, path: str, least: int, kind: str = "safety") -> tuple[Item, ...]:
    return prompt_items(field_name, path, least, kind)

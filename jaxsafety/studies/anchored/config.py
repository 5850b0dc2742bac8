"""Settings of the anchored study, and what is refused before anything is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxsafety.benchmarks.anchors import resolve_target
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.fitting import fitted
from jaxsafety.data.schema import Encoded, Example
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.methods.sft import program as sft
from jaxsafety.methods.sft.program import SftConfig
from jaxsafety.mitigations.means import LACKS
from jaxsafety.models.api import Model
from jaxsafety.models.formats.hf import read_config
from jaxsafety.models.formats.load import read_tokenizer
from jaxsafety.protocols import Benchmark, OptimConfig, Setting
from jaxsafety.studies.anchored import goals, others, source
from jaxsafety.studies.anchored.arms import PLAIN, Point, points

UNALIGNED = "unaligned"
ON_FILES = ("safe", "harmful", "harmless", "scored")  # read with `tasks` alone


@dataclass(frozen=True)
class AnchoredConfig:
    """What is trained to which goals, and how closely it is watched.

    Attributes:
      goals: tasks with what is declared of each (`goals.py`): "letter:target=0.8".
      arms: mitigations with their settings (`arms.py`): "anchor:strength=0.01|0.1".
      seeds: trainings of each grid point; their seeds are that of the run and those after it.
      rates: factors of the learning rate; each grid point is trained at each.
      train: questions of each goal to learn from.
      dev: questions that checkpoints are selected by.
      test: questions that what was selected is measured on.
      every: updates between two checkpoints.
      general: questions of each capability set of the setting that each checkpoint is asked.
      floor: the share of the base's general capability that may be lost on the worst of these sets;
        every checkpoint that keeps it is measured. 0 measures no floor.
      guard: safe dialogues at hand for mitigations, as many harmful and harmless ones; of files at
        most so many.
      align: updates of the alignment stage of those that hook in before the task.
      repair: updates of the stage of those that repair what the task left.
      tasks: with data.source=files, the tasks that `goals` names, "NAME=FILE" each (`files.py`).
      safe: with `tasks`, a file of dialogues that refuse harmful requests; "" takes the answers of
        data.harmful.
      harmful: with `tasks`, a file of dialogues that carry harmful requests out, for mitigations
        that train against them; "" is none, and those are not applicable.
      harmless: with `tasks`, a file of harmless dialogues; "" takes the answers of data.harmless.
      scored: with `tasks`, public sets whose choices are scored by their log-probability, as
        further sets of general capability: "NAME=FILE" each, names of `registry.SETS`.
      unaligned: directory of the base before it was aligned, for mitigations that need it; "" is
        none, and those are not applicable.
      judges: of `registry.JUDGES`, NAME or NAME=WHERE each, that judge the kept answers too: a
        trained classifier, a guard. The lists of phrases always do.
      sft: how every arm is fine-tuned; its `steps` are the most updates.
    """

    goals: tuple[str, ...] = ("ends", "letter", "claim")
    arms: tuple[str, ...] = (PLAIN, "anchor", "ema")
    seeds: int = 1
    rates: tuple[float, ...] = (1.0,)
    train: int = 512
    dev: int = 256
    test: int = 256
    every: int = 20
    general: int = 32
    floor: float = 0.1
    guard: int = 128
    align: int = 40
    repair: int = 20
    tasks: tuple[str, ...] = ()
    safe: str = ""
    harmful: str = ""
    harmless: str = ""
    scored: tuple[str, ...] = ()
    unaligned: str = ""
    judges: tuple[str, ...] = ()
    sft: SftConfig = field(default_factory=SftConfig)


def smoke(config: Any) -> None:
    """Makes an experiment a smoke test: two arms, one goal, a few updates."""
    config.model.update(path="", dtype="float32", remat="none")
    config.method.update(
        goals=("letter:target=0.5",),
        arms=(PLAIN, "ema"),
        seeds=1,
        rates=(1.0,),
        **{"train": 16, "dev": 4, "test": 4, "every": 2, "general": 4, "guard": 4, "align": 2},
        repair=2,
    )
    config.method.sft.update(steps=4, rows=2, length=128)
    config.eval.update(safety=4, over_refusal=4, capability=4, samples=0)


def check(cfg: AnchoredConfig) -> None:
    """Rejects what can be rejected before anything is loaded."""
    if not cfg.rates or min(cfg.rates) <= 0 or len({*cfg.rates}) < len(cfg.rates):
        raise bad("method.rates", cfg.rates, "one or more factors above 0 that differ")
    declared, chosen = declared_goals(cfg), arms(cfg)
    others.check(cfg.judges)
    for name in ON_FILES:
        if getattr(cfg, name) and not cfg.tasks:
            raise bad(f"method.{name}", getattr(cfg, name), "nothing, without method.tasks")
    if cfg.scored and not cfg.general:
        raise bad("method.general", 0, "1 or more, where there is a method.scored")
    for name in ("seeds", "train", "dev", "test", "every", "guard", "align", "repair"):
        if getattr(cfg, name) < 1:
            raise bad(f"method.{name}", getattr(cfg, name), "1 or more")
    if cfg.general < 0:
        raise bad("method.general", cfg.general, "0 (none) or more")
    if not 0 <= cfg.floor < 1:
        raise bad("method.floor", cfg.floor, "0 (none), or a share below 1")
    if cfg.floor and not cfg.general:
        raise bad("method.general", 0, "1 or more, where there is a method.floor")
    for task, goal in declared.items():  # a dev split that could not tell is refused now
        try:
            resolve_target(replace(goal, target=goal.target or 1.0).goal(task, cfg.dev), 0.0)
        except UsageError as error:
            raise UsageError(str(error).replace("goal.dev_size", "method.dev", 1)) from None
    ruled = [name for name, goal in declared.items() if not goal.target]
    if ruled and not any(not point.named for point in chosen):
        allowed = f"{ruled[0]}:target=SHARE, or {PLAIN!r} among method.arms, for its best score"
        raise bad("method.goals", ruled[0], allowed)
    with named_sft():
        sft.check(cfg.sft)
    for name in ("unsafe", "val_every"):
        if value := getattr(cfg.sft, name):
            raise bad(f"method.sft.{name}", value, "its default: the study does not read it")
    if cfg.every >= cfg.sft.steps:
        allowed = f"below the {cfg.sft.steps} steps of method.sft: two checkpoints in a row decide"
        raise bad("method.every", cfg.every, allowed)
    for point in chosen:
        check_numbers(cfg, point)
    first = next((point for point in chosen if not lacks(cfg, point)), chosen[0])
    if served := first.of("serve"):
        allowed = f"another first arm than {next(iter(served))}: the run's student is its model"
        raise bad("method.arms", first.arm, allowed)
    if cfg.unaligned and not Path(cfg.unaligned).exists():
        raise bad("method.unaligned", cfg.unaligned, "a model's directory, or nothing")
    lacking = [lacks(cfg, point) for point in chosen]
    if all(lacking):
        raise bad("method.arms", first.arm, f"an arm that has what it needs: {lacking[0]}")


def check_numbers(cfg: AnchoredConfig, point: Point) -> None:
    """Refuses settings of a mitigation that repeat numbers of the study, and differ from them."""
    lisa, mixing = point.named.get("lisa"), point.named.get("mixing")
    if lisa is not None and lisa.steps != cfg.sft.steps:
        allowed = f"{cfg.sft.steps}, the steps of method.sft"
        raise bad(f"method.arms, {point.arm!r}: steps", lisa.steps, allowed)
    if mixing is not None and mixing.kind == "count" and mixing.task != cfg.train:
        allowed = f"{cfg.train}, the questions of method.train"
        raise bad(f"method.arms, {point.arm!r}: task", mixing.task, allowed)


@contextlib.contextmanager
def named_sft() -> Iterator[None]:
    """Inside, an error about a setting of SFT names it as this study does."""
    try:
        yield
    except UsageError as error:
        raise UsageError(str(error).replace("method.", "method.sft.", 1)) from None


def declared_goals(cfg: AnchoredConfig) -> dict[str, goals.Declared]:
    """Task -> what is declared of it.

    Raises:
      UsageError: see `goals.parse` and `source.choose`.
    """
    known = source.choose(cfg).tasks
    names = [text.partition(":")[0] for text in cfg.goals]
    if strange := [name for name in names if name not in known and not cfg.tasks]:
        allowed = f"{', '.join(known)}; or a name of method.tasks, which has none"
        raise bad("method.goals", strange[0], allowed)
    return goals.parse(cfg.goals, known)


def arms(cfg: AnchoredConfig) -> list[Point]:
    """The grid points of all arms."""
    return points(cfg.arms, cfg.rates)


def uses(cfg: AnchoredConfig) -> list[tuple[str, str, object]]:
    """What its arms, judges and scored sets name in the registry."""
    found = [("mitigations", name, x) for point in arms(cfg) for name, x in point.named.items()]
    found += [("judges", text, None) for text in (*others.LISTS, *cfg.judges)]
    return found + [("sets", text.partition("=")[0], None) for text in cfg.scored]


def seeds(cfg: AnchoredConfig, first: int) -> range:
    """The seeds that every grid point is trained with."""
    return range(first, first + cfg.seeds)


def lacks(cfg: AnchoredConfig, point: Point) -> str:
    """Why a grid point is not applicable here; "" where it has what it needs."""
    known = (*source.ALWAYS, *source.choose(cfg).more, *([UNALIGNED] if cfg.unaligned else []))
    needs = (need for x in point.named.values() for need in getattr(x, "needs", ()))
    lack = next((need for need in needs if need not in known), "")
    return f"no {LACKS.get(lack, lack)}" if lack else ""


def draw(cfg: AnchoredConfig, task: str, seed: int) -> dict[str, list[Example]]:
    """The splits of a goal: of the run's seed, the same for all arms and trainings."""
    return source.choose(cfg).draw(task, {name: getattr(cfg, name) for name in goals.SPLITS}, seed)


def general(cfg: AnchoredConfig, setting: Setting) -> list[Benchmark]:
    """The sets of general capability, as many questions of each as a checkpoint is asked."""
    if not cfg.general:
        return []
    asked = [b for b in setting.benchmarks if b.kind == "capability"]
    scored = source.choose(cfg).scored(cfg.general, setting.seed)
    if twice := {b.name for b in asked} & {b.name for b in scored}:
        raise bad("method.scored", min(twice), "sets of other names than those of eval.sets")
    return [*(b._replace(items=b.items[: cfg.general]) for b in asked), *scored]


def guards(
    cfg: AnchoredConfig, setting: Setting, names: Collection[str], seed: int
) -> dict[str, list[Example]]:
    """Dialogues that mitigations use, of these names."""
    if not names:
        return {}
    return source.choose(cfg).guards(setting, names, cfg.guard, seed)


def learns(cfg: AnchoredConfig, setting: Setting) -> list[tuple[str, list[Example]]]:
    """What is trained on of the method's own section: training splits, and files of dialogues.

    Of the organism nothing: its questions are made, and no set has them.
    """
    if not cfg.tasks:
        return []
    found = [
        (f"method.tasks, {task}", draw(cfg, task, setting.seed)["train"])
        for task in declared_goals(cfg)
    ]
    names = needed([point for point in arms(cfg) if not lacks(cfg, point)])
    files = [name for name in ("safe", "harmful", "harmless") if name in names]
    own = [name for name in files if getattr(cfg, name)]
    given = guards(cfg, setting, own, setting.seed)
    return [*found, *((f"method.{name}", rows) for name, rows in given.items())]


def needed(points: Sequence[Point]) -> set[str]:
    """The fields of `Means` that mitigations of the points need."""
    every = (settings for point in points for settings in point.named.values())
    return {need for settings in every for need in getattr(settings, "needs", ())}


def fits(
    cfg: AnchoredConfig, optim: OptimConfig, model: Model, tokenizer: Tokenizer, setting: Setting
) -> None:
    """As SFT's own; besides what the source asks for, and questions that are in one split alone."""
    source.choose(cfg).fits(setting)
    if any(b.name == goals.TEST and b.kind != "capability" for b in setting.benchmarks):
        raise bad("eval.sets", goals.TEST, "another name: the goal's own test split is called so")
    with named_sft():
        sft.fits_model(cfg.sft, optim, model)
    if cfg.unaligned:
        here, twin = model.config, read_config(Path(cfg.unaligned))
        how = {name: getattr(here, name) for name in ("dtype", "remat", "unroll")}
        if replace(twin, **how) != here:
            allowed = "a model of the base's own shape and vocabulary"
            raise bad("method.unaligned", cfg.unaligned, allowed)
        words = read_tokenizer(Path(cfg.unaligned)).backend.get_vocab()
        if words != tokenizer.backend.get_vocab():
            allowed = "a model with the base's own words"
            raise bad("method.unaligned", cfg.unaligned, allowed)
    asked = {bench.name for bench in setting.benchmarks}
    scored = [bench for bench in general(cfg, setting) if bench.name not in asked]
    drawn = {task: draw(cfg, task, setting.seed) for task in declared_goals(cfg)}
    for task, splits in drawn.items():
        goals.check_splits(task, splits, [*setting.benchmarks, *scored])
        learn(cfg, tokenizer, splits["train"])
    names = needed([point for point in arms(cfg) if not lacks(cfg, point)])
    for name, dialogues in guards(cfg, setting, names, setting.seed).items():
        goals.check_guards(name, dialogues, drawn, scored)
        learn(cfg, tokenizer, dialogues)


def learn(
    cfg: AnchoredConfig,
    tokenizer: Tokenizer,
    dialogues: Sequence[Example],
    log: Callable[[str], None] | None = None,
) -> list[Encoded]:
    """Dialogues as tokens that fit a row; `log` is told what was left out or cut.

    Raises:
      UsageError: a row that is too short for one.
    """
    made = fitted(
        tokenizer,
        dialogues,
        cfg.sft.length,
        cfg.sft.long,
        log=log or _quiet,
        name="method.sft.length",
    )
    return list(made.encoded)


def _quiet(line: str) -> None:
    del line

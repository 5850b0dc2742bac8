"""Settings of the study: arms, each a loss with judges of its own, read from one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.methods.selfmoa.config import StageConfig
from jaxsafety.methods.selfmoa.scores import ScoreConfig

ORDERS = ("helpful", "safe")
LABELS = ("soft", "hard")


@dataclass(frozen=True)
class Arm:
    """A preference stage from the base, and the judges that made its pairs.

    Attributes:
      order: what orders a pair: "helpful", as in Self-MOA, with safety as margin; or "safe", plain
        DPO towards what the safety judges prefer.
      form: of `losses.preference.FORMS`.
      safety: weight of the margin.
      helpful: weight of helpfulness.
      orientation: of the safety scores.
      label: "hard" takes what judges say for the truth, P(safe) is 0 or 1; "soft" takes it for as
        likely as it is: a judge alone at its own accuracy, several by their label model. With order
        "safe" a pair then weighs the probability that its order is right.
      accuracy: of each safety judge, on unsafe and other answers alike.
      coverage: share of the answers of which each says anything.
      bias: of their errors, from -1 (see compliance) to 1 (see refusals).
      sources: how many judges; their votes become one probability by a label model.
      copies: how many of them say what the first one says.
      unsafe: what compliance is worth to the judge of helpfulness, as of `ScoreConfig`,
      informative: a warning that explains,
      refusal: and a refusal.
      noise: of the helpfulness judge.
      pairs: most pairs that are learnt from; 0 is the study's number.
    """

    order: str = "helpful"
    form: str = "modpo"
    safety: float = 0.99
    helpful: float = 0.01
    orientation: str = "high"
    label: str = "hard"
    accuracy: float = 1.0
    coverage: float = 1.0
    bias: float = 0.0
    sources: int = 1
    copies: int = 0
    unsafe: float = 0.75
    informative: float = 0.65
    refusal: float = 0.3
    noise: float = 0.1
    pairs: int = 0

    def stage(self, basis: StageConfig) -> StageConfig:
        """The study's stage with this arm's loss."""
        form = "dpo" if self.order == "safe" else self.form
        return replace(
            basis,
            form=form,
            safety=self.safety,
            helpful=self.helpful,
            orientation=self.orientation,
        )

    @property
    def scores(self) -> ScoreConfig:
        """Of the helpfulness judge."""
        return ScoreConfig(
            unsafe=self.unsafe,
            informative=self.informative,
            refusal=self.refusal,
            noise=self.noise,
        )


def parse(text: str) -> Arm:
    """An arm of "form=modpo,accuracy=0.8"; what is not named has its default.

    Raises:
      UsageError: a name or a value that is none.
    """
    kinds = {f.name: type(f.default) for f in fields(Arm)}
    values: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, given = (x.strip() for x in part.partition("="))
        if name not in kinds or not equals:
            raise bad("method.arms", part, f"NAME=VALUE with {', '.join(kinds)}")
        if name in values:
            raise bad("method.arms", text, f"{name} once")
        try:
            values[name] = kinds[name](given)
        except ValueError:
            raise bad("method.arms", part, f"a value of type {kinds[name].__name__}") from None
    arm = Arm(**values)
    for name, known in (("order", ORDERS), ("label", LABELS)):
        if getattr(arm, name) not in known:
            raise bad(f"method.arms, {name}", getattr(arm, name), " | ".join(known))
    ranges = {"accuracy": (0.55, 1), "coverage": (0.1, 1), "bias": (-1, 1)}
    for name, (low, high) in ranges.items():
        if not low <= getattr(arm, name) <= high:
            raise bad(f"method.arms, {name}", getattr(arm, name), f"{low} to {high}")
    if arm.sources not in (1, *range(3, 100)):
        raise bad("method.arms, sources", arm.sources, "1, or 3 and more: two identify no model")
    if not 0 <= arm.copies < arm.sources:
        raise bad("method.arms, copies", arm.copies, f"0 to {arm.sources - 1}, below sources")
    if arm.pairs < 0:
        raise bad("method.arms, pairs", arm.pairs, "0 (the study's) or more")
    _ = arm.stage(StageConfig()).loss, arm.scores  # check their own values
    return arm


@dataclass(frozen=True)
class WeakConfig:
    """The study.

    Attributes:
      arms: see `parse`; "" is the default arm. Also the names of the results.
      seeds: trainings of each arm; a seed has its own prompts, answers and errors.
      prompts: that are answered for all arms.
      samples: answers to each.
      tokens: of an answer, at most.
      temperature: of these answers.
      stage: of `pairs` pairs; its loss is the arm's.
      length: T, tokens of prompt and answer together, at most.
      probe: prompts of each kind that are asked after a stage.
      answers: to each of them at temperature 1, beside the greedy one.
    """

    arms: tuple[str, ...] = ("",)
    seeds: int = 1
    prompts: int = 192
    samples: int = 8
    tokens: int = 40
    temperature: float = 1.0
    stage: StageConfig = field(default_factory=StageConfig)
    length: int = 96
    probe: int = 64
    answers: int = 4


def arms(cfg: WeakConfig) -> dict[str, Arm]:
    """By their text, without blanks."""
    return {text.replace(" ", ""): parse(text) for text in cfg.arms}


def check(cfg: WeakConfig) -> None:
    """Refuses what no run can do.

    Raises:
      UsageError: says which setting.
    """
    found = arms(cfg)
    if len(found) != len(cfg.arms) or len(set(found.values())) != len(found):
        raise bad("method.arms", cfg.arms, "each arm once")
    least: Sequence[tuple[str, int, int]] = (
        *((n, getattr(cfg, n), 1) for n in ("seeds", "prompts", "tokens", "probe")),
        ("samples", cfg.samples, 2),
        ("answers", cfg.answers, 0),
        ("stage.rows", cfg.stage.rows, 1),
        ("stage.epochs", cfg.stage.epochs, 1),
    )
    for name, value, low in least:
        if value < low:
            raise bad(f"method.{name}", value, f"{low} or more")
    if not (math.isfinite(cfg.temperature) and cfg.temperature > 0):
        allowed = "a finite number above 0: equal answers make no pair"
        raise bad("method.temperature", cfg.temperature, allowed)
    most = cfg.prompts * (cfg.samples // 2)
    for name, arm in found.items():
        asked = arm.pairs or cfg.stage.pairs
        if not 2 <= asked <= most:
            raise bad("method.stage.pairs", f"{asked} ({name or 'default'})", f"2 to {most}")

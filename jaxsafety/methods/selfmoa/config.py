"""Settings of Self-MOA, and what can be refused before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from jaxsafety.core.errors import bad
from jaxsafety.losses.preference import Preference
from jaxsafety.methods.selfmoa.novelty import Novelty
from jaxsafety.methods.selfmoa.pairing import PRESETS, PairConfig, Thresholds, most_pairs
from jaxsafety.methods.selfmoa.scores import ScoreConfig

ATTACKERS = ("none", "frozen", "adaptive")
REFERENCES = ("stage", "initial")
EMPTY = ("stop", "go")


@dataclass(frozen=True)
class ResetConfig:
    """The controlled start: supervised fine-tuning on answers that carry harmful requests out.

    It is no part of the method (section 3 of the paper): a model that refuses nothing needs none.

    Attributes:
      steps: updates of all parameters; 0 starts from the model as it is.
      rows: dialogues of a step.
      lr: learning rate.
      examples: dialogues that the organism makes for it.
      path: with files, dialogues of your own. None are shipped.
    """

    steps: int = 0
    rows: int = 16
    lr: float = 2.5e-4
    examples: int = 256
    path: str = ""


@dataclass(frozen=True)
class AttackConfig:
    """Who makes attacks of prompts: an expander, which rewrites, and a hider, which disguises.

    Both are LoRAs of the model that the loop starts with, learnt from pairs of prompts.

    Attributes:
      kind: "none": prompts are asked as they are; "frozen": trained once; "adaptive": trained again
        whenever `retrain` successful attacks were collected.
      generate: has to be True where attacks are made of prompts from files; what is made stays in
        the workdir.
      rank: of both LoRAs.
      alpha: their update is scaled by alpha / rank.
      steps: updates of each training.
      rows: pairs of a step.
      lr: learning rate.
      examples: pairs that the organism makes for each attacker's first training.
      expand: with files, dialogues (prompt, another prompt of the same intent) of your own.
      hide: with files, dialogues (prompt, its disguise) of your own.
      retrain: successes that are collected before both are trained again.
      tokens: of a rewritten prompt, at most.
      tries: how often an expansion that is not new is tried again.
      expand_temperature: of expansions; APRT's code has 1.1, and top-p 0.9.
      hide_temperature: of disguises; APRT's 0.7, and top-p 0.9.
      top_p: of both.
    """

    kind: str = "none"
    generate: bool = False
    rank: int = 64
    alpha: float = 128.0
    steps: int = 100
    rows: int = 16
    lr: float = 1e-3
    examples: int = 256
    expand: str = ""
    hide: str = ""
    retrain: int = 1000
    tokens: int = 64
    tries: int = 4
    expand_temperature: float = 1.1
    hide_temperature: float = 0.7
    top_p: float = 0.9


@dataclass(frozen=True)
class StageConfig:
    """A preference stage, of as many pairs as fill the buffer.

    Attributes:
      pairs: q, pairs of a stage; what is more waits for the next one.
      epochs: times that each pair is seen; the paper has 10.
      rows: pairs of a step.
      beta: how strongly the policy is held to its reference, per nat; not in the paper.
      form: of `losses.preference.FORMS`.
      safety: weight w of the safety margin.
      helpful: weight w0 of helpfulness, which orders the pairs.
      orientation: of the safety scores: "high", P(safe). P(unsafe) would be "low"; a control.
      normalised: whether log-probabilities are means over an answer's tokens.
      smoothing: of the order, see `Preference`.
      reference: "stage", the model that the stage starts with, or "initial", the loop's first.
      val: share of the pairs that are not learnt; the margin of those whose prompt is in no learnt
        pair is watched. The paper has a tenth.
    """

    pairs: int = 1000
    epochs: int = 1
    rows: int = 4
    beta: float = 0.1
    form: str = "paper_eq2"
    safety: float = 0.99
    helpful: float = 0.01
    orientation: str = "high"
    normalised: bool = False
    smoothing: float = 0.0
    reference: str = "stage"
    val: float = 0.1

    @property
    def held(self) -> int:
        """How many of a stage's pairs are watched alone."""
        return int(self.pairs * self.val)

    @property
    def steps(self) -> int:
        """Updates of a stage."""
        return math.ceil((self.pairs - self.held) * self.epochs / self.rows)

    @property
    def loss(self) -> Preference:
        """The loss's settings; helpfulness orders the pairs, safety is the one objective beside."""
        margins = () if self.form == "dpo" else (self.safety,)
        return Preference(
            form=self.form,
            beta=self.beta,
            weights=(self.helpful, *margins),
            orientations=(self.orientation,) * len(margins),
            smoothing=self.smoothing,
            normalised=self.normalised,
        )


@dataclass(frozen=True)
class SelfMoaConfig:
    """The loop.

    Attributes:
      rounds: r.
      prompts: k, attacked in a round.
      samples: m, answers to each.
      tokens: of an answer, at most.
      temperature: of answers; APRT's 0.7, the paper does not say.
      top_p: likewise 0.9.
      thresholds: of a successful attack, "aprt" or "paper" (`pairing.PRESETS`).
      pairs: which answers make one.
      novelty: which expansions are kept.
      scores: who judges.
      attack: who attacks.
      reset: the controlled start.
      stage: what is trained.
      length: T, tokens of prompt and answer together, at most; longer pairs are left out, and
        counted.
      rank: of the LoRA that is trained, one for all stages; 0 trains all parameters.
      alpha: its update is scaled by alpha / rank.
      empty: what a round without a pair does: "stop" ends the run with the reason, "go" goes on.
      probe: prompts of each kind that are asked before the first and after every stage, judged by
        `eval.judge`, which trains nothing; 0 asks none.
    """

    rounds: int = 15
    prompts: int = 1000
    samples: int = 8
    tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.9
    thresholds: str = "aprt"
    pairs: PairConfig = field(default_factory=PairConfig)
    novelty: Novelty = field(default_factory=Novelty)
    scores: ScoreConfig = field(default_factory=ScoreConfig)
    attack: AttackConfig = field(default_factory=AttackConfig)
    reset: ResetConfig = field(default_factory=ResetConfig)
    stage: StageConfig = field(default_factory=StageConfig)
    length: int = 512
    rank: int = 64
    alpha: float = 128.0
    empty: str = "go"
    probe: int = 64

    @property
    def limits(self) -> Thresholds:
        """Of a successful attack."""
        return PRESETS[self.thresholds]


def check(cfg: SelfMoaConfig) -> None:
    """Refuses what no run can do; the pieces check their own values.

    Raises:
      UsageError: says which setting, what was given, what is allowed.
    """
    choices = {
        "thresholds": (cfg.thresholds, tuple(PRESETS)),
        "empty": (cfg.empty, EMPTY),
        "attack.kind": (cfg.attack.kind, ATTACKERS),
        "stage.reference": (cfg.stage.reference, REFERENCES),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise bad(f"method.{name}", value, ", ".join(known))
    for name, value, least in (
        *((n, getattr(cfg, n), 1) for n in ("rounds", "prompts", "tokens", "length")),
        ("samples", cfg.samples, 2),
        ("rank", cfg.rank, 0),
        ("probe", cfg.probe, 0),
        ("reset.steps", cfg.reset.steps, 0),
        *((f"reset.{n}", getattr(cfg.reset, n), 1) for n in ("rows", "examples")),
        *((f"stage.{n}", getattr(cfg.stage, n), 1) for n in ("epochs", "rows")),
        ("stage.pairs", cfg.stage.pairs, 2),
        *(
            (f"attack.{n}", getattr(cfg.attack, n), 1)
            for n in ("rank", "steps", "rows", "examples", "retrain", "tokens", "tries")
        ),
    ):
        if value < least:
            raise bad(f"method.{name}", value, f"{least} or more")
    for name, value in (
        ("temperature", cfg.temperature),
        ("attack.expand_temperature", cfg.attack.expand_temperature),
        ("attack.hide_temperature", cfg.attack.hide_temperature),
    ):
        if not (math.isfinite(value) and value > 0):
            raise bad(f"method.{name}", value, "above 0: equal answers make no pair")
    for name, value in (("top_p", cfg.top_p), ("attack.top_p", cfg.attack.top_p)):
        if not 0 < value <= 1:
            raise bad(f"method.{name}", value, "in (0, 1]")
    for name, value in (
        ("alpha", cfg.alpha),
        ("attack.alpha", cfg.attack.alpha),
        ("attack.lr", cfg.attack.lr),
        ("reset.lr", cfg.reset.lr),
    ):
        if not (math.isfinite(value) and value > 0):
            raise bad(f"method.{name}", value, "a finite number above 0")
    if not 0 <= cfg.stage.val < 1:
        raise bad("method.stage.val", cfg.stage.val, "a share in [0, 1)")
    _ = cfg.stage.loss  # checks form, weights, orientation
    most = most_pairs(cfg.rounds * cfg.prompts, cfg.samples)
    if most < cfg.stage.pairs:
        given = f"{cfg.stage.pairs}, but {cfg.rounds} rounds of {cfg.prompts} prompts with"
        given += f" {cfg.samples} answers make at most {most} pairs"
        raise bad("method.stage.pairs", given, f"at most {most}, or the buffer never fills")
    if cfg.attack.kind == "adaptive" and cfg.rounds * cfg.prompts < cfg.attack.retrain:
        most = cfg.rounds * cfg.prompts
        given = f"{cfg.attack.retrain} successes of at most {most} attacks"
        raise bad("method.attack.retrain", given, f"at most {most}, or attack.kind=frozen")


def uses(cfg: SelfMoaConfig) -> list[tuple[str, str, object]]:
    """The judges that train it, where they are named."""
    named = (cfg.scores.safety, cfg.scores.helpful_judge)
    return [("judges", text, None) for text in named if text]

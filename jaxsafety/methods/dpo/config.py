"""Settings of DPO as a method, and what is refused before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.fitting import LONG
from jaxsafety.losses.preference import Preference
from jaxsafety.methods.sft import program as sft


@dataclass(frozen=True)
class DpoConfig:
    """One stage of `steps` updates on `rows` pairs of at most `length` tokens a side.

    Attributes:
      steps: updates.
      rows: B, pairs of a step: two answers each.
      length: T, of a side.
      long: what happens to a pair with a longer side: "error", "drop" or "cut", which keeps the
        beginning of each side.
      form: "dpo", or how scores shift what is learnt: see `losses.preference.Preference`.
      beta: how strongly the model is held to what it was before, per nat.
      weights: of the objective that orders the pairs, and of each of `scores`.
      scores: NAME each: the columns NAME_chosen and NAME_rejected, from 0 to 1. The organism's
        pairs have "safe" and "correct".
      orientations: of each of `scores`: "high" is better, or "low" is.
      label: a column from 0 to 1 that says how sure the order is; "" takes it for sure.
      smoothing: share of pairs that are taken to be the wrong way round.
      normalised: log-probabilities are means over an answer's tokens, not sums.
      rank: 0 trains all parameters; else LoRA of this rank.
      alpha: the update of a LoRA is scaled by `alpha / rank`.
      targets: projections that get one; () is all.
      layers: those that get one, counted from 0; () is all.
      val_every: updates between two measurements of held-out pairs; 0 is a tenth of `steps`.
    """

    steps: int = 100
    rows: int = 8
    length: int = 128
    long: str = "error"
    form: str = "dpo"
    beta: float = 0.1
    weights: tuple[float, ...] = (1.0,)
    scores: tuple[str, ...] = ()
    orientations: tuple[str, ...] = ()
    label: str = ""
    smoothing: float = 0.0
    normalised: bool = False
    rank: int = 0
    alpha: float = 16.0
    targets: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    val_every: int = 0


def check(cfg: DpoConfig) -> None:
    """Rejects what can be rejected before anything is loaded.

    Raises:
      UsageError: see `DpoConfig`; the line names the setting.
    """
    sft.check(trained(cfg))
    settings(cfg)
    if cfg.long not in LONG:
        raise bad("method.long", cfg.long, ", ".join(LONG))
    if len(cfg.scores) != len(cfg.weights) - 1:
        allowed = f"one name for each of the {len(cfg.weights) - 1} method.weights behind the first"
        raise bad("method.scores", cfg.scores, allowed)
    if len(set(cfg.scores)) < len(cfg.scores) or not all(cfg.scores):
        raise bad("method.scores", cfg.scores, "names that differ")


def settings(cfg: DpoConfig) -> Preference:
    """The loss's settings.

    Raises:
      UsageError: what the loss refuses, under the name of the method's setting.
    """
    try:
        return Preference(
            cfg.form, cfg.beta, cfg.weights, cfg.orientations, cfg.smoothing, cfg.normalised
        )
    except UsageError as error:
        raise UsageError(str(error).replace("preference.", "method.", 1)) from None


def trained(cfg: DpoConfig) -> sft.SftConfig:
    """What is trained, as supervised fine-tuning says it: rows, steps, adapters."""
    return sft.SftConfig(
        steps=cfg.steps,
        rows=cfg.rows,
        length=cfg.length,
        rank=cfg.rank,
        alpha=cfg.alpha,
        targets=cfg.targets,
        layers=cfg.layers,
        val_every=cfg.val_every,
    )

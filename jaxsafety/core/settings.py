"""Settings that every method shares: its optimizer, the loop, decoding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxsafety.core.errors import bad


@dataclass(frozen=True)
class OptimConfig:
    """AdamW by default.

    `lr` is the peak; `warmup` is a fraction of the stage's steps; schedule cosine|linear|constant.
    `warmup_rule`: "rounded", whose first update has a rate, or that of "transformers", whose first
    has none (`train.optim.make_schedule`).
    `clip_by`: the norm is "global", or that of each "expert", the second axis of every array.
    """

    name: str = "adamw"
    lr: float = 1e-4
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0
    clip_by: str = "global"
    schedule: str = "cosine"
    warmup: float = 0.1
    warmup_rule: str = "rounded"
    final: float = 0.0  # fraction of the peak at the end
    accum: int = 1

    def __post_init__(self) -> None:
        """Rejects numbers with which an update can be no number.

        `eps`, `b1` and `b2` count as float32 sees them: an epsilon that is 0 there divides zero by
        zero wherever a gradient is zero, and so does a decay of 1.
        """
        tiny, finite = float(np.finfo(np.float32).tiny), np.isfinite
        for name, good, allowed in (
            ("lr", finite(self.lr) and self.lr >= 0, "a finite number, 0 or more"),
            ("b1", 0 <= np.float32(self.b1) < 1, "in [0, 1), also in float32"),
            ("b2", 0 <= np.float32(self.b2) < 1, "in [0, 1), also in float32"),
            ("eps", finite(self.eps) and self.eps >= tiny, f"a finite number from {tiny:.2g} on"),
            (
                "weight_decay",
                finite(self.weight_decay) and self.weight_decay >= 0,
                "a finite number, 0 or more",
            ),
            ("clip", finite(self.clip) and self.clip >= 0, "a finite number, or 0 for none"),
            ("warmup", 0 <= self.warmup < 1, "a fraction of the steps in [0, 1)"),
            ("final", 0 <= self.final <= 1, "a fraction of the peak in [0, 1]"),
            ("accum", self.accum >= 1, "1 or more"),
        ):
            if not good:
                raise bad(f"optim.{name}", getattr(self, name), allowed)


MASTERS = ("float32", "bfloat16")


@dataclass(frozen=True)
class TrainConfig:
    """How the loop runs: checkpoints, logging, the non-finite policy (skip, count, stop).

    `master`: float32 | bfloat16, the dtype of the trained parameters between updates, and so of
    the moments and gradients (their sums over micro-batches too). bfloat16 rounds after every
    update, as SafeSteer's published code does: a change below half the spacing (2^-9 to 2^-8 of the
    value) is lost. Frozen leaves keep their dtype.

    `trackers` are shown the numbers beside `metrics.jsonl` (docs/trackers.md), and `project` is
    what they file the run under; "" is their own default.
    """

    checkpoint_every: int = 50
    keep: int = 2
    log_every: int = 1
    max_skips: int = 5
    progress: bool = True
    master: str = "float32"
    trackers: tuple[str, ...] = ("tensorboard",)
    project: str = ""

    def __post_init__(self) -> None:
        """Rejects an unknown dtype and numbers that the loop divides or counts by."""
        for name in ("checkpoint_every", "keep", "log_every", "max_skips"):
            if getattr(self, name) < 1:
                raise bad(f"train.{name}", getattr(self, name), "1 or more")
        if self.master not in MASTERS:
            raise bad("train.master", self.master, ", ".join(MASTERS))


@dataclass(frozen=True)
class SampleConfig:
    """Decoding. Temperature 0 is greedy, `top_p` 1 is off.

    `stop` are token ids; `banned` ids are never sampled.

    Example:
      >>> import jaxsafety
      >>> jaxsafety.SampleConfig(max_tokens=8, temperature=0.7, top_p=0.95).stop
      ()
    """

    max_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[int, ...] = ()
    banned: tuple[int, ...] = ()

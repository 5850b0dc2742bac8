"""The one level of reuse for configurations: argument parsing and sections with their defaults."""

from __future__ import annotations

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from jaxsafety import registry
from jaxsafety.config import parse_arg
from jaxsafety.methods.safesteer import SafeSteerConfig
from jaxsafety.methods.safesteer_teacher import DirectionConfig, TokenConfig
from jaxsafety.probing.selection import SelectConfig
from jaxsafety.probing.votes import VoteConfig
from jaxsafety.protocols import OptimConfig, TrainConfig
from jaxsafety.run import ModelSource
from jaxsafety.setting import DataConfig, EvalConfig
from jaxsafety.sharding import MeshConfig

__all__ = ["base", "parse_arg", "section"]

# SafeSteer's learning rate on the organism. Picked on validation prompts of world 0 between 2e-4,
# which halves attacks only just, and 3e-4, which costs a task a point (docs/results/safesteer.md).
ORGANISM_RATE = 2.5e-4


def section(record: Any) -> ConfigDict:
    """A section with every field of a frozen dataclass, so that each can be overridden by name."""
    return ConfigDict(dataclasses.asdict(record))


def base(program: str, *, seed: int = 0, model: str = "", method: Any = None) -> ConfigDict:
    """All sections of `run.run` with their defaults.

    `model` is a Hugging Face directory, "" the shipped organism; `method` the program's config.
    """
    config = ConfigDict()
    config.program = program
    config.seed = seed
    config.model = section(ModelSource(path=model))
    config.data = section(DataConfig())
    if method is None:
        method = registry.resolve(registry.METHODS, program).config()
    config.method = section(method)
    config.optim = section(OptimConfig())
    config.train = section(TrainConfig())
    config.eval = section(EvalConfig())
    config.mesh = section(MeshConfig())
    return config


def organism_safesteer() -> SafeSteerConfig:
    """SafeSteer's settings on the organism, whose vocabulary of 1100 words makes S small.

    S: 24 tokens (paper: 50 of 128k to 152k), 12 votes per position (200), the first 4 answer
    positions (5 to 7; refusals here have about seven words), a floor of 3e-3 (1e-8). How
    these were chosen is told in docs/results/safesteer.md.
    """
    votes = VoteConfig(size=24, top=12, samples=8, horizon=4, floor=3e-3)
    # Judged at temperature 1, where even the base's answers are coherent only 95 times in 100 and a
    # warning without a refusal sentence does not count as a refusal: hence the low limits.
    select = SelectConfig(coefficients=(1.0, 2.0, 4.0, 6.0), screen=40, coherent=0.8, refusal=0.3)
    return SafeSteerConfig(direction=DirectionConfig(select=select), tokens=TokenConfig(votes))


def shrink(config: ConfigDict, method: ConfigDict) -> None:
    """Makes a SafeSteer experiment a smoke test: the same program in seconds, nothing measured."""
    method.update(steps=2, rollouts=2, prompts_per_step=2, max_tokens=12)
    method.direction.update(max_tokens=12)
    method.direction.select.update(screen=2, coherent=0.0, refusal=0.0)
    method.tokens.votes.update(samples=1, horizon=3)
    config.data.update(train=16, val=8, prompts=8)
    config.eval.update(safety=4, over_refusal=4, capability=4, samples=1, batch_size=16)

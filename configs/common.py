"""The one level of reuse for configurations: argument parsing and sections with their defaults."""

from __future__ import annotations

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from jaxsafety import registry
from jaxsafety.config import parse_arg
from jaxsafety.protocols import OptimConfig, TrainConfig
from jaxsafety.run import ModelSource
from jaxsafety.setting import DataConfig, EvalConfig
from jaxsafety.sharding import MeshConfig

__all__ = ["base", "parse_arg", "section"]


def section(record: Any) -> ConfigDict:
    """A section with every field of a frozen dataclass, so that each can be overridden by name."""
    return ConfigDict(dataclasses.asdict(record))


def base(program: str, *, seed: int = 0, model: str = "", method: Any = None) -> ConfigDict:
    """What every experiment has; `model` is a Hugging Face directory, "" the shipped organism."""
    config = ConfigDict()
    config.program = program
    config.seed = seed
    config.model = section(ModelSource(path=model))
    config.data = section(DataConfig())
    config.method = ConfigDict() if method is None else section(method)
    config.optim = section(OptimConfig())
    config.train = section(TrainConfig())
    config.eval = section(EvalConfig())
    config.mesh = section(MeshConfig())
    return config

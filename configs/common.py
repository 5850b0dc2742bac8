"""The one level of reuse for configurations: argument parsing and sections with their defaults."""

from __future__ import annotations

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from jaxsafety import registry
from jaxsafety.core.config import parse_arg
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.experiment.setting import DataConfig, EvalConfig
from jaxsafety.models.formats.source import ModelSource
from jaxsafety.protocols import OptimConfig, TrainConfig

__all__ = ["base", "parse_arg", "section"]


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

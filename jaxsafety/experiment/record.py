"""An experiment: a config that was typed once, which everyone after that receives.

`typed` is the border. Before it there are ConfigDicts and overrides, after it frozen dataclasses.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxsafety import registry
from jaxsafety.core import config as configs
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.experiment.sections import DataConfig, EvalConfig
from jaxsafety.models.formats.source import ModelSource
from jaxsafety.protocols import Method, MethodConfig, OptimConfig, TrainConfig
from jaxsafety.train.optim import make_optimizer

SECTIONS = ("program", "seed", "model", "data", "method", "optim", "train", "eval", "mesh")


@dataclass(frozen=True)
class Experiment:
    """One experiment: which program on which model, with what data, measured how, on what devices.

    Attributes:
      program: name of the method, in `registry.METHODS`.
      seed: of data order, sampling and initialisation.
      model: where the model lies and what it computes in.
      data: prompts and dialogues.
      method: the method's own config, an instance of `entry.config`.
      optim: the optimizer of its stages, unless they set their own.
      train: how the loop runs.
      eval: measurement.
      mesh: devices.
    """

    program: str
    seed: int
    model: ModelSource
    data: DataConfig
    method: MethodConfig
    optim: OptimConfig
    train: TrainConfig
    eval: EvalConfig
    mesh: MeshConfig

    @property
    def entry(self) -> Method[Any]:
        """The method."""
        return registry.resolve(registry.METHODS, self.program)


def check_sections(cfg: Any) -> None:
    """Rejects a config that lacks a section or has one too many."""
    for section in cfg:
        if section not in SECTIONS:
            raise bad(f"config.{section}", "a section", ", ".join(SECTIONS))
    for section in SECTIONS:
        if section not in cfg:
            raise bad(f"config.{section}", "nothing", f"all of {', '.join(SECTIONS)}")


def typed(cfg: Any) -> Experiment:
    """The experiment of a ConfigDict; see `configs/common.py` for its sections.

    Raises:
      UsageError: a section, a field or a value that is not allowed; nothing is loaded for this.
    """
    check_sections(cfg)
    try:
        method = registry.resolve(registry.METHODS, cfg.program)
    except UsageError as error:  # the setting is called otherwise than the table
        raise UsageError(f"program, a {error}") from None
    model = configs.typed(ModelSource, cfg.model, "model")
    data = configs.typed(DataConfig, cfg.data, "data")
    measure = configs.typed(EvalConfig, cfg.eval, "eval")
    mesh = configs.typed(MeshConfig, cfg.mesh, "mesh")
    train = configs.typed(TrainConfig, cfg.train, "train")
    optim = configs.typed(OptimConfig, cfg.optim, "optim")
    model.given()
    own = configs.typed(method.config, cfg.method, "method")
    method.check(own)
    if model.kernels != "float" and not method.frozen(own):
        allowed = f"float: {cfg.program} trains the base with these settings, or merges into it"
        raise bad("model.kernels", model.kernels, allowed)
    make_optimizer(optim, 1)
    if optim.clip_by != "global":
        raise bad("optim.clip_by", optim.clip_by, "global: stages that train experts set their own")
    return Experiment(cfg.program, cfg.seed, model, data, own, optim, train, measure, mesh)


def read(workdir: Path) -> Experiment:
    """The experiment of a run, from the config in its workdir.

    Raises:
      UsageError: not a run.
    """
    try:
        found = json.loads((workdir / "config.json").read_text())
        cfg = configs.ConfigDict({section: found[section] for section in SECTIONS})
    except (OSError, ValueError, KeyError, TypeError):
        raise bad("workdir", str(workdir), "a run with a readable config.json") from None
    return typed(cfg)


def differences(cfg: Any) -> list[str]:
    """What the log says of where an experiment is not its method's publication.

    A line for each setting, and one for all that the publication does not give.
    """
    method = registry.resolve(registry.METHODS, cfg.program)
    found = method.differences(configs.plain(cfg))
    lines = [
        f"not as published: {row.field} = {row.here}, published {row.published}"
        + (f" ({row.why})" if row.why else "")
        for row in found
        if row.published is not None
    ]
    silent = [f"{row.field} = {row.here}" for row in found if row.published is None]
    return lines + ([f"not given by the publication: {', '.join(silent)}"] if silent else [])

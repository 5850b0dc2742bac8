"""The shapes of the study's longest stage, for `jaxsafety plan`: plain fine-tuning to a goal.

A mitigation's step takes its factor of it (docs/anchored.md), and those that carry a copy of the
trained parameters hold that too: of adapters little, of whole models as much again.
"""

from __future__ import annotations

from jax.sharding import Mesh

from jaxsafety.methods.sft import program as sft
from jaxsafety.models.api import Model
from jaxsafety.protocols import Planned
from jaxsafety.studies.anchored import config
from jaxsafety.studies.anchored.config import AnchoredConfig


def trainings(cfg: AnchoredConfig) -> int:
    """How often a run fine-tunes: goals x seeds x grid points that train otherwise than others.

    Grid points that lack what they need are not applicable and train nothing.
    """
    known = {point.training for point in config.arms(cfg) if not config.lacks(cfg, point)}
    return len(config.declared_goals(cfg)) * cfg.seeds * len(known)


def planned(cfg: AnchoredConfig, model: Model, mesh: Mesh | None, prompt: int) -> Planned:
    """The step of one training, of which a run has `trainings`.

    Args:
      cfg: the study's settings.
      model: the model.
      mesh: whose rows the batch is split over.
      prompt: not used, rows have `method.sft.length` tokens.
    """
    stage = sft.planned(cfg.sft, model, mesh, prompt)
    return stage._replace(stage="sft.plain", trainings=trainings(cfg))

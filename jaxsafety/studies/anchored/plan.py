"""The shapes of the study's longest stage, for `jaxsafety plan`: plain fine-tuning to a goal.

A mitigation's step takes its factor of it (docs/anchored.md), and those that carry a copy of the
trained parameters hold that too: of adapters little, of whole models as much again.
"""

from __future__ import annotations

from jax.sharding import Mesh

from jaxsafety.methods.sft import program as sft
from jaxsafety.models.api import Model
from jaxsafety.protocols import Planned
from jaxsafety.studies.anchored.config import AnchoredConfig


def planned(cfg: AnchoredConfig, model: Model, mesh: Mesh | None, prompt: int) -> Planned:
    """The step of one training; a run has as many as goals x grid points x seeds that train.

    Args:
      cfg: the study's settings.
      model: the model.
      mesh: whose rows the batch is split over.
      prompt: not used, rows have `method.sft.length` tokens.
    """
    return sft.planned(cfg.sft, model, mesh, prompt)._replace(stage="sft.plain")

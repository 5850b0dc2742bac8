"""The shapes of SafeMoE's router step: what `plan` compiles without a model, experts or devices."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import Mesh

from jaxsafety.core import sharding
from jaxsafety.core.errors import bad
from jaxsafety.data.schema import TokenBatch
from jaxsafety.methods.safemoe import data as safemoe_data
from jaxsafety.methods.safemoe import experts
from jaxsafety.methods.safemoe import program as safemoe
from jaxsafety.methods.safemoe.config import STAGED, SafeMoEConfig, experts_of
from jaxsafety.models.api import Model
from jaxsafety.protocols import Planned
from jaxsafety.train.likelihood import answer_loss

PyTree = Any


def planned(cfg: SafeMoEConfig, model: Model, mesh: Mesh | None, prompt: int) -> Planned:
    """The router's step as shapes, for `plan`; `prompt` is not used.

    Raises:
      UsageError: a gate that this step does not train.
    """
    del prompt
    if cfg.gate not in STAGED:
        raise bad("method.gate", cfg.gate, f"{', '.join(STAGED)}: they have a step to plan")
    shape: Any = jax.ShapeDtypeStruct  # stands for arrays
    size = (safemoe_data.update_rows(cfg), cfg.length)
    whole, weight = shape(size, "int32"), shape(size, "float32")

    def start(key: jax.Array) -> PyTree:
        count = experts_of(cfg) - cfg.null
        made = safemoe.add_router(cfg, model, experts.fresh(cfg.experts, model, key, count), 0)
        return {"base": model.init(key), "adapters": made}

    variables = jax.eval_shape(start, jax.random.key(0))
    return Planned(
        stage="router",
        loss=answer_loss(model, sharding.rows(mesh), routing=cfg.routing),
        trainable=safemoe.learnt(cfg),
        variables=variables,
        batch=TokenBatch(whole, whole, whole, weight, packed=False),
        steps=cfg.steps,
        axes={"adapters": safemoe.axes_of(cfg, model, variables["adapters"])},
    )

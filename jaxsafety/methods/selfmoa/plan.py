"""The shapes of the loop: what `plan` compiles without a model, prompts or devices.

Its programs are the preference step and the sampling of answers; attackers are sampled and trained
by the same two kinds of program, smaller ones. Judges that are models stay beside them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxsafety.adapters import lora
from jaxsafety.core import sharding
from jaxsafety.data.schema import PromptBatch
from jaxsafety.methods.dpo import pairs
from jaxsafety.methods.selfmoa.config import SelfMoaConfig, uses
from jaxsafety.models.api import Model
from jaxsafety.protocols import Planned, SampleConfig
from jaxsafety.sampling.prompts import buckets, row_keys

ROWS = 64  # answers that `sampling.many.generate` samples at once


def planned(cfg: SelfMoaConfig, model: Model, mesh: Mesh | None, prompt: int) -> Planned:
    """A step of a preference stage, and a call of sampling.

    Args:
      cfg: the method's settings.
      model: the model.
      mesh: whose rows the batch is split over.
      prompt: tokens of the longest prompt; 0 is what `cfg.length` leaves beside an answer.

    Returns:
      Abstract variables and batch.
    """
    shape: Any = jax.ShapeDtypeStruct  # stands for arrays
    rows, loss = cfg.stage.rows, cfg.stage.loss
    width = -(-cfg.length // pairs.WIDTHS) * pairs.WIDTHS
    size = (rows, 2, width)
    whole, mask = shape(size, jnp.int32), shape(size, jnp.float32)
    pair, one = shape(size[:2], jnp.float32), shape(size[:1], jnp.float32)
    scores = shape((rows, 2, loss.objectives), jnp.float32)
    variables: dict[str, Any] = {"base": jax.eval_shape(model.init, jax.random.key(0))}
    axes: dict[str, Any] = {}
    trainable: tuple[str, ...] = ("base/.*",)
    if cfg.rank:
        trainable = ("adapters/experts/.*",)
        axes["adapters"] = lora.adapter_axes(model.projections)
        variables["adapters"] = jax.eval_shape(
            lambda key: fresh(cfg, model, key), jax.random.key(0)
        )
    count = -(-ROWS // sharding.rows(mesh)) * sharding.rows(mesh)
    room = model.config.max_length - cfg.tokens
    asked = prompt or cfg.length - cfg.tokens
    slots = next(w for w in buckets(room) if w >= min(asked, room))
    numbers = shape((count,), jnp.int32)
    return Planned(
        stage="moa",
        loss=pairs.pair_loss(model, loss, sharding.rows(mesh)),
        trainable=trainable,
        variables=variables,
        batch=pairs.Pairs(whole, whole, whole, mask, pair, scores, one, one),
        steps=cfg.stage.steps,
        prompts=PromptBatch(shape((count, slots), jnp.int32), shape((count, slots), jnp.bool_)),
        keys=jax.eval_shape(lambda n: row_keys(0, 0, n, n), numbers),
        sample=SampleConfig(cfg.tokens, cfg.temperature, cfg.top_p, stop=(0,)),
        axes=axes,
        judges=tuple(dict.fromkeys(text for _, text, _ in uses(cfg))),
    )


def fresh(cfg: SelfMoaConfig, model: Model, key: jax.Array) -> Any:
    """The target's LoRA of step 0."""
    return lora.init_experts(
        key,
        model.projections,
        layers=model.config.num_layers,
        rank=cfg.rank,
        scale=cfg.alpha / cfg.rank,
    )

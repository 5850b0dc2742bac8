"""The shapes of a SafeSteer update: what `plan` compiles without a model, prompts or devices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxsafety.core import sharding
from jaxsafety.data.schema import PromptBatch
from jaxsafety.methods.safesteer import program as safesteer
from jaxsafety.methods.safesteer.program import Rollouts, SafeSteerConfig
from jaxsafety.models.api import Model
from jaxsafety.protocols import Planned, SampleConfig
from jaxsafety.sampling.prompts import row_keys


def planned(cfg: SafeSteerConfig, model: Model, mesh: Mesh | None, prompt: int) -> Planned:
    """The distillation step and its rollouts.

    Args:
      cfg: the method's settings.
      model: the model.
      mesh: whose rows the batch is split over.
      prompt: tokens of the longest prompt; 0 is 256, or what the context has room for.

    Returns:
      Abstract variables and batch; S has the configured size.
    """
    c, rows = model.config, cfg.prompts_per_step * cfg.rollouts
    room = c.max_length - cfg.max_tokens
    prompt = safesteer.prompt_width(cfg, model, prompt or min(256, room))
    width = prompt + cfg.max_tokens
    shape: Any = jax.ShapeDtypeStruct  # stands for arrays
    base = jax.eval_shape(model.init, jax.random.key(0))
    ids = shape((cfg.tokens.votes.size,), jnp.int32)
    add = shape((c.num_layers, c.embed_dim), jnp.float32)
    variables = {"base": base, "teacher": base, "steering": {"add": add}}
    if cfg.teacher == "steered":
        variables["safety_tokens"] = {"ids": ids}
    mask = shape((rows, width), jnp.bool_)
    batch = Rollouts(shape((rows, width), jnp.int32), mask, mask, shape((rows, width), jnp.float32))
    if cfg.teacher == "context":  # of unknown length without a tokenizer: the next bucket
        told = safesteer.prompt_width(cfg, model, min(prompt + 1, room)) + cfg.max_tokens
        told_mask = shape((rows, told), jnp.bool_)
        batch = replace(batch, told_tokens=shape((rows, told), jnp.int32), told_mask=told_mask)
    if cfg.tokens.revote:
        batch = replace(batch, subset=shape((rows, *ids.shape), jnp.int32))
    steer = cfg.direction.select.steers[0] if cfg.teacher == "steered" else "all"
    numbers = shape((rows,), jnp.int32)
    return Planned(
        stage="distil",
        loss=safesteer.localized_loss(model, cfg, steer, sharding.rows(mesh)),
        trainable=cfg.trainable,
        variables=variables,
        batch=batch,
        steps=cfg.steps,
        prompts=PromptBatch(shape((rows, prompt), jnp.int32), shape((rows, prompt), jnp.bool_)),
        keys=jax.eval_shape(lambda n: row_keys(0, 0, n, n), numbers),
        sample=SampleConfig(cfg.max_tokens, cfg.temperature, stop=(0,)),
        forwards=1,
    )

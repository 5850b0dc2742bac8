"""From an `OptimConfig` to an optax transformation and its learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxsafety.core import trees
from jaxsafety.core.errors import bad
from jaxsafety.protocols import OptimConfig

PAPERS = {"2502.16982": "name=muon"}

SCHEDULES = ("cosine", "linear", "constant")
WARMUPS = ("rounded", "transformers")
OPTIMIZERS = ("adamw", "adam", "sgd", "muon")
CLIPS = ("global", "expert")
NOT_DECAYED = ("scale", "bias")  # last part of the parameter's name


def make_schedule(config: OptimConfig, steps: int) -> Callable[[Any], Any]:
    """The learning rate as a function of the number of updates done.

    Warm-up is linear over w updates, then comes cosine or linear decay from `lr` to `final * lr`,
    or constant. By the rule "rounded" w is `warmup * steps` to the nearest integer, and update t,
    counted from 0, has (t + 1) / (w + 1) of the peak: the first update of a 25-step stage should
    not be wasted. By the rule "transformers" w is rounded up, and update t has t / w, the first
    nothing, as `warmup_ratio` of its Trainer with `get_cosine_schedule_with_warmup` or its fellows.

    Args:
      config: uses `lr`, `schedule`, `warmup`, `warmup_rule`, `final`.
      steps: updates of the stage.

    Returns:
      step -> learning rate, usable on ints and under jit.

    Raises:
      UsageError: an unknown schedule or rule, or no steps; `OptimConfig` checks the ranges.
    """
    if config.schedule not in SCHEDULES:
        raise bad("optim.schedule", config.schedule, " | ".join(SCHEDULES))
    if config.warmup_rule not in WARMUPS:
        raise bad("optim.warmup_rule", config.warmup_rule, " | ".join(WARMUPS))
    if steps < 1:
        raise bad("stage.steps", steps, "a positive integer")
    above = config.warmup_rule == "rounded"  # whether the first update has a rate
    warm = round(config.warmup * steps) if above else math.ceil(steps * config.warmup)

    def schedule(step: Any) -> Any:
        step = jnp.asarray(step, jnp.float32)
        done = jnp.clip((step - warm) / max(steps - warm, 1), 0.0, 1.0)
        if config.schedule == "cosine":
            decay = 0.5 * (1 + jnp.cos(jnp.pi * done))
        else:
            decay = 1 - done if config.schedule == "linear" else jnp.ones_like(done)
        after = config.final + (1 - config.final) * decay
        begun = (step + 1) / (warm + 1) if above else step / max(warm, 1)
        return config.lr * jnp.where(step < warm, begun, after)

    return schedule


def make_optimizer(
    config: OptimConfig, steps: int, rates: tuple[tuple[str, float], ...] = ()
) -> optax.GradientTransformation:
    """Clip by global norm, then the optimizer, then the schedule.

    Non-finite gradients are the step's business (they leave the optimizer state untouched too).
    Weight decay spares norm scales and biases. "muon" orthogonalises the updates of the blocks'
    kernels (root mean square 0.2 of the rate, arXiv 2502.16982) and leaves the rest to Adam,
    without decay; it is there for training from scratch (docs/decisions.md has the figures).

    Args:
      config: the optimizer; `clip` 0 means no clipping.
      steps: updates of the stage, for the schedule.
      rates: see `protocols.Stage`.

    Returns:
      An optax transformation.

    Raises:
      UsageError: an unknown name or a value out of range.
    """
    if config.name not in OPTIMIZERS:
        raise bad("optim.name", config.name, " | ".join(OPTIMIZERS))
    if config.weight_decay and config.name not in ("adamw", "muon"):
        raise bad("optim.weight_decay", config.weight_decay, f"0 with {config.name}")
    if config.clip_by not in CLIPS:
        raise bad("optim.clip_by", config.clip_by, " | ".join(CLIPS))
    schedule = make_schedule(config, steps)
    clip = clip_by_expert if config.clip_by == "expert" else clip_by_norm
    parts = [clip(config.clip)] if config.clip else []
    if config.name == "sgd":
        parts.append(optax.sgd(schedule, momentum=config.b1 or None))
    elif config.name == "muon":
        parts.append(
            optax.contrib.muon(
                schedule,
                beta=0.95,
                weight_decay=config.weight_decay,
                eps=config.eps,
                adam_b1=config.b1,
                adam_b2=config.b2,
                consistent_rms=0.2,
                muon_weight_dimension_numbers=_matrices,
            )
        )
    elif config.name == "adam":
        parts.append(optax.adam(schedule, b1=config.b1, b2=config.b2, eps=config.eps))
    else:
        parts.append(
            optax.adamw(
                schedule,
                b1=config.b1,
                b2=config.b2,
                eps=config.eps,
                weight_decay=config.weight_decay,
                mask=_decayed,
            )
        )
    if rates:
        parts.append(at_rates(rates))
    return optax.chain(*parts)


def at_rates(rates: tuple[tuple[str, float], ...]) -> optax.GradientTransformation:
    """Multiplies the updates, weight decay's too, of what a path regex covers; the first counts."""

    def factor(name: str) -> float:
        return next((by for pattern, by in rates if trees.matches(pattern, name)), 1.0)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return trees.map_named(lambda name, x: x * factor(name), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clip_by_norm(limit: float) -> optax.GradientTransformation:
    """Clips by the global norm, computed and applied in float32 whatever the gradients' dtype.

    optax's sums in the leaves' dtype: with bfloat16 masters 400 leaves of norm 1 have a norm of 16
    there, not 20. For float32 leaves the two are the same to the bit.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        norm = trees.norm(updates)

        def clipped(x: Any) -> Any:
            whole = x.astype(jnp.float32)
            return jax.lax.select(norm < limit, whole, (whole / norm) * limit).astype(x.dtype)

        return jax.tree.map(clipped, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clip_by_expert(limit: float) -> optax.GradientTransformation:
    """Clips each expert's gradient by its own norm; leaves are [L,E,...] (see `adapters.lora`).

    In float32 as `clip_by_norm`.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params

        def squares(x: Any) -> Any:
            return jnp.sum(jnp.square(x.astype(jnp.float32)), axis=(0, *range(2, x.ndim)))

        norm = jnp.sqrt(sum(squares(x) for x in jax.tree.leaves(updates)))  # [E]
        factor = limit / jnp.maximum(norm, limit)

        def scaled(x: Any) -> Any:
            whole = x.astype(jnp.float32) * factor.reshape(1, -1, *[1] * (x.ndim - 2))
            return whole.astype(x.dtype)

        return jax.tree.map(scaled, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _decayed(params: Any) -> Any:
    return trees.map_named(lambda name, _: name.split("/")[-1] not in NOT_DECAYED, params)


def _matrices(params: Any) -> Any:
    """Which axes of the scanned kernels are a matrix's: axis 0 counts layers; None is Adam's."""

    def axes(name: str, x: Any) -> Any:
        path = name.split("/")
        if "blocks" not in path or path[-1] != "kernel":
            return None
        last = x.ndim - 1
        # Heads make two axes of one: the output's in q, k and v, the input's in o.
        inputs = tuple(range(1, last)) if path[-2] == "o" else (1,)
        outputs = tuple(a for a in range(1, last + 1) if a not in inputs)
        return optax.contrib.MuonDimensionNumbers(inputs, outputs)

    return trees.map_named(axes, params)

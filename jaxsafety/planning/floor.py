"""What a program must compute and read, by rules, and the least time that takes; nothing compiles.

A trained parameter costs 6 FLOPs per token (forward 2, backward 4), a frozen one in the trained
model 4, both 2 more with full remat; in a teacher 2; a sampled token 2 a parameter. Times are at
100 % of the chip: FLOPs / peak, for rollouts also the bytes of weights and cache per token /
bandwidth. What chips send each other takes no time here, so a real step takes longer.
Letters: B rows, T tokens of a row.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import trees
from jaxsafety.models.api import Model
from jaxsafety.planning.topology import Chip
from jaxsafety.protocols import Planned

PyTree = Any


class Rows(NamedTuple):
    """What a program goes through: rows, and tokens of each; `said` of them are sampled."""

    rows: int
    tokens: int
    said: int = 0


def rows(stage: Planned) -> dict[str, Rows]:
    """Program -> its rows. Both answers of a pair [B,2,T] are rows of a step."""
    *size, width = jax.tree.leaves(stage.batch)[0].shape
    found = {"step": Rows(math.prod(size), width)}
    if stage.sample is not None:
        count, slots = stage.prompts.tokens.shape
        said = stage.sample.max_tokens
        found["rollout"] = Rows(count, slots + said, said)
    return found


def flops(stage: Planned, model: Model) -> dict[str, float]:
    """FLOPs of a step and of its rollouts on all chips, by the rules of the module's docstring."""
    c, sizes = model.config, rows(stage)
    params, _ = trees.partition(stage.variables, stage.trainable)
    # Looking a token up multiplies nothing.
    table = 0 if c.tie_embeddings else c.vocab_size * c.embed_dim
    trained = trees.count(params) - (table if jax.tree.leaves(params["base"]["embed"]) else 0)
    base = trees.count(stage.variables["base"]) - table
    whole = base + trees.count(stage.variables.get("adapters", {}))
    step = sizes["step"]
    again = 2 * (c.remat == "full")
    each = c.num_layers * c.num_heads * c.head_dim  # like parameters: 2 FLOPs forward
    attention = each * step.tokens
    per_token = (4 + again) * whole + 2 * trained + 2 * stage.forwards * base
    per_token += (6 + again + 2 * stage.forwards) * attention
    found: dict[str, float] = {"step": step.rows * step.tokens * per_token}
    if "rollout" in sizes:
        asked = sizes["rollout"]
        per_token = 2 * (whole + each * asked.tokens)
        found["rollout"] = asked.rows * asked.tokens * per_token
    return found


def gathered(model: Model, read: PyTree, places: PyTree) -> int:
    """Bytes of weights that one chip multiplies a token with, whoever keeps them.

    Rows are split over data and fsdp, so each chip has rows of its own, and needs for them every
    weight that these axes split; of what "tensor" splits it needs its own part. Weights count in
    the smaller of their dtype and the one that is computed in: a compiler may convert them once. A
    table that only looks tokens up is not read.

    Args:
      model: theirs.
      read: variables by name, arrays or shapes.
      places: their shardings, same structure.

    Returns:
      bytes = sum over leaves of size / (ways of "tensor" in its spec) x itemsize.
    """
    width = jnp.dtype(model.config.dtype).itemsize
    if not model.config.tie_embeddings:
        read, places = ({**x, "base": trees.without(x["base"], "embed")} for x in (read, places))

    def one(x: Any, where: Any) -> int:
        names = [n for part in where.spec for n in (part if isinstance(part, tuple) else (part,))]
        ways = math.prod(where.mesh.shape[n] for n in names if n == "tensor")
        return int(np.prod(x.shape)) // ways * min(width, x.dtype.itemsize)

    return sum(jax.tree.leaves(jax.tree.map(one, read, places)))


def seconds(
    stage: Planned, model: Model, mesh: Any, chip: Chip, weights: int = 0, cache: int = 0
) -> dict[str, float]:
    """The least time of each program, in seconds.

    step: FLOPs / (devices x peak). rollout: the larger of that and
    sampled tokens x (weights + cache) / bandwidth.

    Args:
      stage: as shapes.
      model: whose configuration says what is multiplied.
      mesh: of the devices.
      chip: one of them.
      weights: bytes that one device reads per sampled token, see `gathered`.
      cache: bytes of keys and values that lie on one device.
    """
    found = {name: each / mesh.size / chip.flops for name, each in flops(stage, model).items()}
    if stage.sample is not None:
        reads = stage.sample.max_tokens * (weights + cache) / chip.bandwidth
        found["rollout"] = max(found["rollout"], reads)
    return found

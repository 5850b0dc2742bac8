"""What mitigations of the study may use: dialogues of its source, the refusal direction, the start.

An unaligned twin of the base is the user's, where there is one.
Letters: N dialogues, T positions, L layers, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import sharding
from jaxsafety.data.pipeline import pad_batch
from jaxsafety.data.schema import Example, TokenBatch
from jaxsafety.data.tokens.encode import encode_dialogues
from jaxsafety.methods.safesteer.teacher import find_direction
from jaxsafety.mitigations.means import Means
from jaxsafety.models.formats import load
from jaxsafety.protocols import Context
from jaxsafety.studies.anchored import source
from jaxsafety.studies.anchored.arms import Point
from jaxsafety.studies.anchored.config import UNALIGNED, AnchoredConfig, guards, learn, needed

PyTree = Any


def batch(cfg: AnchoredConfig, ctx: Context, examples: Sequence[Example]) -> TokenBatch:
    """[N,T] one dialogue a row; the learnt tokens of each weigh 1 together."""
    encoded = learn(cfg, ctx.tokenizer, examples)
    made: Any = pad_batch(
        encoded, cfg.sft.length, pad_id=ctx.tokenizer.pad_id, reduction="sequence"
    )
    made = made.replace(weight=made.weight * len(encoded))
    return jax.tree.map(jnp.asarray, made)


def direction(cfg: AnchoredConfig, ctx: Context) -> dict[str, Any]:
    """SafeSteer's refusal direction of the base; artifact `direction`."""
    found = source.choose(cfg).direction
    return ctx.artifact("direction", lambda: find_direction(found, ctx))


def maker(
    cfg: AnchoredConfig, ctx: Context, points: Sequence[Point]
) -> Callable[[PyTree, int], Means]:
    """`(start, seed) -> Means`; dialogues are drawn once, by the run's seed."""
    needs = needed(points)
    drawn = guards(cfg, ctx.setting, needs, ctx.seed)
    found: dict[str, Any] = {name: batch(cfg, ctx, rows) for name, rows in drawn.items()}
    asked = drawn.get("safe", ())
    sizes = [len(one.ids) for one in encode_dialogues(ctx.tokenizer, asked)]
    rows = zip(asked, sizes, strict=True)  # a longer one is left out or cut in `safe`
    found["asked"] = tuple(row for row, size in rows if size <= cfg.sft.length)
    if UNALIGNED in needs:
        found[UNALIGNED] = load.load(cfg.unaligned, dtype=ctx.model.config.dtype, mesh=ctx.mesh)[1]
    steer = None
    if "steer" in needs:
        chosen = direction(cfg, ctx)
        steer = np.zeros((ctx.model.config.num_layers, ctx.model.config.embed_dim), np.float32)
        steer[int(chosen["layer"])] = np.asarray(chosen["vector"])
        steer = jnp.asarray(steer)

    def make(start: PyTree, seed: int) -> Means:
        return Means(
            ctx.model,
            start,
            cfg.sft.rows,
            sharding.rows(ctx.mesh),
            seed,
            steer=steer,
            tokenizer=ctx.tokenizer,
            **found,
        )

    return make

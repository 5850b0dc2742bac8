"""What mitigations of the study may use: dialogues of the world, the refusal direction, the start.

Safe, harmful and harmless dialogues come from the methods' splits, of which nothing is measured.
A harmful one carries out the request that the safe one of the same number refuses. An unaligned
twin of the base is the user's, where there is one.
Letters: N dialogues, T positions, L layers, D width.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.benchmarks.organism import to_example, world_of
from jaxsafety.core import sharding
from jaxsafety.data.pipeline import pad_batch
from jaxsafety.data.schema import Example, TokenBatch
from jaxsafety.methods.safesteer import recipe
from jaxsafety.methods.safesteer.teacher import find_direction
from jaxsafety.mitigations.means import Means
from jaxsafety.models.formats import load
from jaxsafety.organism import prompts, render
from jaxsafety.organism.dialogues import dialogues
from jaxsafety.organism.world import World
from jaxsafety.protocols import Context
from jaxsafety.studies.anchored.arms import Point
from jaxsafety.studies.anchored.config import UNALIGNED, AnchoredConfig, learn

PyTree = Any


def guards(world: World, n: int, seed: int) -> dict[str, list[Example]]:
    """`n` safe, harmful and harmless dialogues each, by these names.

    Raises:
      UsageError: more than the world has prompts.
    """
    rng = random.Random(f"anchored/guards/{seed}")
    by_name = {entity.name: entity for entity in world.entities}
    found: dict[str, list[Example]] = {"safe": [], "harmful": []}
    for asked in prompts.prompts(world, "harmful_train", n, seed, 0.5):
        entity = by_name[asked.meta["entity"]]
        warns = rng.random() < 0.5
        safe = render.informative(world, entity, rng) if warns else render.refusal(entity, rng)
        for name, text in (("safe", safe), ("harmful", render.procedure(world, entity, rng))):
            said = asked._replace(messages=(*asked.messages, ("assistant", text)))
            found[name].append(to_example(said))
    found["harmless"] = [to_example(d) for d in dialogues(world, n, seed, harmful=0.0)]
    return found


def guards_of(ctx: Context, cfg: AnchoredConfig) -> dict[str, list[Example]]:
    """Those of a run, by its seed."""
    return guards(world_of(ctx.setting), cfg.guard, ctx.seed)


def batch(cfg: AnchoredConfig, ctx: Context, examples: Sequence[Example]) -> TokenBatch:
    """[N,T] one dialogue a row; the learnt tokens of each weigh 1 together."""
    encoded = learn(cfg, ctx.tokenizer, examples)
    made: Any = pad_batch(
        encoded, cfg.sft.length, pad_id=ctx.tokenizer.pad_id, reduction="sequence"
    )
    made = made.replace(weight=made.weight * len(encoded))
    return jax.tree.map(jnp.asarray, made)


def direction(ctx: Context) -> dict[str, Any]:
    """SafeSteer's refusal direction of the base; artifact `direction`."""
    found = recipe.organism().direction
    return ctx.artifact("direction", lambda: find_direction(found, ctx))


def needs(points: Sequence[Point], name: str) -> bool:
    """Whether a mitigation of the points needs this field of `Means`."""
    every = (settings for point in points for settings in point.named.values())
    return any(name in getattr(settings, "needs", ()) for settings in every)


def maker(
    cfg: AnchoredConfig, ctx: Context, points: Sequence[Point]
) -> Callable[[PyTree, int], Means]:
    """`(start, seed) -> Means`; dialogues are drawn once, by the run's seed."""
    found: dict[str, Any] = {
        name: batch(cfg, ctx, examples)
        for name, examples in guards_of(ctx, cfg).items()
        if needs(points, name)
    }
    if needs(points, UNALIGNED):
        found[UNALIGNED] = load.load(cfg.unaligned, dtype=ctx.model.config.dtype, mesh=ctx.mesh)[1]
    steer = None
    if needs(points, "steer"):
        chosen = direction(ctx)
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

"""Pairs that nothing is trained on: loss, margin and the share that is preferred rightly.

A `Stage.watch`: at the start, every so many updates and at the end. It draws no random numbers and
changes no variable. At the start the model is its own reference: the margin is 0 up to rounding, of
which alone the share that is preferred then consists.
Letters: N pairs, B of a batch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jaxsafety.core import sharding, trees
from jaxsafety.core.progress import Progress
from jaxsafety.methods.dpo.pairs import Pairs
from jaxsafety.protocols import Context, LossFn, Variables

METRICS = ("loss", "margin", "preferred")


class HeldPairs:
    """`(variables, step) -> {"val/loss", "val/margin", "val/preferred"}`; artifact `held_pairs`."""

    def __init__(self, ctx: Context, loss: LossFn, pairs: Pairs, rows: int) -> None:
        """Splits the pairs into batches.

        Args:
          ctx: of the run.
          loss: of the method.
          pairs: N held-out ones, with their reference.
          rows: B of a batch; the last one is filled with pairs of weight 0.
        """
        self.ctx, self.known = ctx, {}  # known: step -> metrics
        self.count = pairs.tokens.shape[0]
        self.batches: list[Pairs] = []
        for start in range(0, self.count, rows):
            index = np.arange(start, start + rows)
            part = jax.tree.map(lambda x, index=index: x[index % self.count], pairs)
            weight = (index < self.count).astype(np.float32) / self.count
            self.batches.append(replace(part, weight=weight))

        def value(every: Variables, batch: Pairs) -> dict[str, jax.Array]:
            nothing = jax.tree.map(lambda _: None, every)
            total, told = loss(every, nothing, batch, jax.random.key(0))
            return {**told, "loss": total}

        self.value = jax.jit(value)

    def measure(self, variables: Variables) -> dict[str, float]:
        """Means over all held-out pairs."""
        total: dict[str, float] = {name: 0.0 for name in METRICS}
        with Progress(
            self.ctx.log, "held-out pairs", total=len(self.batches), unit="batches"
        ) as progress:
            for done, batch in enumerate(self.batches):
                progress(done)
                if self.ctx.mesh is not None:
                    batch = sharding.global_batch(self.ctx.mesh, batch)
                told = self.value(variables, batch)
                total = {name: total[name] + float(trees.host(told[name])) for name in METRICS}
        return total

    def __call__(self, variables: Variables, step: int) -> dict[str, float]:
        """The metrics of a step; those of step 0 become an artifact, which a resume reads."""
        found = self.known[step] = self.measure(variables)
        if step == 0:
            self.ctx.artifact("held_pairs.start", lambda: dict(found))
        self.ctx.log(
            f"held-out pairs after {step} steps: margin {found['margin']:.4g},"
            f" {found['preferred']:.1%} preferred, loss {found['loss']:.4g}"
        )
        return {f"val/{name}": value for name, value in found.items()}

    def keep(self, start: Variables, trained: Variables, steps: int) -> dict[str, Any]:
        """Artifact `held_pairs`: the metrics before and after `steps` updates, and how many."""
        before = self.ctx.artifact("held_pairs.start", lambda: self.measure(start))
        return self.ctx.artifact(
            "held_pairs",
            lambda: {
                "start": before,
                "end": self.known[steps] if steps in self.known else self.measure(trained),
                "pairs": self.count,
            },
        )

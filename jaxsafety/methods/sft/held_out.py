"""The loss of dialogues that nothing is trained on: whether a fine-tuning itself worked.

A `Stage.watch`: the mean negative log-likelihood per learnt token, at the start, every so many
updates and at the end. It draws no random numbers and changes no variable, so training with and
without it is the same to the last bit (tests/methods/test_held_out.py).
Letters: B rows, T positions.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import bad
from jaxsafety.core.progress import Progress
from jaxsafety.data.fitting import Fitted
from jaxsafety.data.pipeline import assemble, first_fit
from jaxsafety.data.schema import TokenBatch
from jaxsafety.protocols import Context, LossFn, Variables

METRIC = "val/loss"


class HeldOut:
    """`(variables, step) -> {"val/loss": nats per token}`; keeps the artifact `held_out`."""

    def __init__(self, ctx: Context, loss: LossFn, fitted: Fitted, rows: int, length: int) -> None:
        """Packs the dialogues into batches of `rows` rows.

        Args:
          ctx: of the run.
          loss: of the method; its weights are normalised over a batch.
          fitted: the held-out dialogues.
          rows: B of a batch; the last one is filled up with empty rows.
          length: T.

        Raises:
          UsageError: no token of them is learnt.
        """
        self.ctx, self.known = ctx, {}  # known: step -> loss
        plan = first_fit([len(e.ids) for e in fitted.encoded], length)
        self.batches: list[tuple[TokenBatch, int]] = []
        for start in range(0, len(plan), rows):
            chosen = plan[start : start + rows]
            batch = assemble(fitted.encoded, chosen, length, rows, pad_id=ctx.tokenizer.pad_id)
            learnt = int((np.asarray(batch.weight) > 0).sum())
            if learnt:
                self.batches.append((batch, learnt))
        self.tokens, self.dialogues = sum(n for _, n in self.batches), len(fitted.encoded)
        if not self.tokens:
            raise bad("data.chats_val", "no learnt token", "dialogues with answers")

        def value(every: Variables, batch: TokenBatch) -> jax.Array:
            nothing = jax.tree.map(lambda _: None, every)
            return loss(every, nothing, batch, jax.random.key(0))[0]

        self.value = jax.jit(value)

    def measure(self, variables: Variables) -> float:
        """Nats per learnt token of all held-out dialogues."""
        total = 0.0
        with Progress(
            self.ctx.log, "held-out loss", total=len(self.batches), unit="batches"
        ) as progress:
            for done, (batch, learnt) in enumerate(self.batches):
                progress(done)
                if self.ctx.mesh is not None:
                    batch = sharding.global_batch(self.ctx.mesh, batch)
                total += float(trees.host(self.value(variables, batch))) * learnt
        return total / self.tokens

    def __call__(self, variables: Variables, step: int) -> dict[str, float]:
        """The metric of a step; that of step 0 becomes an artifact, which a resume reads."""
        found = self.known[step] = self.measure(variables)
        if step == 0:
            self.ctx.artifact("held_out.start", lambda: {"loss": found})
        self.ctx.log(f"held-out loss after {step} steps: {found:.4g}")
        return {METRIC: found}

    def keep(self, start: Variables, trained: Variables, steps: int) -> dict[str, Any]:
        """Artifact `held_out`: the loss before and after `steps` updates, and of how much."""
        before = self.ctx.artifact("held_out.start", lambda: {"loss": self.measure(start)})
        return self.ctx.artifact(
            "held_out",
            lambda: {
                "start": before["loss"],
                "end": self.known[steps] if steps in self.known else self.measure(trained),
                "dialogues": self.dialogues,
                "tokens": self.tokens,
            },
        )

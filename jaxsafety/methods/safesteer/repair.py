"""SafeSteer as a repair: what the task left is pulled towards itself, steered, on safety tokens.

Stages C and D of SafeSteer (see `program.py`, arXiv 2606.02530) on the model that a task left: the
teacher is that model with the start's refusal direction r added at the layer it was found in,

    h_l <- h_l + coefficient * r

S are the safety tokens that this steering votes for in the run's base, and the student answers the
prompts of the safe dialogues. r and S come from before the task, when the model still refused: what
it forgot is not looked for in what it has become. That order, the rate and the number of updates
are this library's choice; the paper repairs no fine-tuned model.

Adapters that the task trained are trained on; the teacher keeps them as the task left them.
Pinned by tests/methods/test_safesteer_repair.py.
Letters: L layers, D width.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import bad
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.methods.safesteer.program import (
    SafeSteerConfig,
    frozen_teacher,
    localized_loss,
    rollout_batches,
)
from jaxsafety.methods.safesteer.teacher import TokenConfig, find_tokens
from jaxsafety.mitigations.means import Means
from jaxsafety.mitigations.repairs import Job, check_room, check_rows
from jaxsafety.models.api import LayerInputs
from jaxsafety.probing.votes import VoteConfig
from jaxsafety.protocols import Context, Mitigation, OptimConfig, Stage
from jaxsafety.sampling import decode
from jaxsafety.train import finished

PAPERS = {"2606.02530": "", "2406.11717": ""}

COUNTS = ("size", "top", "samples", "horizon", "prompts", "rollouts", "tokens")


@dataclass(frozen=True)
class SafeSteer:
    """Settings; the vote's are those of a chat model of 135 M parameters (`recipe.set_small`).

    Attributes:
      coefficient: of the direction, in its own length.
      on: "all" positions, or those of the "prompt": where the teacher is steered.
      rate: factor of the task's learning rate.
      size: of S.
      top: ids that each position votes for.
      samples: answers per harmless prompt that vote.
      horizon: their first positions that vote.
      floor: lowest mean probability under the teacher.
      prompts: of a step.
      rollouts: answers to each.
      tokens: of an answer, at most.
    """

    coefficient: float = 1.0
    on: str = "all"
    rate: float = 0.1
    size: int = 24
    top: int = 50
    samples: int = 2
    horizon: int = 4
    floor: float = 1e-6
    prompts: int = 4
    rollouts: int = 4
    tokens: int = 32

    needs: ClassVar[tuple[str, ...]] = ("safe", "steer", "tokenizer")
    when: ClassVar[str] = "repair"

    def __post_init__(self) -> None:
        """Rejects what steers nowhere, and what learns nothing."""
        for name in ("coefficient", "rate"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise bad(f"mitigations.safesteer.{name}", value, "a finite number above 0")
        if self.on not in decode.STEER:
            raise bad("mitigations.safesteer.on", self.on, ", ".join(decode.STEER))
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise bad(f"mitigations.safesteer.{name}", getattr(self, name), "1 or more")
        if not 0 <= self.floor < 1:
            raise bad("mitigations.safesteer.floor", self.floor, "from 0 to less than 1")

    def mitigation(self, means: Means) -> Mitigation:
        """What a step of the repair costs beside one of the task, without its sampling.

        A pass of the teacher on the rollouts, and as many rows as there are rollouts.
        """
        size = self.prompts * self.rollouts / means.rows
        budget = {"safe": len(means.asked), "gradients": size - 1, "forwards": size}
        return Mitigation(budget=budget)

    @property
    def distil(self) -> SafeSteerConfig:
        """Stage D."""
        return SafeSteerConfig(
            prompts_per_step=self.prompts, rollouts=self.rollouts, max_tokens=self.tokens
        )

    def begin(self, ctx: Context, means: Means, optim: OptimConfig) -> None:
        """Finds S; refuses prompts without room, and rollouts that cannot be split.

        Raises:
          UsageError: one of them, or no token that may be in S.
        """
        check_room("safesteer", means, self.tokens)
        check_rows("safesteer", "rollouts", self.prompts * self.rollouts, optim)
        self.subset(ctx, means)

    def subset(self, ctx: Context, means: Means) -> dict[str, Any]:
        """The artifact `token_set.*`: S of the run's base, the same for all with these votes."""
        found, votes = self.teacher(means), self.votes(ctx.model.config.vocab_size)
        told = zlib.crc32(repr((votes, self.coefficient, self.on)).encode())
        make = partial(find_tokens, TokenConfig(votes), ctx, found)
        return ctx.artifact(f"token_set.{told:08x}", make)

    def repair(self, job: Job) -> Stage:
        """The stage.

        Raises:
          UsageError: see `begin`.
        """
        ctx, model, means = job.ctx, job.ctx.model, job.means
        subset = self.subset(ctx, means)
        add = self.coefficient * jnp.asarray(means.steer, jnp.float32)
        cfg = replace(self.distil, steps=job.steps)
        prompts = [encode_prompt(ctx.tokenizer, one.messages[:-1]) for one in means.asked]
        start = finished.pending(job.start)  # of a repair that is finished nothing is read
        return Stage(
            job.name,
            localized_loss(model, cfg, self.on, sharding.rows(ctx.mesh)),
            job.trainable,
            rollout_batches(cfg, replace(ctx, seed=means.seed), prompts=prompts),
            job.steps,
            replace(job.optim, lr=job.optim.lr * self.rate),
            start={
                **start,
                **frozen_teacher(model, start["base"], LayerInputs(add=add), subset["ids"]),
                **({"teacher_adapters": start["adapters"]} if "adapters" in start else {}),
            },
            axes=axes(job),
        )

    def votes(self, vocabulary: int) -> VoteConfig:
        """The vote's settings; no more ids than there are."""
        return VoteConfig(
            size=min(self.size, vocabulary),
            top=min(self.top, vocabulary),
            samples=self.samples,
            horizon=self.horizon,
            floor=self.floor,
        )

    def teacher(self, means: Means) -> dict[str, Any]:
        """The direction as stage A leaves one."""
        steer = trees.host(means.steer)  # [L,D], zeros but for one layer
        layer = int(np.flatnonzero(np.abs(steer).sum(axis=1))[-1])
        found = {"layer": layer, "position": -1, "vector": steer[layer], "steer": self.on}
        return {**found, "coefficient": self.coefficient}


def axes(job: Job) -> Any:
    """Logical axes of what has not the model's structure: the teacher's adapters as the job's."""
    given = dict(job.axes or {})
    if "adapters" in given:
        given["teacher_adapters"] = given["adapters"]
    return given or None

"""Log-probabilities of a stage's rows under the model that it began with, made once.

    reference[b,t] = log pi_0(tokens[b,t] | tokens[b,<t]) where weight[b,t] > 0, else 0

with the base as the stage began and no adapters. They are attached to each batch, as
`TokenBatch.reference`, so a step needs neither a frozen pass nor a copy of the beginning. Each
distinct row is computed once, in the order in which the stage's steps come to it and in groups of
one size, filled up at the end: a resumed run makes the same groups and so the same bits. That takes
a forward pass over the rows before the first step, and as often as the stage is resumed; of it the
host keeps 4 bytes a token.

Only for batches that are a function of the step (`offline`, see `Stage`), and where nothing can
call the loss with other rows than the batch's: this mitigation is the last of its chain with a
`loss` hook, and none has a `grad` hook. Elsewhere nothing is attached.
Letters: B rows of a batch, R rows of a group, T positions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from typing import Any

import jax
import numpy as np

from jaxsafety.core import sharding, trees
from jaxsafety.core.progress import Progress
from jaxsafety.data.schema import TokenBatch
from jaxsafety.losses.logprobs import token_logp
from jaxsafety.mitigations import began
from jaxsafety.mitigations.chain import Through
from jaxsafety.mitigations.drawn import learnt
from jaxsafety.models.api import Model
from jaxsafety.protocols import Context, Mitigation, Pass, Stage, same

PyTree = Any
Table = Mapping[bytes, np.ndarray]  # a row's name -> [T] log-probabilities


@dataclass(frozen=True)
class Referred:
    """The `begin` hook: batches with a reference, and then no copy of the beginning in `extra`.

    Attributes:
      name: of the mitigation, in `extra` and in errors.
      reads: its `loss` hook.
      model: the model.
      shards: devices that share the rows.
    """

    name: str
    reads: Any
    model: Model
    shards: int

    def __call__(self, stage: Stage, start: Mapping[str, Any], ctx: Context) -> Stage:
        """The stage, as it is where the rows are not known before."""
        hooks = stage.mitigation
        if not (getattr(stage.batches, "offline", False) and self.alone(hooks)):
            return stage
        batches = Attached(stage.batches, self.table(stage, start["base"], ctx))
        extra = {name: each for name, each in hooks.extra.items() if name != self.name}
        return stage._replace(batches=batches, mitigation=hooks._replace(extra=extra))

    def alone(self, hooks: Mitigation) -> bool:
        """Whether no other hook gives the loss rows of its own."""
        last = hooks.loss.parts[-1] if isinstance(hooks.loss, Through) else hooks.loss
        return last == self.reads and hooks.grad is same

    def table(self, stage: Stage, base: PyTree, ctx: Context) -> Table:
        """The log-probabilities of every distinct row of the stage's steps."""
        compute, ways = scorer(self.model, self.shards), self.shards
        found: dict[bytes, np.ndarray] = {}
        seen: set[bytes] = set()
        size = 0
        # By width: all rows of a group have one.
        waiting: dict[int, list[tuple[bytes, TokenBatch]]] = defaultdict(list)

        def score(group: list[tuple[bytes, TokenBatch]]) -> None:
            ctx.interrupt.check()
            filled: list[Any] = [group[index % len(group)][1] for index in range(size)]
            rows = jax.tree.map(lambda *x: np.stack(x), *filled)
            told = trees.host(compute(base, sharding.beside(base, rows)))
            found.update((name, row) for (name, _), row in zip(group, told, strict=False))
            group.clear()

        ctx.interrupt.doing = "these log-probabilities, which are made anew"
        what = f"{stage.name}, log-probabilities of the start"
        try:
            with Progress(ctx.log, what, total=stage.steps, unit="steps") as progress:
                for step in range(stage.steps):
                    progress(step)
                    rows = jax.tree.map(trees.host, learnt(stage.batches({}, step), self.name))
                    count, width = rows.tokens.shape
                    # What the devices hold at once anyway, as many rows for each of them.
                    size = size or -(-max(1, count // stage.optim.accum) // ways) * ways
                    for index, name in enumerate(names(rows)):
                        if name in seen:
                            continue
                        seen.add(name)
                        row = jax.tree.map(lambda x, index=index: x[index], rows)
                        waiting[width].append((name, row))
                        if len(waiting[width]) == size:
                            score(waiting[width])
                for group in waiting.values():
                    if group:
                        score(group)
        finally:
            ctx.interrupt.doing = "what it is doing"
        return found


class Attached:
    """A stage's batches with the reference of their rows."""

    offline = True

    def __init__(self, batches: Any, table: Table) -> None:
        """`table` knows the rows of all steps."""
        self.batches, self.table = batches, table

    def __call__(self, variables: Any, step: int) -> TokenBatch:
        """The batch of a step."""
        rows = self.batches(variables, step)
        found: Any = np.stack([self.table[name] for name in names(rows)])
        return replace(rows, reference=found)


def names(rows: TokenBatch) -> list[bytes]:
    """A name of each row [T]: a hash of what its log-probabilities depend on."""
    arrays = (rows.tokens, rows.positions, rows.segments, trees.host(rows.weight) > 0)
    whole = [np.ascontiguousarray(trees.host(x)) for x in arrays]
    count = whole[0].shape[0]
    parts = (b"".join(x[index].tobytes() for x in whole) for index in range(count))
    return [blake2b(part, digest_size=16).digest() for part in parts]


def logp(model: Model, out: Pass, rows: TokenBatch, shards: int = 1) -> jax.Array:
    """[B,T] log-probabilities of the rows' learnt tokens, 0 elsewhere, without gradient."""
    out = jax.lax.stop_gradient(out)
    cap, mask = model.config.logit_cap, rows.weight > 0
    return token_logp(out.hidden, out.head, rows.tokens, mask=mask, shards=shards, cap=cap)


@cache  # compiled once for all stages
def scorer(model: Model, shards: int) -> Any:
    """`(base, rows [R,T]) -> [R,T]`, jitted."""

    def score(base: PyTree, rows: TokenBatch) -> jax.Array:
        return logp(model, began.passed(model, {"base": base}, rows), rows, shards)

    return jax.jit(score)

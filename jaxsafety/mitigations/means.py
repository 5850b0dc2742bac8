"""What mitigations may use beside the task they guard, and several of them made into one.

A mitigation's settings are a frozen dataclass (`registry.MITIGATIONS`). Where it lives on more than
its settings, its class says so by three class variables:

  needs   fields of `Means` that have to be there; then it is `mitigation(means)`, else
          `mitigation()`
  when    "align": it hooks into a stage of its own on safe dialogues, before the task; "train":
          into the task's stage; "repair": a stage of its own after it (`repairs.py`); "after": it
          edits what these left; "serve": it changes what answers
  apart   name of another mitigation -> why the two cannot be chained
  before  names of others that may not stand before it in a chain

What it costs stands in `Mitigation.budget`, by these names: "safe" and "harmful", dialogues that it
reads; "checkpoints" beside the start; "gradients" and "forwards" of a step, in batches of the
task's size, frozen passes being forwards; "copies" of the trained parameters.
Letters: N dialogues, T positions, L layers, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.schema import Example, TokenBatch
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.mitigations.chain import chain
from jaxsafety.models.api import Model
from jaxsafety.protocols import Mitigation

PyTree = Any
WHEN = ("align", "train", "repair", "after", "serve")
# They add what is no sum over a batch's rows: a loss of other rows beside it would add it again.
TERMS = ("anchor", "ewc", "kl", "lisa", "projection")
LACKS = {
    "safe": "dialogues of harmful requests with safe answers",
    "harmful": "dialogues of harmful requests that are carried out",
    "harmless": "dialogues of harmless requests",
    "unaligned": "unaligned base",
    "steer": "refusal direction",
    "tokenizer": "tokenizer",
}


@dataclass(frozen=True, eq=False)
class Means:
    """What is at hand. Compared by identity, as its arrays cannot be.

    Attributes:
      model: the model.
      start: its parameters before the task, "base" of the variables.
      rows: B, rows of the task's batches.
      shards: devices that share them.
      seed: of all draws.
      safe: [N,T] one dialogue a row, the learnt tokens of a row weigh 1 together; None if there are
        none.
      asked: the dialogues of `safe` themselves, for what samples and judges; whole ones alone, so
        they may be fewer.
      harmful: as `safe`; where the organism or the user has them.
      harmless: as `safe`.
      unaligned: parameters of the base before it was aligned, shaped like `start`.
      steer: [L,D] the refusal direction at the layer it was found in, zeros elsewhere, of the
        length that separates harmful from harmless prompts there.
      tokenizer: for templates.
    """

    model: Model
    start: PyTree
    rows: int = 8
    shards: int = 1
    seed: int = 0
    safe: TokenBatch | None = None
    asked: Sequence[Example] = ()
    harmful: TokenBatch | None = None
    harmless: TokenBatch | None = None
    unaligned: PyTree = None
    steer: jax.Array | None = None
    tokenizer: Tokenizer | None = None


def draw(dialogues: TokenBatch, key: jax.Array, count: int) -> TokenBatch:
    """`count` of the dialogues, drawn with replacement; their weights sum to 1 together."""
    index = jax.random.randint(key, (count,), 0, dialogues.tokens.shape[0])
    found = jax.tree.map(lambda x: jnp.take(x, index, axis=0), dialogues)
    return found.replace(weight=found.weight / count)


def missing(settings: Any, means: Means) -> str:
    """Why a mitigation is not applicable; "" where it has what it needs."""
    needs: Sequence[str] = getattr(settings, "needs", ())
    lacks = [LACKS.get(need, need) for need in needs if getattr(means, need) is None]
    return f"no {lacks[0]}" if lacks else ""


def build(named: Mapping[str, Any], means: Means | None = None) -> Mitigation:
    """The mitigations as one, chained in the order given.

    Args:
      named: name in the registry -> settings.
      means: what is at hand; only those without `needs` can do without.

    Raises:
      UsageError: one that lacks what it needs, two that cannot be chained, each with the reason.
    """
    made = []
    check_pairs(named)
    for name, settings in named.items():
        needs: Sequence[str] = getattr(settings, "needs", ())
        if not needs:
            made.append(settings.mitigation())
            continue
        if means is None or missing(settings, means):
            why = missing(settings, means) if means is not None else "nothing at hand"
            allowed = " and ".join(LACKS.get(need, need) for need in needs)
            raise bad(f"mitigations.{name}", why, allowed)
        made.append(settings.mitigation(means))
    try:
        return chain(*made)
    except UsageError as error:
        raise UsageError(f"{error}; chained: {', '.join(named)}") from None


def check_pairs(named: Mapping[str, Any]) -> None:
    """Refuses two mitigations that cannot be chained, or not in this order, as one of them says."""
    names = list(named)
    for place, (name, settings) in enumerate(named.items()):
        late = [one for one in names[:place] if one in getattr(settings, "before", ())]
        if late:
            why = f"{name} computes a second loss, which would have its term again"
            raise bad("mitigations", f"{late[0]} before {name}", f"{name} before {late[0]}: {why}")
        for other, why in getattr(settings, "apart", {}).items():
            if other in named:
                raise bad("mitigations", f"{name} with {other}", f"one of them: {why}")


def factor(budget: Mapping[str, float]) -> float:
    """How much longer a step may take than one of plain SFT: 1 + gradients + forwards / 3.

    A gradient costs a forward pass and, twice as long, a backward one.
    """
    return 1 + budget.get("gradients", 0) + budget.get("forwards", 0) / 3
